"""An export read back and checked, without the run it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime
from jax import export as jax_export
from safetensors.numpy import load as load_tensors

from costs.errors import InputError
from dse.config import parse_config
from dse.context import make_context
from dse.data import DataSet, Split, load_data
from dse.design import Design, cost_columns, load_design, place
from models.architecture import Architecture, Node
from models.functional import Flat, Functional
from models.traced_network import TracedArchitecture

SUMMARY_FILE = "summary.json"
SUMMARY_SCHEMA = "narrows-export-1"
NETWORK_SCHEMA = "narrows-network-1"
NETWORK_FILE = "network.py"  # a user's own
CHUNK = 250  # pictures predicted at a time, the same in every process so that every bit is


@dataclass(frozen=True)
class Export:
    """An export whose files are those that were written.

    Attributes:
        folder: Where it stands.
        summary: Its ``summary.json``.
        design: The design; its chip is the exported ``chip.yaml``.
        net: The slim network.
        params: Its weights.
        stats: Its statistics.
    """

    folder: Path
    summary: dict[str, Any]
    design: Design
    net: Functional
    params: Flat
    stats: Flat


def load_export(folder: str | Path) -> Export:
    """Read an export after comparing the digest of every file.

    Raises:
        InputError: It is not an export, or a file is missing or not the one that was written.
    """
    folder = Path(folder)
    summary = _read_json(folder / SUMMARY_FILE, SUMMARY_SCHEMA)
    contents = {name: _verified(folder, name, digest) for name, digest in summary["files"].items()}
    needed = ("design.yaml", "chip.yaml", "network.json", "weights.safetensors", "model.jax_export")
    for name in needed:
        if name not in contents:
            raise InputError("is not listed in the summary", file=folder / name)
    design = load_design(folder / "design.yaml")
    experiment = {**design.experiment, "chip": str(folder / "chip.yaml")}
    if NETWORK_FILE in contents:
        attribute = experiment["network"]["name"].rpartition(":")[2]
        own = {**experiment["network"], "name": f"{folder / NETWORK_FILE}:{attribute}"}
        experiment["network"] = own
    design = replace(design, experiment=experiment)
    described = _read_json(folder / "network.json", NETWORK_SCHEMA)
    if "traced" in described:
        net = _traced_net(design, described["traced"], folder)
    else:
        nodes = tuple(_node(node) for node in described["nodes"])
        net = Functional.from_architecture(Architecture(nodes, modulate=False))
    arrays = load_tensors(contents["weights.safetensors"])
    params, stats = (
        {
            k.removeprefix(part): jax.numpy.asarray(v)
            for k, v in arrays.items()
            if k.startswith(part)
        }
        for part in ("params/", "stats/")
    )
    return Export(folder, summary, design, net, params, stats)


def _traced_net(design: Design, traced: dict[str, Any], folder: Path) -> Functional:
    """The slim network of a design, made from the class that the experiment names."""
    context = make_context(parse_config(design.experiment, file=folder / "design.yaml"))
    architecture = context.net.architecture
    assert isinstance(architecture, TracedArchitecture)
    chosen = tuple(traced["widths"]), tuple(traced["crossing"])
    return Functional.from_architecture(replace(architecture, design=chosen, modulate=False))


def check_export(folder: str | Path) -> dict[str, Any]:
    """Compute anew all that the summary of an export claims.

    Returns:
        ``id``; ``correct`` by split and by how it was computed (``recorded``, ``flax``, ``onnx``,
        ``stablehlo``); ``costs`` recomputed from design and chip alone; ``differences``, one line
        for each claim that does not hold; ``matches``, whether there are none. Flax predictions and
        costs must be equal; ONNX and StableHLO, which sum in another order, are reported only.

    Raises:
        InputError: It is not an export, or damaged.
    """
    summary = _read_json(Path(folder) / SUMMARY_FILE, SUMMARY_SCHEMA)
    if "method" in summary:
        return _check_network(Path(folder), summary)
    export = load_export(folder)
    placed = place(export.design, file=export.folder / "design.yaml")
    costs = cost_columns(placed.costs(), 0)
    predicted = export.summary["predicted"]
    differences = [
        f"{name}: recorded {predicted.get(name)!r}, found {costs.get(name)!r}"
        for name in sorted({*predicted, *costs})
        if predicted.get(name) != costs.get(name)
    ]
    data = placed.context.data
    has_onnx = "model.onnx" in export.summary["files"]
    onnx_model = (export.folder / "model.onnx").read_bytes() if has_onnx else None
    stablehlo = jax_export.deserialize(bytearray((export.folder / "model.jax_export").read_bytes()))
    correct: dict[str, dict[str, int]] = {}
    for name, split in (("validation", data.validation), ("test", data.test)):
        labels, inputs = np.asarray(split.labels), split.inputs()
        recorded = export.summary["correct"][name]
        found = count_correct(export.net, export.params, export.stats, split)
        correct[name] = {
            "pictures": len(split),
            "recorded": recorded["correct"],
            "flax": found,
            "stablehlo": int(np.sum(np.argmax(stablehlo.call(inputs), 1) == labels)),
        }
        if onnx_model is not None:
            classes = onnx_logits(onnx_model, inputs).argmax(1)
            correct[name]["onnx"] = int(np.sum(classes == labels))
        if (recorded["correct"], recorded["pictures"]) != (found, len(split)):
            differences.append(
                f"{name}: recorded {recorded['correct']} of {recorded['pictures']} correct, "
                f"found {found} of {len(split)}"
            )
    return {
        "id": export.summary["id"],
        "correct": correct,
        "costs": costs,
        "differences": differences,
        "matches": not differences,
    }


def _check_network(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """The same of an export without a chip: digests, and the StableHLO network's predictions."""
    files = {name: _verified(folder, name, digest) for name, digest in summary["files"].items()}
    data = load_data(summary["data"])
    found = count_stable_hlo(files["model.jax_export"], data)
    correct = {
        name: {
            "pictures": counted["pictures"],
            "recorded": summary["correct"][name]["correct"],
            "stablehlo": counted["correct"],
        }
        for name, counted in found.items()
    }
    differences = [
        f"{name}: recorded {row['recorded']} correct, found {row['stablehlo']}"
        for name, row in correct.items()
        if row["recorded"] != row["stablehlo"]
    ]
    return {
        "id": summary["id"],
        "correct": correct,
        "costs": {},
        "differences": differences,
        "matches": not differences,
    }


def predict_logits(
    net: Functional, params: Flat, stats: Flat
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from pictures f32[n, height, width, channels] to logits f32[n, classes]."""
    apply = jax.jit(lambda p, s, x: net.apply(p, s, x)[0])

    def predict(pictures: np.ndarray) -> np.ndarray:
        parts = [
            np.asarray(apply(params, stats, pictures[start : start + CHUNK]))
            for start in range(0, len(pictures), CHUNK)
        ]
        return np.concatenate(parts)

    return predict


def count_stable_hlo(serialized: bytes, data: DataSet) -> dict[str, dict[str, int]]:
    """Correct predictions of an exported network on validation and test pictures."""
    call = jax.jit(jax_export.deserialize(bytearray(serialized)).call)
    found = {}
    for name, split in (("validation", data.validation), ("test", data.test)):
        correct = 0
        for start in range(0, len(split), CHUNK):
            logits = np.asarray(call(split.inputs(start, min(start + CHUNK, len(split)))))
            labels = np.asarray(split.labels)[start : start + CHUNK]
            correct += int(np.sum(logits.argmax(1) == labels))
        found[name] = {"correct": correct, "pictures": len(split)}
    return found


def count_correct(net: Functional, params: Flat, stats: Flat, split: Split) -> int:
    """Number of pictures of a split whose label a network predicts."""
    predicted = predict_logits(net, params, stats)(split.inputs()).argmax(1)
    return int(np.sum(predicted == np.asarray(split.labels)))


def onnx_logits(model: bytes, pictures: np.ndarray) -> np.ndarray:
    """Logits f32[n, classes] of an ONNX model for pictures f32[n, height, width, channels]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (source,) = (entry.name for entry in session.get_inputs())
    (logits,) = session.run(None, {source: np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))})
    return np.asarray(logits)


def is_export(folder: str | Path) -> bool:
    """Whether a folder looks like an export."""
    return (Path(folder) / SUMMARY_FILE).is_file()


def _verified(folder: Path, name: str, digest: str) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError("lies outside the export", file=path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError("is not the file that was exported: its SHA-256 differs", file=path)
    return content


def _read_json(path: Path, schema: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError("cannot be read: not an export", file=path) from error
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", file=path) from error
    if not isinstance(found, dict) or found.get("schema") != schema:
        value = found.get("schema") if isinstance(found, dict) else None
        raise InputError(file=path, key="schema", value=value, allowed=schema)
    return found


def _node(entry: dict[str, Any]) -> Node:
    """An operation from JSON, whose lists are tuples."""
    known = {part.name for part in fields(Node)}
    return Node(**{k: _tupled(v) for k, v in entry.items() if k in known})


def _tupled(value: Any) -> Any:
    return tuple(_tupled(part) for part in value) if isinstance(value, list) else value
