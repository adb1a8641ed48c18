"""`dse evaluate`: a design on its chip, a network on a core, or mappings found elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costs.errors import InputError
from dse.breakdown import Breakdown, LayerCost
from dse.console import follow, format_value, print_costs, print_json, print_line, print_table

if TYPE_CHECKING:
    from costs.gpu_waves import Gpu
    from costs.layer_report import LayerRow
    from costs.workload import Workload

_ROW = (
    "layer",
    "macs",
    "energy_pj",
    "cycles",
    "utilization",
    "dram_bytes",
    "distance_to_bound",
    "proof",
    "mapping",
)
_SLOT = ("layer", "kind", "core", "time_s", "energy_pj", "dram_bytes", "weights_resident")
_LARGEST = 65536  # pixels or channels of an input
_PUBLISHED_BATCH = 3  # of the table of Chen et al. (HPCA 2020)
_MEGABYTE = 1e6  # as the table of Chen et al. (HPCA 2020) counts


def evaluate_design_command(file: Path, *, inputs: int, figure: Path | None, as_json: bool) -> None:
    """The cost of the design in a file, from that file alone."""
    from dse.design import evaluate_design

    if figure is not None:
        _check_figure(figure)
    found = evaluate_design(file, inputs)
    if figure is not None:
        from dse.breakdown import break_down

        _draw(break_down(file), figure)
    if as_json:
        print_json(found)
        return
    slots = [[slot[name] for name in _SLOT] for slot in found["slots"]]
    print_table(_SLOT, slots, title=f"design {found['id']}, per inference")
    for what, rows in (("core", found["per_core"]), ("link", found["per_link"])):
        names = [row["name"] for row in rows]
        figures = [
            [key, *(format_value(key, row[key]) for row in rows)]
            for key in rows[0]
            if key != "name"
        ]
        print_table((what, *names), figures, title=f"every {what}, per inference in steady state")
    several = found["inputs"]
    print_table(list(several), [list(several.values())], title="several inputs at once")
    print_costs(found["costs"])


def evaluate_cases_command(file: Path, *, as_json: bool) -> None:
    """The cost of every (layer, core, mapping) of a file of JSON lines."""
    from costs.cases import evaluate_cases, read_cases

    cases = list(read_cases(file))
    costs = evaluate_cases(cases)
    if as_json:
        print_json(
            [
                {"line": case.line, "layer": case.layer.name, "core": case.core.name}
                | cost.to_dict()
                for case, cost in zip(cases, costs, strict=True)
            ]
        )
        return
    rows = [
        {
            "line": case.line,
            "layer": case.layer.name,
            "core": case.core.name,
            "energy_pj": cost.energy_pj,
            "cycles": cost.cycles,
            "latency_s": cost.latency_s,
            "utilization": cost.utilization,
            "io_bytes": sum(cost.io_bytes.values()),
            "overfull": ", ".join(cost.overfull) or "-",
        }
        for case, cost in zip(cases, costs, strict=True)
    ]
    if rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    if len(cases) == 1:
        _print_counts(costs[0])


def evaluate_network_command(
    network: str,
    hardware: str,
    *,
    objective: str,
    batch: int | None,
    figure: Path | None,
    as_json: bool,
    input_size: str | None = None,
    proof_s: float = math.inf,
    conventions: str = "timeloop",
) -> None:
    """Every layer of a network by its best mapping on one core."""
    from costs.cases import CONVENTIONS
    from costs.layer_report import evaluate_network, sum_rows
    from costs.library import load_core

    if objective not in ("energy", "latency", "edp"):
        raise InputError(key="--objective", value=objective, allowed="energy, latency, edp")
    if conventions not in CONVENTIONS:
        raise InputError(key="--conventions", value=conventions, allowed=CONVENTIONS)
    if figure is not None:
        _check_figure(figure)
    core = load_core(hardware)
    workload = read_workload(network, batch, input_size)
    rows = evaluate_network(
        follow(workload.layers, "searching mappings"),
        core,
        objective,  # pyright: ignore[reportArgumentType]
        CONVENTIONS[conventions],
        limit_s=proof_s,
    )
    total = sum_rows(rows)
    if figure is not None:
        _draw(_as_breakdown(network, core.name, rows), figure, f"{network} on {core.name}")
    if as_json:
        layers = [row.to_dict() for row in rows]
        print_json({"network": network, "core": core.name, "layers": layers, "total": total})
        return
    table = [
        {**row.to_dict(), "proof": _proof_text(row), "mapping": _mapping_text(row)} for row in rows
    ]
    cells = [[row.get(name, "") for name in _ROW] for row in (*table, total)]
    print_table(_ROW, cells, title=f"{network} on {core.name}, best mapping in {objective}")
    levels = total["energy_by_level_pj"].items()
    print_table(("part", "energy_pj"), list(levels), title="energy by part")
    open_ = [row.best for row in rows if not row.best.proved]
    if open_:
        given = "effort" if math.isinf(proof_s) else f"{proof_s:g} s"
        print_line(
            f"{len(open_)} of {len(rows)} layers: the best mapping found, not proved to be the "
            f"best with the {given} that each is given; at most so much above the optimum as the "
            f"column proof says"
        )


def evaluate_gpu_command(
    network: str, gpu: Gpu, *, batch: int | None, as_json: bool, input_size: str | None = None
) -> None:
    """Every layer's waves of thread blocks; latency alone, since energy has no source."""
    from costs.gpu_waves import ENERGY_NOTE, evaluate_waves

    workload = read_workload(network, batch, input_size)
    rows = evaluate_waves(workload.layers, gpu)
    latency_s = math.fsum(row.latency_s for row in rows)
    names = ("macs", "blocks", "waves", "tail_utilization", "latency_s")
    layers = [
        {"layer": row.layer.name, "macs": row.layer.macs}
        | {name: getattr(row, name) for name in names[1:]}
        for row in rows
    ]
    total = {
        "layer": "total",
        **{name: sum(layer[name] for layer in layers) for name in names[:3]},
        "tail_utilization": "",
        "latency_s": latency_s,
    }
    if as_json:
        total |= {"tail_utilization": None, "energy_pj": None}
        print_json({"network": network, "gpu": gpu.name, "layers": layers, "total": total})
        return
    header = ("layer", *names)
    cells = [[row[name] for name in header] for row in (*layers, total)]
    print_table(header, cells, title=f"{network} on {gpu.name}, batch {workload.batch}")
    print_line(ENERGY_NOTE)


def evaluate_bounds_command(
    network: str,
    hardware: str,
    *,
    batch: int | None,
    onchip_kib: Sequence[float],
    word_bits: int,
    as_json: bool,
    input_size: str | None = None,
) -> None:
    """Traffic that no schedule can avoid, the formula, and the dataflow that reaches it."""
    from costs.bounds import calc_bounds_table
    from costs.library import load_core

    core = load_core(hardware)
    own_bytes = sum(
        level.total_capacity_bytes * core.instances(level.name) for level in core.levels[1:]
    )
    for kib in onchip_kib:
        if not 0 < kib < math.inf:
            raise InputError(key="--onchip-kib", value=kib, allowed="a finite number above 0")
    capacities = [1024.0 * kib for kib in onchip_kib] or [own_bytes]
    if batch is None and not network.endswith(".onnx"):
        batch = _PUBLISHED_BATCH
    workload = read_workload(network, batch, input_size)
    layers = [
        layer
        for layer in workload.layers
        if layer.P * layer.Q * layer.R * layer.S > 1  # fully connected layers are another question
    ]
    rows = calc_bounds_table(layers, capacities, word_bits=word_bits)
    if as_json:
        table = [
            {
                "layer": row.name,
                "macs": row.macs,
                "compulsory_bytes": row.compulsory_bytes,
                "formula_bytes": list(row.formula_bytes),
                "tiled_bytes": list(row.tiled_bytes),
            }
            for row in rows
        ]
        print_json({"onchip_bytes": capacities, "word_bits": word_bits, "layers": table})
        return
    pairs = [f"{kind} {size / 1024:g} KiB" for size in capacities for kind in ("formula", "tiled")]
    cells = [
        [row.name]
        + [
            f"{traffic / _MEGABYTE:.2f}"
            for pair in zip(row.formula_bytes, row.tiled_bytes, strict=True)
            for traffic in pair
        ]
        + [f"{row.compulsory_bytes / _MEGABYTE:.2f}"]
        for row in rows
    ]
    title = (
        f"convolutions of {network}, batch {workload.batch}, {word_bits}-bit words: traffic [MB]"
    )
    print_table(("layer", *pairs, "compulsory"), cells, title=title)


def read_workload(
    network: str, batch: int | None = None, input_size: str | None = None
) -> Workload:
    """The layers of a shipped network, of a user's own (`file.py:Net`), or of an ONNX file.

    Args:
        network: its name or file.
        batch: inputs per execution; None for 1, or for what an ONNX file fixes.
        input_size: height, width and channels as `HxWxC`; what an ONNX file has of its own.

    Raises:
        InputError: there is no such network, its input size is missing or not one, or an ONNX
            file leaves the batch open.
    """
    if network.endswith(".onnx"):
        from models.onnx_workload import workload_of_onnx

        if input_size is not None:
            raise InputError("an ONNX file has its own", key="--input", value=input_size)
        return workload_of_onnx(network, batch=batch)
    from models.registry import abstract_network, network_entry
    from models.trace import workload_of

    shape = network_entry(network).input_shape
    options = {}
    if input_size is not None:
        shape = options["input_shape"] = _parse_size(input_size)
    if shape is None:
        raise InputError(
            "the size of its input is not known", key="--input", value=None, allowed="HxWxC"
        )
    net = abstract_network(network, **options)
    return workload_of(net, shape, batch=batch or 1, name=network)


def _parse_size(text: str) -> tuple[int, int, int]:
    """Height, width and channels of `HxWxC`."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.isdecimal() and 1 <= int(p) <= _LARGEST for p in parts):
        raise InputError(
            key="--input", value=text, allowed=f"HxWxC, each from 1 to {_LARGEST}, as 32x32x3"
        )
    height, width, channels = map(int, parts)
    return height, width, channels


def _check_figure(file: Path) -> None:
    """Refuses a picture that could not be written, before any work is done."""
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(
            key="--figure", value=str(file), allowed="a file in a directory that exists"
        )


def _as_breakdown(network: str, core: str, rows: Sequence[LayerRow]) -> Breakdown:
    """The layers one after the other on the one core, in the shape that figures read."""
    layers = [
        LayerCost(row.layer.name, core, row.energy_by_level_pj, row.best.cost.latency_s)
        for row in rows
    ]
    moved = sum(row.outer_bytes for row in rows)
    return Breakdown(network, (core,), tuple(layers), (), {}, {core: moved})


def _draw(breakdown: Breakdown, file: Path, name: str | None = None) -> None:
    from dse.figures.design import draw_layers
    from dse.figures.style import save

    save(draw_layers(breakdown, name), file)


def _proof_text(row: LayerRow) -> str:
    """Whether the mapping is proved to be the best, or how far above the optimum at most."""
    return "proved" if row.best.proved else f"within {row.best.gap:.2%}"


def _mapping_text(row: LayerRow) -> str:
    """A mapping as one word: temporal loops outermost first, then the unrolled ones by axis."""
    mapping = row.best.mapping
    temporal = " ".join(f"{dim}{factor}" for dim, factor in mapping.loops)
    spatial = "; ".join(
        f"{axis}: " + " ".join(f"{dim}{factor}" for dim, factor in factors)
        for axis, factors in mapping.spatial.items()
        if factors
    )
    return f"{temporal} | {spatial}"


def _print_counts(cost: Any) -> None:
    """Words and energy of one case by level, operand and direction."""
    rows = [
        (level, operand, counts["read"], counts["write"], cost.energy_by_level_pj[level][operand])
        for level, operands in cost.counts.items()
        for operand, counts in operands.items()
    ]
    print_table(("level", "operand", "words read", "words written", "energy_pj"), rows)
    print_line(", ".join(f"{cause} {n:,.0f} cycles" for cause, n in cost.cycles_by_cause.items()))
