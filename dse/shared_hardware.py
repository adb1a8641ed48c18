"""Phase hardware, of `hardware.mode: shared`: the one chip that all designs of the front use.

The policy leaves relaxed hardware that does not depend on the preference. Here it is rounded and
polished on the grid: the candidates of all preferences are improved on the chip as it is, then the
chip by coordinate search over the sum of their objectives, and once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dse.context import Context
from dse.design_objective import DesignObjective
from dse.handover import objective_of
from dse.search import coordinate_search, excess, improve
from dse.selection import proposals, rounded

ROUNDS = 2  # of candidates, then chip; selection improves the candidates once more


class SharedHardwarePhase:
    """Polishes one chip. State: its knobs, and the candidates on it."""

    name = "hardware"

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.candidates = context.config.surface.selection.candidates
        self.steps = ROUNDS * self.candidates

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take tables, predictor and policy."""
        self.objective = objective_of(self.context, outputs)
        self.preferences, ordinals, logits = proposals(
            self.context, self.objective.shape, outputs["policy"], self.candidates
        )
        self.ordinals, self.assignment = rounded(self.objective.shape, ordinals, logits)

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The rounded proposals, all on the same chip."""
        return {"ordinals": self.ordinals, "assignment": self.assignment, "gap": np.zeros(1)}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Improve one candidate on the chip; after the last of a round, improve the chip."""
        shape = self.objective.shape
        candidate = index % self.candidates
        is_width = np.arange(len(shape.ordinal_high)) < len(shape.max_widths)
        state = {name: array.copy() for name, array in state.items()}
        ordinals, assignment = state["ordinals"], state["assignment"]
        ordinals[:, candidate], assignment[:, candidate] = improve(
            self.objective,
            self.preferences[:, candidate],
            ordinals[:, candidate],
            assignment[:, candidate],
            is_width,
        )
        if candidate + 1 < self.candidates:
            return state, None
        before = mean_objective(self.objective, self.preferences, ordinals, assignment)
        knobs = improve_chip(self.objective, self.preferences, ordinals, assignment)
        ordinals[~is_width] = knobs[:, None]
        after = mean_objective(self.objective, self.preferences, ordinals, assignment)
        state["gap"] = np.array([(1.0 + state["gap"][0]) * (1.0 + excess(before, after)) - 1.0])
        return state, {"objective": after}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Grid index of each knob [knobs], and what the coordinate search gained [1]."""
        widths = len(self.objective.shape.max_widths)
        return {"knobs": state["ordinals"][widths:, 0], "gap": state["gap"]}


def mean_objective(
    objective: DesignObjective,
    preferences: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
) -> float:
    """Mean over preferences [5, designs] of the objective of each one's design."""
    return float(objective.value(preferences, ordinals, assignment).mean())


def improve_chip(
    objective: DesignObjective,
    preferences: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
) -> np.ndarray:
    """[knobs] of one chip whose mean objective no change of a single knob improves.

    Args:
        objective: exact objective.
        preferences: [5, designs].
        ordinals: [ordinals, designs], all with the same knobs.
        assignment: [layers, designs].
    """
    shape = objective.shape
    widths, designs = len(shape.max_widths), ordinals.shape[1]

    def value(chips: np.ndarray) -> np.ndarray:
        """[chips] mean objective on each of the chips [knobs, chips]."""
        count = chips.shape[1]
        whole = np.tile(ordinals, (1, count))
        whole[widths:] = np.repeat(chips, designs, axis=1)
        values = objective.value(
            np.tile(preferences, (1, count)), whole, np.tile(assignment, (1, count))
        )
        return values.reshape(count, designs).mean(axis=1)

    free = np.ones(len(shape.ordinal_high) - widths, bool)
    low, high = shape.ordinal_low[widths:], shape.ordinal_high[widths:]
    return coordinate_search(value, ordinals[widths:, 0], free, low, high)[0]
