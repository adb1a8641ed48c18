"""The last phase of `method: skipping`: what is really left out, counted on data.

For every picture the masks of every convolution say which products have an input at all: a kept
channel at a kept position that a window reads. Beside the count stands the formula, from the
numbers kept and from where attention looks on average over the calibration pictures; and the
product of the ratios, which takes all positions for equally likely and equally often read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save as save_tensors

from dse.accuracy import accuracy_columns, interval_columns
from dse.csv_rows import Row, write_rows
from dse.data import Split
from dse.rundir import RESULT_FILE, WEIGHTS_FILE, write_atomically
from dse.skipping import SkippingContext
from dse.teacher import calibration
from dse.training import EVALUATED_AT_ONCE
from models.skipping import Masks, round_share, skip
from models.skipping_count import calc_dense, calc_kept, count_kept

BLOCKS_FILE = "blocks.csv"
NAMES = {"macs": "macs", "bytes": "traffic"}
"""What is counted, and what its columns are called."""
Costs = dict[str, dict[str, Any]]
"""By layer, what is counted of it."""


class MeasurePhase:
    """Measures the plain and the skipping network, and writes result.csv and blocks.csv."""

    name = "measure"
    steps = 2

    def __init__(self, context: SkippingContext, run_dir: Path) -> None:
        """Bind the experiment and where its tables go."""
        self.context = context
        self.run_dir = run_dir

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take both networks."""
        self.teacher, self.trained = outputs["teacher"], outputs["skipping"]
        self.predict = make_predict(
            self.context, self.trained["params"], self.trained["rest"], self.trained["shares"]
        )

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """No rows yet."""
        return {"rows": [], "blocks": []}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """The row of one network."""
        name, measure = (("dense", self._plain), ("skipping", self._skipping))[index]
        row, blocks = measure()
        row = {"id": name, "network": self.context.config.network.name} | row
        state = {"rows": [*state["rows"], row], "blocks": blocks}
        return state, {"validation_accuracy": row["validation_accuracy"]}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write the tables, and the weights of the network that skips."""
        arrays = self.context.net.flatten(self.trained["params"], self.trained["rest"])
        write_atomically(self.run_dir / WEIGHTS_FILE, save_tensors(arrays))
        write_rows(self.run_dir / RESULT_FILE, state["rows"])
        write_rows(self.run_dir / BLOCKS_FILE, state["blocks"])
        return state

    def _plain(self) -> tuple[Row, list[Row]]:
        context = self.context
        taken = (self.teacher["params"], self.teacher["rest"])
        pictures = calibration(context.config, context.data)
        row = accuracy_columns(context.dense, *taken, pictures, context.data)
        return row | _share_columns(dict.fromkeys(NAMES, 1.0), {}, {}), []

    def _skipping(self) -> tuple[Row, list[Row]]:
        context, row = self.context, {}
        attended, counted = self._attended(), {}
        for name, split in (("validation", context.data.validation), ("test", context.data.test)):
            correct, counted = self._count(split)
            row |= interval_columns(name, correct, split)
        formula, ratios = self._formula(attended), self._formula({})
        shares = (context.shares_of(costs) for costs in (counted, formula, ratios))
        return row | _share_columns(*shares), self._blocks(counted, formula, ratios)

    def _formula(self, attended: Mapping[str, np.ndarray]) -> Costs:
        """Costs of every layer that skips, of the numbers that it keeps."""
        found = {}
        for path, block in self.context.block_of.items():
            layer = self.context.layers[path]
            positions = layer.input_height * layer.input_width
            channels, columns = (float(share) for share in self.trained["shares"][block])
            kept_c = round_share(channels, layer.C) / layer.C
            kept_v = round_share(columns, positions) / positions
            found[path] = calc_kept(layer, kept_c, kept_v, attended.get(path))
        return found

    def _blocks(self, counted: Costs, formula: Costs, ratios: Costs) -> list[Row]:
        """One row a block, on the test pictures."""
        rows = []
        for number, block in enumerate(self.context.blocks):
            mine = [path for path, b in self.context.block_of.items() if b == number]
            dense = [calc_dense(self.context.layers[path]) for path in mine]
            of_block = [
                {
                    key: sum(costs[path][key] for path in mine) / sum(cost[key] for cost in dense)
                    for key in NAMES
                }
                for costs in (counted, formula, ratios)
            ]
            channels, columns = (float(share) for share in self.trained["shares"][number])
            kept: Row = {"block": block, "kept_channels": channels, "kept_columns": columns}
            rows.append(kept | _share_columns(*of_block))
        return rows

    def _attended(self) -> dict[str, np.ndarray]:
        """How often each position of each layer is kept on the calibration pictures, [h, w]."""
        pictures = calibration(self.context.config, self.context.data)
        sums: dict[str, np.ndarray] = {}
        for start in range(0, len(pictures), EVALUATED_AT_ONCE):
            _, masks = self.predict(jnp.asarray(pictures[start : start + EVALUATED_AT_ONCE]))
            for path, (_, columns) in masks.items():
                sums[path] = sums.get(path, 0.0) + np.asarray(columns, np.float64).sum(0)
        return {path: total / len(pictures) for path, total in sums.items()}

    def _count(self, split: Split) -> tuple[int, Costs]:
        """Correct predictions, and per layer what is computed and moved for each picture."""
        correct, found = 0, []
        for start in range(0, len(split), EVALUATED_AT_ONCE):
            stop = min(start + EVALUATED_AT_ONCE, len(split))
            logits, masks = self.predict(jnp.asarray(split.inputs(start, stop)))
            correct += int(np.sum(np.argmax(np.asarray(logits), -1) == split.labels[start:stop]))
            found.append(
                {
                    path: count_kept(
                        self.context.layers[path], *(np.asarray(m, np.float64) for m in pair)
                    )
                    for path, pair in masks.items()
                }
            )
        return correct, {
            path: {key: np.concatenate([part[path][key] for part in found]) for key in NAMES}
            for path in self.context.block_of
        }


def make_predict(
    context: SkippingContext, params: Any, rest: Any, shares: Any
) -> Callable[[jax.Array], tuple[jax.Array, dict[str, Masks]]]:
    """A jitted function from pictures to logits and the masks of every convolution."""

    @jax.jit
    def predict(pictures: jax.Array) -> tuple[jax.Array, dict[str, Masks]]:
        keeps = context.keeps(jnp.asarray(shares))
        logits, _ = context.net.apply(
            params, rest, pictures, train=False, prepare=lambda net: skip(net, keeps)
        )
        return logits, {path: m for keep in keeps.values() for path, m in keep.record.items()}

    return predict


def _share_columns(
    counted: Mapping[str, Any], formula: Mapping[str, Any], ratios: Mapping[str, Any]
) -> Row:
    """Shares of what is computed and moved: counted with its standard error, and foretold."""
    row: Row = {}
    for key, name in NAMES.items():
        values = np.atleast_1d(counted[key])
        alike = np.allclose(values, values[0], rtol=1e-12, atol=0.0)
        error = 0.0 if alike else float(values.std(ddof=1) / len(values) ** 0.5)
        row |= {
            f"{name}_share_ratios": float(ratios.get(key, 1.0)),
            f"{name}_share_formula": float(formula.get(key, 1.0)),
            f"{name}_share_measured": float(values.mean()),
            f"{name}_share_error": error,
        }
    return row
