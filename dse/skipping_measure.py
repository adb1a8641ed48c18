"""The last phase of `method: skipping`: what is really left out, counted on data.

For every picture the masks of every convolution say which products have an input at all: a kept
channel at a kept position that a window reads. The formula knows the numbers kept and not the
places, so that the two differ by what windows read at borders and under strides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from costs.layer import Layer
from dse.comparison import Row, accuracy_columns, interval_columns, write_rows
from dse.data import Split
from dse.skipping import SkippingContext
from dse.teacher import calibration
from dse.training import EVALUATED_AT_ONCE
from models.skipping import Masks, skip

BLOCKS_FILE = "blocks.csv"


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
        row: Row = {
            "id": ("dense", "skipping")[index],
            "network": self.context.config.network.name,
        }
        row, blocks = (self._plain, self._skipping)[index](row)
        state = {"rows": [*state["rows"], row], "blocks": blocks}
        return state, {"validation_accuracy": row["validation_accuracy"]}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write the tables."""
        write_rows(self.run_dir, state["rows"])
        write_rows(self.run_dir, state["blocks"], BLOCKS_FILE)
        return state

    def _plain(self, row: Row) -> tuple[Row, list[Row]]:
        context = self.context
        pictures = calibration(context.config, context.data)
        taken = (self.teacher["params"], self.teacher["rest"], pictures, context.data)
        row |= accuracy_columns(context.dense, *taken)
        macs = context.workload.macs
        traffic = sum(map(calc_layer_bytes, context.workload.layers))
        return row | {
            "macs_formula": float(macs),
            "macs_measured": float(macs),
            "macs_share_formula": 1.0,
            "macs_share_measured": 1.0,
            "traffic_bytes_formula": traffic,
            "traffic_bytes_measured": traffic,
            "traffic_share_formula": 1.0,
            "traffic_share_measured": 1.0,
        }, []

    def _skipping(self, row: Row) -> tuple[Row, list[Row]]:
        context = self.context
        found: dict[str, dict[str, float]] = {}
        for name, split in (("validation", context.data.validation), ("test", context.data.test)):
            correct, found = self._count(split)
            row |= interval_columns(name, correct, split)
        layers = {layer.name: layer for layer in context.workload.layers}
        sums = {
            key: sum(part[key] for part in found.values())
            for key in ("macs_formula", "macs_measured", "bytes_formula", "bytes_measured")
        }
        others = [layer for name, layer in layers.items() if name not in found]
        macs = float(sum(layer.macs for layer in others))
        traffic = sum(map(calc_layer_bytes, others))
        all_bytes = sum(map(calc_layer_bytes, layers.values()))
        for kind in ("formula", "measured"):
            row[f"macs_{kind}"] = macs + sums[f"macs_{kind}"]
            row[f"macs_share_{kind}"] = row[f"macs_{kind}"] / context.workload.macs
            row[f"traffic_bytes_{kind}"] = traffic + sums[f"bytes_{kind}"]
            row[f"traffic_share_{kind}"] = row[f"traffic_bytes_{kind}"] / all_bytes
        return row, self._blocks(found, layers)

    def _blocks(
        self, found: Mapping[str, Mapping[str, float]], layers: Mapping[str, Layer]
    ) -> list[Row]:
        """One row a block, on the test pictures."""
        rows = []
        for number, block in enumerate(self.context.blocks):
            mine = [path for path, b in self.context.block_of.items() if b == number]
            macs = sum(layers[path].macs for path in mine)
            channels, columns = (float(share) for share in self.trained["shares"][number])
            rows.append(
                {
                    "block": block,
                    "kept_channels": channels,
                    "kept_columns": columns,
                    "macs": macs,
                    "share_of_ratios": channels * columns,
                    "share_formula": sum(found[p]["macs_formula"] for p in mine) / macs,
                    "share_measured": sum(found[p]["macs_measured"] for p in mine) / macs,
                }
            )
        return rows

    def _count(self, split: Split) -> tuple[int, dict[str, dict[str, float]]]:
        """Correct predictions, and per layer means over all pictures of what is computed."""
        context = self.context
        layers = {layer.name: layer for layer in context.workload.layers}
        correct, sums, pictures = 0, {}, 0
        for start in range(0, len(split), EVALUATED_AT_ONCE):
            stop = min(start + EVALUATED_AT_ONCE, len(split))
            logits, masks = self.predict(jnp.asarray(split.inputs(start, stop)))
            correct += int(np.sum(np.argmax(np.asarray(logits), -1) == split.labels[start:stop]))
            pictures += stop - start
            for path, (channels, columns) in masks.items():
                counted = count_kept(layers[path], np.asarray(channels), np.asarray(columns))
                part = sums.setdefault(path, dict.fromkeys(counted, 0.0))
                for key, values in counted.items():
                    part[key] += float(np.sum(values))
        return correct, {
            path: {key: total / pictures for key, total in part.items()}
            for path, part in sums.items()
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


def count_kept(layer: Layer, channels: np.ndarray, columns: np.ndarray) -> dict[str, np.ndarray]:
    """What one layer computes and moves for each picture.

    Args:
        layer: A convolution of one picture.
        channels: Mask [pictures, C].
        columns: Mask [pictures, height, width].

    Returns:
        [pictures] each: "macs_formula" by the numbers kept, "macs_measured" the products that have
        a kept input as a share of those that have any input, both scaled to the layer's MACs; and
        bytes moved once, by the formula and as counted.
    """
    reads = count_reads(layer)
    kept_channels, kept_columns = channels.sum(1), columns.sum((1, 2))
    share_c, share_v = kept_channels / layer.C, kept_columns / columns[0].size
    seen = (columns * reads[None]).sum((1, 2)) / reads.sum()
    inputs, weights = layer.bytes("I"), layer.bytes("W")
    rest = layer.bytes("O") + (layer.C + columns[0].size) / 8  # a bit says what is kept
    # entries that are really non-zero in both masks, weights of the channels that are read
    entries = np.einsum("nc,nhw->n", channels, columns) / (layer.C * columns[0].size)
    return {
        "macs_formula": layer.macs * share_c * share_v,
        "macs_measured": layer.macs * share_c * seen,
        "bytes_formula": inputs * share_c * share_v + weights * share_c + rest,
        "bytes_measured": inputs * entries + weights * share_c + rest,
    }


def count_reads(layer: Layer) -> np.ndarray:
    """How many windows read each position of a layer's input, [height, width]."""
    axes = []
    for axis, (size, outputs, kernel) in enumerate(
        ((layer.input_height, layer.P, layer.R), (layer.input_width, layer.Q, layer.S))
    ):
        reads = np.zeros(size)
        for output in range(outputs):
            for tap in range(kernel):
                at = output * layer.stride[axis] + tap * layer.dilation[axis]
                at -= layer.padding[axis][0]
                if 0 <= at < size:
                    reads[at] += 1
        axes.append(reads)
    return np.multiply.outer(axes[0], axes[1])


def calc_layer_bytes(layer: Layer) -> float:
    """Inputs, weights and outputs of a layer moved once [byte]."""
    return sum(layer.bytes(operand) for operand in layer.operands)
