"""A run directory with designs that can really be evaluated and exported, without a run.

The network has fresh weights with statistics measured for each design, so that predictions, costs
and files hang together as after `dse run`; only the accuracy is that of chance.
"""

from __future__ import annotations

import csv
import math
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from costs import strict_yaml
from costs.chip import Chip
from costs.chip_tables import FIXED_METRICS, VARIANTS, Block, level_names
from dse.accuracy import wilson
from dse.config import load_config, resolved
from dse.context import make_context
from dse.design import cost_columns, describe, place
from dse.export import flatten
from dse.rundir import RunDir
from dse.training import make_evaluate
from models.functional import Flat, Functional


# What a table of the cost model would take seconds to find; enough for files to hang together.
def quick_block(block: Block, chip: Chip, objective: str, cache_dir: Path | None = None) -> Any:
    """A made-up table in place of ``costs.chip_tables.calc_block``: positive, fixed, unlike."""
    points = math.prod(len(indices) for indices in block.points)
    shape = (block.rows, points, len(VARIANTS), FIXED_METRICS + len(level_names(chip)))
    seed = zlib.crc32(f"{block.layer.name} {block.kind}".encode())
    return np.random.default_rng(seed).uniform(10.0, 1000.0, shape)


CONFIG = """
name: tiny
data: {name: digits}
network:
  name: digits_resnet
  bottlenecks: [stem.out, stage1.block0.out, stage2.block0.out, stage2.block1.out]
chip: quad_big_little
"""


def made_up_weights(net: Functional) -> tuple[Flat, Flat]:
    """Weights of the size that training gives and statistics unlike those of a fresh norm."""
    rng = np.random.default_rng(3)

    def draw(key: str, shape: tuple[int, ...]) -> jax.Array:
        noise = rng.normal(size=shape)
        if key.endswith((".kernel", ".modulation")):
            noise = noise * np.sqrt(2.0 / max(1, math.prod(shape[:-1])))
        elif key.endswith((".scale", ".var", ".range")):
            noise = np.exp(0.3 * noise)
        else:
            noise = 0.3 * noise
        return jnp.asarray(noise, jnp.float32)

    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params, stats = ({k: draw(k, v.shape) for k, v in part.items()} for part in shapes)
    return params, stats


def write_trained_run(folder: Path, splits: tuple[int, ...] = (0, 2)) -> Path:
    """A run with one design for each number of further cores that layers are spread over."""
    folder.mkdir(parents=True)
    source = folder.parent / "tiny.yaml"
    source.write_text(CONFIG)
    config = load_config(source, [])
    context = make_context(config)
    run = RunDir(folder)
    run.create()
    run.config_file.write_text(strict_yaml.dumps(resolved(config)))
    params, stats = made_up_weights(context.net)
    evaluate = make_evaluate(context.net)
    layers = len(context.workload.layers)
    knobs = np.array([kind.default for kind in context.chip.types])
    rows: list[dict[str, Any]] = []
    for number, further in enumerate(splits):
        widths = [max(1, b.channels // (number + 2)) for b in context.boundaries]
        widths[-1] = context.boundaries[-1].channels  # one crossing stays uncompressed
        assignment = np.arange(layers) * (further + 1) // layers
        name = f"d{number:02d}"
        design = describe(context, name, np.array(widths), knobs, assignment, {"io_bytes": 0.5})
        file = run.designs / f"{design.id}.yaml"
        design.save(file)
        costs = place(design).costs()
        crossing = jnp.asarray(context.crossing(costs["crossing"])[:, 0], jnp.float32)
        tuned = jnp.asarray(widths, jnp.float32)
        measured = context.net.measure(
            params, stats, jnp.asarray(context.calibration), tuned, crossing
        )
        save_file(flatten(params, measured), run.designs / f"{design.id}.safetensors")
        row: dict[str, Any] = {"id": design.id}
        for name, split in (("validation", context.data.validation), ("test", context.data.test)):
            found = evaluate(
                params, stats, context.calibration, split, np.asarray(tuned), np.asarray(crossing)
            )
            low, high = wilson(found.correct, len(split))
            row |= {f"{name}_accuracy": found.correct / len(split), f"{name}_low": low}
            row |= {f"{name}_high": high, f"{name}_correct": found.correct}
        row |= cost_columns(costs, 0)
        row |= {f"width_{b.name}": w for b, w in zip(context.boundaries, widths, strict=True)}
        row |= {f"core_{layer}": core for layer, core in design.assignment.items()}
        rows.append(row)
    with (folder / "front.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder
