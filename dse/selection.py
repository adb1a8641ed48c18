"""Phase (d), selection: the policy proposes, exact search polishes, validation data choose."""

from __future__ import annotations

from typing import Any

import moocore
import numpy as np

from dse.context import Context
from dse.handover import objective_of
from dse.policy import propose, sample_preferences
from dse.relaxed import Shape
from dse.search import polish


class SelectionPhase:
    """One candidate per preference, measured with the shared weights. State: the candidates."""

    name = "selection"

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.surface.selection
        self.steps = self.settings.candidates

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take tables, predictor, policy, shared hardware if any, and weights."""
        self.objective = objective_of(self.context, outputs)
        self.weights = outputs["weights"]
        self.preferences, self.ordinals, logits = proposals(
            self.context, self.objective.shape, outputs["policy"], self.steps
        )
        self.rounded, self.assignment = rounded(self.objective.shape, self.ordinals, logits)
        self.chip = outputs.get("hardware")
        if self.chip is not None:
            self.rounded[len(self.objective.shape.max_widths) :] = self.chip["knobs"][:, None]

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Room for the candidates."""
        shape, count = self.objective.shape, self.steps
        return {
            "ordinals": np.zeros((len(shape.ordinal_high), count), int),
            "assignment": np.zeros((shape.layers, count), int),
            "gaps": np.zeros((3, count)),
            "measures": np.zeros((3, count)),
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Round, polish and measure the proposal for one preference."""
        context, objective = self.context, self.objective
        found = polish(
            objective,
            self.preferences[:, index],
            self.rounded[:, index],
            self.assignment[:, index],
            free_ordinals(context, objective.shape),
        )
        hardware_gap = found.hardware_gap if self.chip is None else self.chip["gap"][0]
        costs = objective.costs(found.ordinals[:, None], found.assignment[:, None])
        measured = context.evaluate(
            self.weights["params"],
            self.weights["stats"],
            context.calibration,
            context.data.validation,
            objective.shape.widths(found.ordinals),
            context.crossing(costs["crossing"])[:, 0],
        )
        accuracy = measured.correct / len(context.data.validation)
        io_bytes, energy_pj = float(costs["io_bytes"][0]), float(costs["energy_pj"][0])
        state = {name: array.copy() for name, array in state.items()}
        state["ordinals"][:, index] = found.ordinals
        state["assignment"][:, index] = found.assignment
        state["gaps"][:, index] = found.gap_before, found.gap_after, hardware_gap
        state["measures"][:, index] = accuracy, io_bytes, energy_pj
        return state, {"accuracy": accuracy, "io_bytes": io_bytes, "energy_pj": energy_pj}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The chosen candidates with the relaxed designs that they came from."""
        feasible = np.isfinite(state["measures"]).all(axis=0)
        chosen = choose(state, feasible, self.settings.designs)
        return {
            "preference": self.preferences[:, chosen],
            "relaxed": self.ordinals[:, chosen],
            **{name: array[..., chosen] for name, array in state.items()},
        }


def proposals(
    context: Context, shape: Any, policy: dict[str, Any], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preferences [5, count] and the policy's relaxed designs for them.

    Returns:
        preferences, ordinals [ordinals, count] real, logits [layers, cores, count].
    """
    rng = np.random.default_rng([context.config.seed, 5])
    preferences = sample_preferences(rng, count, list(context.config.surface.policy.terms))
    params = {name: np.asarray(value) for name, value in policy["params"].items()}
    ordinals, logits = propose(shape, params, preferences, np)
    return preferences, ordinals.astype(float), logits


def rounded(
    shape: Shape, ordinals: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Relaxed designs as integer ones: [ordinals, designs] and [layers, designs]."""
    low, high = shape.ordinal_low[:, None], shape.ordinal_high[:, None]
    return np.clip(np.round(ordinals), low, high).astype(int), np.argmax(logits, axis=1)


def free_ordinals(context: Context, shape: Shape) -> np.ndarray:
    """[ordinals] which ordinals each design may choose: knobs only where hardware is its own."""
    is_width = np.arange(len(shape.ordinal_high)) < len(shape.max_widths)
    return is_width | (context.config.hardware.mode == "per_design")


def choose(state: dict[str, Any], feasible: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most `count` different candidates, front by front.

    Within a front the extremes of each objective come first, then whatever is farthest from what
    has been taken, in accuracy and log costs scaled to the same range.
    """
    designs = np.concatenate([state["ordinals"], state["assignment"]])
    _, first = np.unique(designs, axis=1, return_index=True)
    left = np.array(sorted(set(first) & set(np.flatnonzero(feasible))), int)
    accuracy, io_bytes, energy = state["measures"]
    points = np.stack([-accuracy, np.log(io_bytes), np.log(energy)], axis=1)
    taken: list[int] = []
    while len(left) and len(taken) < count:
        front = left[moocore.is_nondominated(points[left], keep_weakly=True)]
        taken += spread(points, front, count - len(taken))
        left = np.array([i for i in left if i not in set(front)], int)
    return np.array(sorted(taken), int)


def spread(points: np.ndarray, front: np.ndarray, count: int) -> list[int]:
    """Indices of `count` members of a front, extremes first, then farthest from those taken."""
    if len(front) <= count:
        return list(front)
    span = np.ptp(points[front], axis=0)
    scaled = points[front] / np.where(span > 0, span, 1.0)
    taken = list(dict.fromkeys(int(i) for i in np.argmin(scaled, axis=0)))[:count]
    while len(taken) < count:
        distance = np.linalg.norm(scaled[:, None] - scaled[None, taken], axis=2).min(axis=1)
        taken.append(int(np.argmax(distance)))
    return [int(front[i]) for i in taken]
