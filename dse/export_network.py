"""The export of a run without a chip: `method: train`, `insitu` and `skipping`.

    out/
      summary.json                   the run's result, correct predictions, digests of all files
      experiment.yaml                the experiment as it was run
      weights.safetensors            the trained arrays
      bases.safetensors              of `insitu`: B, U and V as whole numbers, and their scales
      model.stablehlo                the network with its weights, for a batch of one
      model.jax_export               the same, serialized, for any batch
      model.onnx, model_float.onnx, workload.onnx   of `train`, for residual networks
      network.py                     a user's own network

Bases are stored as codes c in 0 .. 2^bits - 1; with s their scale, s (2 c / (2^bits - 1) - 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from safetensors.numpy import save as save_tensors

from costs.errors import InputError
from costs.insitu import DENSE_BITS
from dse.config import load_config
from dse.csv_rows import Row, read_rows
from dse.data import DataSet
from dse.export import NO_ONNX, compare_onnx, onnx_files, stable_hlo, user_file
from dse.export_folder import publish, require_ours
from dse.exported import count_stable_hlo, predict_logits
from dse.insitu import factors_in, make_insitu_context
from dse.outcomes import RunError
from dse.rundir import RESULT_FILE, WEIGHTS_FILE, RunDir
from dse.skipping import make_skipping_context
from dse.skipping_measure import BLOCKS_FILE
from dse.train import make_train_context
from dse.trainable import Trainable
from models.architecture import Architecture
from models.insitu import NAMES
from models.insitu_quantise import calc_codes
from models.skipping import skip
from models.slim import slim

EXPERIMENT_FILE = "experiment.yaml"
Arrays = dict[str, np.ndarray]
Logits = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Final:
    """The network that a run ended with.

    Attributes:
        data: Its data set.
        logits: From pictures f32[batch, height, width, channels].
        files: What its method adds, by name.
        summary: What its method says.
    """

    data: DataSet
    logits: Logits
    files: dict[str, bytes] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def export_network(run_dir: str | Path, out: str | Path) -> list[Path]:
    """Write the export of a finished run without a chip.

    Args:
        run_dir: The run.
        out: The folder to make; an earlier export is replaced, any other full folder refused.

    Returns:
        The files written, ``summary.json`` first.

    Raises:
        InputError: The folder is not acceptable, or the run is not finished.
        RunError: What would be written does not predict what the run measured.
    """
    run, target = RunDir(Path(run_dir)), Path(out)
    run.require_run()
    require_ours(target)
    config, rows = load_config(run.config_file), read_rows(run.path / RESULT_FILE)
    weights = run.path / WEIGHTS_FILE
    if not weights.is_file():
        raise InputError("not there: the run is not finished, or an older one", file=weights)
    final = FINAL[config.method](config, load_file(weights), run.path)
    files = {
        EXPERIMENT_FILE: run.config_file.read_bytes(),
        WEIGHTS_FILE: weights.read_bytes(),
        **stable_hlo(final.logits, final.data.input_shape),
        **user_file(config.network.name),
        **final.files,
    }
    correct = count_stable_hlo(files["model.jax_export"], final.data)
    _require_measured(rows[-1], correct)
    summary = {
        "id": rows[-1].get("id", config.method),
        "method": config.method,
        "network": config.network.name,
        "data": final.data.name,
        "input": {"layout": "NHWC in jax, NCHW in ONNX", "shape": final.data.input_shape},
        "not_written": [] if "model.onnx" in files else [NO_ONNX],
        "result": rows[-1],
        "correct": correct,
        **final.summary,
    }
    return publish(files, summary, target)


def _require_measured(row: Row, correct: dict[str, dict[str, int]]) -> None:
    """Refuse to hand on a network that is not the one of result.csv, but for a tie or two."""
    for name, found in correct.items():
        measured = round(row[f"{name}_accuracy"] * found["pictures"])
        if abs(measured - found["correct"]) > max(1, 0.001 * found["pictures"]):
            raise RunError(
                f"model.jax_export predicts {found['correct']} of {found['pictures']} {name} "
                f"pictures, {RESULT_FILE} has {measured}; nothing was exported"
            )


def _trained(config: Any, arrays: Arrays, run_dir: Path) -> Final:
    context = make_train_context(config)
    params, stats = (
        {k.removeprefix(part): jnp.asarray(v) for k, v in arrays.items() if k.startswith(part)}
        for part in ("params/", "stats/")
    )
    net, params, stats = slim(context.net, params, stats, [], [])
    files: dict[str, bytes] = {}
    summary: dict[str, Any] = {}
    if isinstance(net.architecture, Architecture):
        files, predict_float = onnx_files(net, params, stats, config.network.name)
        predict = predict_logits(net, params, stats)
        summary["comparison"] = compare_onnx(context.data, files, predict, predict_float)
    return Final(context.data, lambda x: net.apply(params, stats, x)[0], files, summary)


def _generated(config: Any, arrays: Arrays, run_dir: Path) -> Final:
    context = make_insitu_context(config)
    stored: Any = {name.removeprefix("params/"): value for name, value in arrays.items()}
    chosen = {}
    for path, factors in context.factors.items():
        shapes = {name: array.shape for name, array in factors_in(stored, path).items()}
        chosen[path] = replace(
            factors,
            basis=shapes["basis"],
            coefficients=shapes.get("coefficients"),
            mixing=shapes.get("mixing"),
        )
    net, bases = context.cut(chosen), context.bases
    widths = (bases.bits_b, bases.bits_u, bases.bits_v)
    bits: dict[str, int] = dict(zip(NAMES, widths, strict=True))
    codes: Arrays = {}
    for path in chosen:
        for name, array in factors_in(stored, path).items():
            if bits[name] >= DENSE_BITS:
                codes[f"{path}.{name}"] = np.asarray(array)
                continue
            codes[f"{path}.{name}.codes"], scale = calc_codes(np.asarray(array), bits[name])
            codes[f"{path}.{name}.scale"] = np.array(scale, np.float32)
    summary = {
        "bases": str(bases),
        "bits": bits,
        # Bi and Bc; null where a kernel has no such level
        "bases_of_kernels": {
            path: [f.basis[1] if f.coefficients else None, f.basis[0] if f.mixing else None]
            for path, f in chosen.items()
        },
    }
    files = {"bases.safetensors": save_tensors(codes)}
    return Final(context.data, _logits(net, arrays), files, summary)


def _skipping(config: Any, arrays: Arrays, run_dir: Path) -> Final:
    context = make_skipping_context(config)
    blocks = {row["block"]: row for row in read_rows(run_dir / BLOCKS_FILE)}
    kept = {b: [blocks[b]["kept_channels"], blocks[b]["kept_columns"]] for b in context.blocks}
    shares = jnp.asarray(list(kept.values()), jnp.float32)

    def prepare(net: Any) -> None:
        skip(net, context.keeps(shares))

    logits = _logits(context.net, arrays, prepare)
    return Final(context.data, logits, summary={"kept_channels_and_columns": kept})


FINAL: dict[str, Callable[[Any, Arrays, Path], Final]] = {
    "train": _trained,
    "insitu": _generated,
    "skipping": _skipping,
}


def _logits(net: Trainable, arrays: Arrays, prepare: Any = None) -> Logits:
    """One input by itself, whatever the batch: no module need understand an open one."""
    params, rest = net.unflatten(arrays)

    def one(picture: jax.Array) -> jax.Array:
        return net.apply(params, rest, picture[None], train=False, prepare=prepare)[0][0]

    return jax.vmap(one)
