"""`dse evaluate NETWORK CORE --insitu BASES` and `dse list insitu`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from costs.errors import InputError
from dse.console import print_json, print_line, print_table

if TYPE_CHECKING:
    from costs.layer_report import LayerRow

_ROW = (
    "layer",
    "weight_bytes",
    "stored_bytes",
    "generation_macs",
    "dense_dram_bytes",
    "dram_bytes",
    "dense_energy_pj",
    "energy_pj",
    "dense_cycles",
    "cycles",
)
_TOTAL = (
    "network",
    "weight_dram_bytes",
    "dram_bytes",
    "macs",
    "generation_macs",
    "energy_pj",
    "latency_s",
)


def evaluate_insitu_command(
    network: str, hardware: str, text: str, *, objective: str, batch: int | None, as_json: bool
) -> None:
    """Every layer of a network on one core, its weights dense and generated."""
    from costs.insitu import Bases
    from costs.layer_report import evaluate_network
    from costs.library import load_core
    from dse.commands.evaluate import read_workload
    from models.insitu import list_in_situ
    from models.insitu_published import abstract_in_situ, calc_storage

    bases = Bases.parse(text)
    if network.endswith(".onnx"):
        raise InputError("an ONNX file is not trained here", key="--insitu", value=network)
    if objective not in ("energy", "latency", "edp"):
        raise InputError(key="--objective", value=objective, allowed="energy, latency, edp")
    core = load_core(hardware)
    workload = read_workload(network, batch)
    convs = list_in_situ(abstract_in_situ(network, bases))
    factors = {path: conv.factors for path, conv in convs}
    if not factors:
        raise InputError(
            "no kernel of the network has more rows than so many bases",
            key="--insitu",
            value=text,
            allowed="fewer bases: Bi < min(Ci, k^2) or Bc < min(Co, Ci k^2)",
        )
    dense, generated = (
        evaluate_network(workload.layers, core, objective, generated=part)  # pyright: ignore[reportArgumentType]
        for part in (None, factors)
    )
    layers = [
        _compare(one, two, factors.get(one.layer.name))
        for one, two in zip(dense, generated, strict=True)
    ]
    totals = [_total("dense", dense, 0), _total(text, generated, _sum(layers, "generation_macs"))]
    storage = calc_storage(network, bases)
    ratios = {"parameter_ratio": storage.parameter_ratio, "memory_ratio": storage.memory_ratio}
    if as_json:
        print_json({"network": network, "core": core.name, "layers": layers, "totals": totals})
        return
    cells = [[layer[name] for name in _ROW] for layer in layers]
    print_table(_ROW, cells, title=f"{network} on {core.name}, weights generated from {text}")
    print_table(_TOTAL, [[total[name] for name in _TOTAL] for total in totals])
    parts = list(dict.fromkeys(part for total in totals for part in total["energy_by_part_pj"]))
    rows = [[part, *(t["energy_by_part_pj"].get(part, 0.0) for t in totals)] for part in parts]
    print_table(("part", "dense_energy_pj", "energy_pj"), rows, title="energy by part")
    widest = max(factors.values(), key=lambda f: f.generated_bits[1])
    inside, whole = widest.generated_bits
    print_line(
        f"stored: {ratios['parameter_ratio']:.4f} of the words, {ratios['memory_ratio']:.4f} of"
        f" the bits at 32; generated weights have at most {inside:.2f} bits inside kernels and"
        f" {whole:.2f} after mixing"
    )


def list_insitu() -> list[dict[str, Any]]:
    """Storage of the networks of the paper, counted and as published."""
    from costs.insitu import Bases
    from models.insitu_published import PUBLISHED, calc_storage

    rows = []
    for cell in PUBLISHED:
        storage = calc_storage(cell.network, Bases.parse(cell.bases), classes=cell.classes)
        rows.append(
            {
                "name": cell.bases,
                "network": cell.network,
                "classes": cell.classes,
                "parameter_ratio": round(storage.parameter_ratio, 6),
                "published_parameter_ratio": cell.parameter_ratio or "",
                "memory_ratio": round(storage.memory_ratio, 6),
                "published_memory_ratio": cell.memory_ratio,
            }
        )
    return rows


def _compare(dense: LayerRow, generated: LayerRow, factors: Any) -> dict[str, Any]:
    layer = dense.layer
    stored = layer.bytes("W") if factors is None else factors.stored_bits / 8
    return {
        "layer": layer.name,
        "weight_bytes": layer.bytes("W"),
        "stored_bytes": stored,
        "generation_macs": generated_macs(generated, factors),
        "dense_dram_bytes": dense.outer_bytes,
        "dram_bytes": generated.outer_bytes,
        "dense_energy_pj": dense.best.cost.energy_pj,
        "energy_pj": generated.best.cost.energy_pj,
        "dense_cycles": dense.best.cost.cycles,
        "cycles": generated.best.cost.cycles,
    }


def generated_macs(row: LayerRow, factors: Any) -> float:
    """MACs that generate the weights of one execution, again for every time they are fetched."""
    if factors is None:
        return 0.0
    return factors.macs * row.best.cost.io_bytes["W"] / (factors.stored_bits / 8)


def _total(name: str, rows: list[LayerRow], generation_macs: float) -> dict[str, Any]:
    from costs.layer_report import sum_rows

    total = sum_rows(rows)
    return {
        "network": name,
        "weight_dram_bytes": sum(row.best.cost.io_bytes["W"] for row in rows),
        "dram_bytes": total["dram_bytes"],
        "macs": total["macs"],
        "generation_macs": generation_macs,
        "energy_pj": total["energy_pj"],
        "latency_s": total["latency_s"],
        "energy_by_part_pj": total["energy_by_level_pj"],
    }


def _sum(rows: list[dict[str, Any]], name: str) -> float:
    return sum(row[name] for row in rows)
