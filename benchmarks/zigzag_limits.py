"""The highest limit of loop factors at which ZigZag's own search of ResNet-18 ends within an hour.

Searches every distinct layer of one accelerator at a limit, and writes a row for each as soon as it
is there. What all 21 layers take is the sum over layers, each as often as the network has it. Then
counts the loop orders of the next limits and divides them by the rate measured, which says whether
those could end too. Needs the extra `peers`.

    python benchmarks/zigzag_limits.py --out limits.csv [--accelerator eyeriss_like] [--limit 8]
    python benchmarks/zigzag_limits.py --out limits.csv --show     # only what limits.csv says
"""

import argparse
import csv
from pathlib import Path

HOUR_S = 3600.0
COLUMNS = (
    "accelerator", "layer", "copies", "limit", "orderings", "evaluations", "cpu_s", "energy_pj"
)  # fmt: skip


def measure(out: Path, accelerator: str, limit: int) -> None:
    """Appends a row for each distinct layer, until an hour is over."""
    import zigzag_peer

    built, nodes = zigzag_peer.load(accelerator)
    names: dict[str, list[str]] = {}
    for node in nodes:
        names.setdefault(zigzag_peer.shape_of(node), []).append(node.name)
    first = {node.name: node for node in nodes}
    with out.open("a", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            rows.writeheader()
        left = HOUR_S
        for same in names.values():
            node = first[same[0]]
            orderings = zigzag_peer.count_orderings(built, node, limit)
            try:
                found = zigzag_peer.search(built, node, limit, left)
            except TimeoutError:
                print(f"{accelerator}: limit {limit} does not end within an hour")
                return
            left -= found.cpu_s
            rows.writerow(
                {
                    "accelerator": accelerator,
                    "layer": same[0],
                    "copies": len(same),
                    "limit": limit,
                    "orderings": orderings,
                    "evaluations": found.evaluations,
                    "cpu_s": round(found.cpu_s, 2),
                    "energy_pj": found.energy_pj,
                }
            )
            file.flush()


def show(out: Path) -> None:
    """Time of all layers at every limit measured, and a forecast for the next two."""
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    for accelerator in dict.fromkeys(row["accelerator"] for row in table):
        mine = [row for row in table if row["accelerator"] == accelerator]
        limit, rate = 0, 0.0
        for limit in sorted({int(row["limit"]) for row in mine}):
            rows = [row for row in mine if int(row["limit"]) == limit]
            total, energy, evaluations, seconds = 0.0, 0.0, 0, 0.0
            for row in rows:
                copies = int(row["copies"])
                total += copies * float(row["cpu_s"])
                energy += copies * float(row["energy_pj"])
                evaluations += int(row["evaluations"])
                seconds += float(row["cpu_s"])
            rate = evaluations / seconds
            layers = sum(int(row["copies"]) for row in rows)
            print(
                f"{accelerator} limit {limit}: {layers} layers of {len(rows)} shapes, "
                f"{total / 60:.1f} CPU min ({seconds / 60:.1f} for the shapes), "
                f"{rate:.0f} evaluations/s, {energy / 1e6:.6f} uJ"
            )
        _forecast(accelerator, limit, rate)


def _forecast(accelerator: str, limit: int, rate: float) -> None:
    try:
        import zigzag_peer
    except ModuleNotFoundError:
        return
    built, nodes = zigzag_peer.load(accelerator)
    for above in (limit + 1, limit + 2):
        orderings = sum(zigzag_peer.count_orderings(built, node, above) for node in nodes)
        print(
            f"{accelerator} limit {above}: {orderings:,} loop orders, "
            f"{orderings / rate / HOUR_S:.1f} CPU hours at that rate"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="ZigZag's search at growing limits.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--accelerator", default="eyeriss_like")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    if not options.show:
        measure(options.out, options.accelerator, options.limit)
    show(options.out)


if __name__ == "__main__":
    main()
