"""Phase (b), predictor: cross-entropy of a design, fitted on designs measured on validation data.

Kernel ridge regression of log cross-entropy on what the network itself is told of a design. Length
scale and ridge are chosen by leave-one-out error in closed form, so there is nothing to train.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from dse.context import Context
from dse.sampling import sample_design

LENGTH_SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


def calc_features(
    widths: Any, crossing: Any, max_widths: tuple[int, ...], boundary_of_edge: np.ndarray, xp: Any
) -> Any:
    """What the predictor is told of a design.

    Args:
        widths: [boundaries, designs] integers.
        crossing: [edges, designs] 0/1, edges of the network.
        max_widths: [boundaries] channels.
        boundary_of_edge: [edges] boundary of each edge.
        xp: numpy or jax.numpy.

    Returns:
        [features, designs]: for every boundary the share of its edges that cross, and that share
        times log(w / C) and times 1/w - 1/C.
    """
    rows = []
    for b, channels in enumerate(max_widths):
        mine = np.flatnonzero(boundary_of_edge == b)
        share = sum(crossing[e] for e in mine) * (1.0 / len(mine))
        rows += [
            share,
            share * xp.log(widths[b] / channels),
            share * (1.0 / widths[b] - 1.0 / channels),
        ]
    return xp.stack(rows)


def _kernel(a: Any, b: Any, length: Any, xp: Any) -> Any:
    """[n, m] Matern-3/2 kernel of feature columns a [features, n] and b [features, m]."""
    squared = sum((a[i][:, None] - b[i][None, :]) ** 2 for i in range(len(a)))
    distance = xp.sqrt(3.0 * squared + 1e-12) / length
    return (1.0 + distance) * xp.exp(-distance)


def fit(features: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """Fit kernel ridge regression.

    Args:
        features: [features, n].
        target: [n].

    Returns:
        The fitted arrays that `predict` takes.
    """
    center = features.mean(axis=1, keepdims=True)
    scale = features.std(axis=1, keepdims=True)
    scaled = (features - center) / np.where(scale > 0, scale, 1.0)
    mean = target.mean()
    best = None
    for length in LENGTH_SCALES:
        kernel = _kernel(scaled, scaled, length, np)
        for ridge in RIDGES:
            inverse = np.linalg.inv(kernel + ridge * np.eye(len(target)))
            dual = inverse @ (target - mean)
            error = np.mean((dual / np.diag(inverse)) ** 2)  # leave-one-out residuals
            if best is None or error < best[0]:
                best = (error, length, dual)
    assert best is not None
    return {
        "center": center,
        "scale": np.where(scale > 0, scale, 1.0),
        "points": scaled,
        "dual": best[2],
        "mean": np.array(mean),
        "length": np.array(best[1]),
    }


def predict(model: dict[str, Any], features: Any, xp: Any) -> Any:
    """[designs] predicted log cross-entropy of features [features, designs]."""
    scaled = (features - model["center"]) / model["scale"]
    kernel = _kernel(scaled, model["points"], model["length"], xp)
    return model["mean"] + (kernel * model["dual"][None, :]).sum(axis=1)


class PredictorPhase:
    """Measures designs and fits the predictor. State: designs and their losses."""

    name = "predictor"

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.surface.predictor
        self.steps = self.settings.designs
        self.weights: dict[str, Any] = {}

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the trained weights."""
        self.weights = outputs["weights"]

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Room for the measurements."""
        count = self.steps
        return {
            "widths": np.zeros((len(self.context.boundaries), count)),
            "crossing": np.zeros((len(self.context.net.edges), count)),
            "loss": np.zeros(count),
            "accuracy": np.zeros(count),
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Measure one design on the validation pictures."""
        context = self.context
        rng = np.random.default_rng([context.config.seed, 2, index])
        widths, crossing = sample_design(
            rng,
            context.boundaries,
            context.boundary_of_edge,
            context.config.surface.weights,
            self.weights["cheap"],
        )
        split = context.data.validation.first(self.settings.pictures)
        found = context.evaluate(
            self.weights["params"],
            self.weights["stats"],
            context.calibration[: self.settings.pictures],
            split,
            widths,
            crossing,
        )
        state = {name: array.copy() for name, array in state.items()}
        state["widths"][:, index] = widths
        state["crossing"][:, index] = crossing
        state["loss"][index] = found.loss
        state["accuracy"][index] = found.correct / len(split)
        return state, {"loss": found.loss, "accuracy": found.correct / len(split)}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The fitted predictor, and the rank correlation on designs held out of a first fit."""
        features = calc_features(
            state["widths"],
            state["crossing"],
            tuple(b.channels for b in self.context.boundaries),
            self.context.boundary_of_edge,
            np,
        )
        target = np.log(state["loss"])
        kept = max(2, round((1 - self.settings.held_out) * self.steps))
        trial = fit(features[:, :kept], target[:kept])
        predicted = predict(trial, features[:, kept:], np)
        rank, _ = spearmanr(predicted, target[kept:])
        return {"model": fit(features, target), "rank_correlation": np.array(rank)}
