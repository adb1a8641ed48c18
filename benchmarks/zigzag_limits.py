"""The highest limit of loop factors at which ZigZag's own search of ResNet-18 ends within an hour.

Searches every distinct layer of one accelerator at a limit, and writes a row for each as soon as it
is there; run again, it goes on after those. What all 21 layers take is the sum over layers, each as
often as the network has it. Then counts the loop orders of this limit and of the next two and
divides them by the rate measured, which says whether those could end. Needs the extra `peers`.

    python benchmarks/zigzag_limits.py --out limits.csv [--accelerator eyeriss_like] [--limit 8]
    python benchmarks/zigzag_limits.py --out limits.csv --show     # only what limits.csv says
"""

import argparse
import csv
from pathlib import Path
from typing import Any

HOUR_S = 3600.0
COLUMNS = (
    "accelerator", "layer", "copies", "limit", "orderings", "evaluations", "cpu_s", "energy_pj"
)  # fmt: skip


def read_rows(out: Path) -> list[dict[str, str]]:
    """What has been measured."""
    if not out.exists():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def measure(out: Path, accelerator: str, limit: int) -> None:
    """Appends a row for each distinct layer not measured yet, until an hour of them is over.

    Layers of few loop orders come first.
    """
    import zigzag_peer

    built, nodes = zigzag_peer.load(accelerator)
    same: dict[str, list[Any]] = {}
    for node in nodes:
        same.setdefault(zigzag_peer.shape_of(node), []).append(node)
    known = {
        row["layer"]: float(row["cpu_s"])
        for row in read_rows(out)
        if (row["accelerator"], int(row["limit"])) == (accelerator, limit)
    }
    left = HOUR_S - sum(known.values())
    orderings = {
        copies[0].name: zigzag_peer.count_orderings(built, copies[0], limit)
        for copies in same.values()
    }
    for copies in sorted(same.values(), key=lambda nodes: orderings[nodes[0].name]):
        node = copies[0]
        if node.name in known:
            continue
        try:
            found = zigzag_peer.search(built, node, limit, left)
        except TimeoutError:
            print(f"{accelerator}: limit {limit} does not end within an hour")
            return
        left -= found.cpu_s
        with out.open("a", newline="") as file:
            rows = csv.DictWriter(file, COLUMNS)
            if file.tell() == 0:
                rows.writeheader()
            rows.writerow(
                {
                    "accelerator": accelerator,
                    "layer": node.name,
                    "copies": len(copies),
                    "limit": limit,
                    "orderings": orderings[node.name],
                    "evaluations": found.evaluations,
                    "cpu_s": round(found.cpu_s, 2),
                    "energy_pj": found.energy_pj,
                }
            )


def show(out: Path) -> None:
    """Time of every limit measured, and a forecast for what was not and for the next two."""
    table = read_rows(out)
    for accelerator in dict.fromkeys(row["accelerator"] for row in table):
        mine = [row for row in table if row["accelerator"] == accelerator]
        limits = sorted({int(row["limit"]) for row in mine})
        rate = 0.0
        for limit in limits:
            rows = [row for row in mine if int(row["limit"]) == limit]
            copies = [int(row["copies"]) for row in rows]
            times = [float(row["cpu_s"]) for row in rows]
            rate = sum(int(row["evaluations"]) for row in rows) / sum(times)
            total = sum(n * s for n, s in zip(copies, times, strict=True))
            print(
                f"{accelerator} limit {limit}: {sum(copies)} layers of {len(rows)} shapes, "
                f"{total / 60:.1f} CPU min, {rate:.0f} evaluations/s"
            )
        _forecast(accelerator, (limits[-1], limits[-1] + 1, limits[-1] + 2), rate)


def _forecast(accelerator: str, limits: tuple[int, ...], rate: float) -> None:
    try:
        import zigzag_peer
    except ModuleNotFoundError:
        return
    built, nodes = zigzag_peer.load(accelerator)
    for limit in limits:
        orderings = sum(zigzag_peer.count_orderings(built, node, limit) for node in nodes)
        print(
            f"{accelerator} limit {limit}: {orderings:,} loop orders of {len(nodes)} layers, "
            f"{orderings / rate / 60:.0f} CPU min at that rate"
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
