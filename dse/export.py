"""Hand one design to somebody else: a folder that needs neither the run nor its chip file.

    design.yaml          what was chosen
    chip.yaml            the chip with its sizes fixed, cores written out
    zigzag/<type>.yaml   each core type as a ZigZag accelerator, where ZigZag can say it
    network.json         the slim network, operation by operation (boundaries, widths and crossing
                         readers for networks that are no list of operations, which have no ONNX)
    network.py           the file of a user's own network
    weights.safetensors  its weights (`params/...`) and statistics (`stats/...`)
    model.onnx           the network with quantised crossings, batch open
    model_float.onnx     the same without quantisers
    workload.onnx        model_float.onnx with a batch of one, for tools that map workloads
    model.stablehlo      StableHLO of the network with quantised crossings, batch of one, as text
    model.jax_export     the same with the batch open, for jax.export.deserialize
    summary.json         predicted figures, correct predictions, comparisons, digests of all files

All of it is deterministic: exporting a design again on the same machine type gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from safetensors.numpy import load_file
from safetensors.numpy import save as save_tensors

from costs import strict_yaml
from costs.core import Core
from costs.errors import InputError
from costs.library import read_chip
from costs.zigzag import to_zigzag
from dse.data import DataSet
from dse.design import PlacedDesign, cost_columns, load_design, place
from dse.export_folder import publish, require_ours
from dse.exported import (
    NETWORK_FILE,
    NETWORK_SCHEMA,
    SUMMARY_FILE,
    count_correct,
    onnx_logits,
    predict_logits,
)
from dse.front_table import Row, number, read_front
from dse.onnx_writer import to_bytes, to_onnx, without_quantisers
from dse.outcomes import RunError
from dse.pick import pick
from dse.rundir import FRONT_FILE, RunDir
from models.architecture import Architecture
from models.functional import Flat, Functional, count_parameters
from models.registry import is_user_network
from models.slim import fold_norms, slim

LOGIT_TOLERANCE = 1e-5  # times the larger of 1 and the largest logit, quantisers off
EQUAL_PREDICTIONS = 0.999  # quantisers on: a change of 1e-6 may flip one level of a crossing

COMPARED_PICTURES = 10_000
NO_ONNX = (
    "ONNX: written for networks that ship as lists of operations (the residual ones); this one is "
    "an arbitrary computation: use model.stablehlo or model.jax_export"
)
_FRAMES = "jax_traceback_in_locations_limit"


def export_design(run_dir: str | Path, rule: str, out: str | Path) -> list[Path]:
    """Write the export of one design of a run.

    Args:
        run_dir: A finished run.
        rule: Which design, see ``dse.pick.pick``.
        out: The folder to make; an earlier export is replaced, any other full folder refused.

    Returns:
        The files written, ``summary.json`` first.

    Raises:
        InputError: The rule or the folder is not acceptable, or the run has no such design.
        RunError: The written ONNX does not compute what the network computes, or the design costs
            something else than when the run evaluated it.
    """
    run, target = RunDir(Path(run_dir)), Path(out)
    run.require_run()
    require_ours(target)
    row = pick(read_front(run.path / FRONT_FILE).rows, rule)
    design_file = run.designs / f"{row['id']}.yaml"
    placed = place(load_design(design_file), file=design_file)
    files = _contents(placed, *_load_weights(run.designs / f"{row['id']}.safetensors"))
    files["design.yaml"] = design_file.read_bytes()
    summary = json.loads(files.pop(SUMMARY_FILE))
    _require_same_costs(row, summary["predicted"], design_file)
    found = {key: row[key] for key in ("validation_correct", "test_correct") if key in row}
    return publish(files, {"id": row["id"], "rule": rule, **summary, "front": found}, target)


def _require_same_costs(row: Row, predicted: Mapping[str, float], design_file: Path) -> None:
    """Refuse to hand on other costs than the run's front has.

    Raises:
        RunError: Naming the first cost that is not the same.
    """
    for name, value in predicted.items():
        if name in row and number(row, name) != value:
            raise RunError(
                f"{design_file}: {name} is {value!r} now and {row[name]!r} in {FRONT_FILE}: the "
                "chip's description or the cost model changed since the run; nothing was exported"
            )


def _contents(placed: PlacedDesign, params: Flat, stats: Flat) -> dict[str, bytes]:
    """Every file but design.yaml, by name; the summary as far as it follows from these."""
    context, costs = placed.context, placed.costs()
    widths = placed.widths
    crossing = context.crossing(costs["crossing"])[:, 0]
    net, params, stats = slim(
        context.net, params, stats, [int(w) for w in widths], [bool(c) for c in crossing]
    )
    name = placed.context.config.network.name
    files = {
        "chip.yaml": strict_yaml.dumps(_fixed_chip(placed)).encode(),
        "network.json": _network_json(net),
        "weights.safetensors": save_tensors(flatten(params, stats)),
        **_zigzag_files(placed),
        **stable_hlo(lambda x: net.apply(params, stats, x)[0], net.architecture.input_shape),
    }
    predict = predict_logits(net, params, stats)
    if isinstance(net.architecture, Architecture):
        written, predict_float = onnx_files(net, params, stats, name)
        files |= written
        comparison = compare_onnx(context.data, files, predict, predict_float)
    else:
        files |= user_file(name)
        comparison = _compare_stable_hlo(context.data, files, predict)
    summary = {
        "network": name,
        "data": context.data.name,
        "input": {"layout": "NHWC in jax, NCHW in ONNX", "shape": net.architecture.input_shape},
        "not_written": [] if "model.onnx" in files else [NO_ONNX],
        "parameters": count_parameters(params),
        "predicted": cost_columns(costs, 0),
        "correct": {
            name: {"correct": count_correct(net, params, stats, split), "pictures": len(split)}
            for name, split in (
                ("validation", context.data.validation),
                ("test", context.data.test),
            )
        },
        "comparison": comparison,
    }
    files[SUMMARY_FILE] = json.dumps(summary, allow_nan=False).encode()
    return files


def onnx_files(
    net: Functional, params: Flat, stats: Flat, name: str
) -> tuple[dict[str, bytes], Callable[[np.ndarray], np.ndarray]]:
    """The three ONNX files, and the predictions of the network without quantisers."""
    folded = fold_norms(net, params, stats)
    float_net = Functional.from_architecture(without_quantisers(net.operations))
    float_stats = {k: v for k, v in stats.items() if not k.endswith(".range")}
    float_folded = fold_norms(float_net, params, float_stats)
    files = {}
    for file, (model, weights, measured), batch in (
        ("model.onnx", folded, None),
        ("model_float.onnx", float_folded, None),
        ("workload.onnx", float_folded, 1),
    ):
        written = to_onnx(model.operations, weights, measured, name=name, batch=batch)
        files[file] = to_bytes(written)
    return files, predict_logits(float_net, params, float_stats)


def user_file(name: str) -> dict[str, bytes]:
    """The file that holds a user's own network, so that the export can be evaluated elsewhere."""
    if not is_user_network(name):
        return {}
    return {NETWORK_FILE: Path(name.rpartition(":")[0]).read_bytes()}


def _compare_stable_hlo(data: DataSet, files: Mapping[str, bytes], predict: Any) -> dict:
    """StableHLO against the Flax network, on validation and test pictures.

    Raises:
        RunError: Their predictions differ more often than an export's may.
    """
    pictures = np.concatenate([data.validation.pictures, data.test.pictures])[:COMPARED_PICTURES]
    written = jax_export.deserialize(bytearray(files["model.jax_export"]))
    theirs = np.asarray(written.call(pictures)).argmax(1)
    equal = float(np.mean(predict(pictures).argmax(1) == theirs))
    if equal < EQUAL_PREDICTIONS:
        raise RunError(
            f"model.jax_export predicts as the network does for only {100 * equal:.2f} % of the "
            "pictures; nothing was exported"
        )
    return {"pictures": len(pictures), "equal_predictions_of_stablehlo": equal}


def compare_onnx(
    data: DataSet, files: Mapping[str, bytes], predict: Any, predict_float: Any
) -> dict:
    """ONNX in onnxruntime against the Flax network, on validation, test and training pictures.

    Raises:
        RunError: The two differ by more than an export may.
    """
    splits = (data.validation, data.test, data.train)
    pictures = np.concatenate([part.inputs(stop=COMPARED_PICTURES) for part in splits])
    pictures = pictures[:COMPARED_PICTURES]
    ours, theirs = predict_float(pictures), onnx_logits(files["model_float.onnx"], pictures)
    difference, largest = float(np.abs(ours - theirs).max()), float(np.abs(ours).max())
    if not difference <= LOGIT_TOLERANCE * max(1.0, largest):
        raise RunError(
            f"model_float.onnx differs from the network by {difference:.3g} in a logit "
            f"(largest {largest:.3g}); nothing was exported"
        )
    same = predict(pictures).argmax(1) == onnx_logits(files["model.onnx"], pictures).argmax(1)
    equal = float(np.mean(same))
    if equal < EQUAL_PREDICTIONS:
        raise RunError(
            f"model.onnx predicts as the network does for only {100 * equal:.2f} % of the "
            "pictures; nothing was exported"
        )
    return {
        "pictures": len(pictures),
        "largest_logit": largest,
        "largest_difference_without_quantisers": difference,
        "equal_predictions_with_quantisers": equal,
    }


def flatten(params: Flat, stats: Flat) -> dict[str, np.ndarray]:
    """One flat dictionary of both, as it stands in a safetensors file."""
    both = {f"params/{name}": value for name, value in params.items()}
    both |= {f"stats/{name}": value for name, value in stats.items()}
    # ascontiguousarray would give scalars an axis
    return {name: np.array(value, order="C") for name, value in both.items()}


def _load_weights(path: Path) -> tuple[Flat, Flat]:
    if not path.is_file():
        raise InputError("the weights of this design are missing", file=path)
    arrays = load_file(path)

    def part(prefix: str) -> Flat:
        found = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        return {name: jax.numpy.asarray(value) for name, value in found.items()}

    return part("params/"), part("stats/")


def _network_json(net: Functional) -> bytes:
    architecture = net.architecture
    if not isinstance(architecture, Architecture):
        assert architecture.design is not None
        widths, crossing = architecture.design
        traced = {
            "boundaries": [asdict(boundary) for boundary in architecture.boundaries],
            "edges": [asdict(edge) for edge in architecture.edges],
            "widths": widths,
            "crossing": crossing,
        }
        return json.dumps({"schema": NETWORK_SCHEMA, "traced": traced}, indent=1).encode()
    nodes = [asdict(replace(node, index=0)) for node in architecture.nodes]
    return json.dumps({"schema": NETWORK_SCHEMA, "nodes": nodes}, indent=1).encode()


def stable_hlo(network: Callable[[jax.Array], jax.Array], shape: Sequence[int]) -> dict[str, bytes]:
    """A network with its weights inside, without the places in source files it came from."""
    (batch,) = jax_export.symbolic_shape("batch")
    single = jax.ShapeDtypeStruct((1, *shape), np.float32)
    many = jax.ShapeDtypeStruct((batch, *shape), np.float32)
    before = getattr(jax.config, _FRAMES)
    jax.config.update(_FRAMES, 0)
    try:
        text = jax.jit(network).lower(single).as_text(dialect="stablehlo")
        platforms = ("cpu", "cuda", "tpu")
        serialized = jax_export.export(jax.jit(network), platforms=platforms)(many).serialize()
    finally:
        jax.config.update(_FRAMES, before)
    return {"model.stablehlo": text.encode(), "model.jax_export": bytes(serialized)}


def _fixed_chip(placed: PlacedDesign) -> dict[str, Any]:
    """The chip's description with every knob at the size the design chose."""
    chip = read_chip(str(placed.context.config.chip))
    for kind, part in chip["core_types"].items():
        sizes = placed.design.hardware[kind]
        part["knobs"] = {knob: {"values": [size], "default": size} for knob, size in sizes.items()}
    return chip


def _cores(placed: PlacedDesign) -> dict[str, Core]:
    """Core types at the sizes the design chose."""
    found = {}
    for kind in placed.context.chip.types:
        sizes = placed.design.hardware[kind.name]
        found[kind.name] = kind.at(
            tuple(values.index(sizes[knob]) for knob, values, _ in kind.knobs)
        )
    return found


def _zigzag_files(placed: PlacedDesign) -> dict[str, bytes]:
    return {
        f"zigzag/{kind}.yaml": strict_yaml.dumps(to_zigzag(core)).encode()
        for kind, core in _cores(placed).items()
        if all(isinstance(level.capacity_bytes, int | float) for level in core.levels)
    }
