"""Local search over integer designs: exact assignment, single moves, coordinates of the grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.design_objective import DesignObjective, contiguous_candidates
from dse.relaxed import Shape

MOST_ROUNDS = 12


@dataclass(frozen=True)
class Polished:
    """A design after local search, and what each part of the search gained.

    Attributes:
        ordinals: [ordinals] integers.
        assignment: [layers].
        gap_before: `assignment_gap` of the assignment it was given.
        gap_after: `assignment_gap` of the design it ends with.
        hardware_gap: objective of the rounded hardware over that of the polished one, less 1.
    """

    ordinals: np.ndarray
    assignment: np.ndarray
    gap_before: float
    gap_after: float
    hardware_gap: float


def polish(
    objective: DesignObjective,
    preference: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
    free: np.ndarray,
) -> Polished:
    """Improve an integer design until no exact assignment, move or grid step helps.

    Args:
        objective: exact objective.
        preference: [5].
        ordinals: [ordinals] integers.
        assignment: [layers].
        free: [ordinals] which ordinals may change.
    """
    shape = objective.shape
    gap_before = assignment_gap(objective, preference, ordinals, assignment)
    start = _values(objective, preference, ordinals[:, None], assignment[:, None])[0]
    ordinals, assignment = ordinals.copy(), assignment.copy()
    knobs_only = free & (np.arange(len(free)) >= len(shape.max_widths))
    tuned, _ = _coordinate_search(objective, preference, ordinals, assignment, knobs_only)
    after_knobs = _values(objective, preference, tuned[:, None], assignment[:, None])[0]
    best = start
    for _ in range(MOST_ROUNDS):
        before = best
        options = contiguous_candidates(objective.problem, ordinals)
        options = np.concatenate([options, single_moves(assignment, shape.cores)], axis=1)
        values = _values(
            objective, preference, np.repeat(ordinals[:, None], options.shape[1], 1), options
        )
        choice = int(np.argmin(values))
        if values[choice] < best:
            assignment, best = options[:, choice].copy(), values[choice]
        ordinals, best = _coordinate_search(objective, preference, ordinals, assignment, free)
        if not best < before:
            break
    return Polished(
        ordinals,
        assignment,
        gap_before,
        assignment_gap(objective, preference, ordinals, assignment),
        _excess(start, after_knobs),
    )


def assignment_gap(
    objective: DesignObjective, preference: np.ndarray, ordinals: np.ndarray, assignment: np.ndarray
) -> float:
    """How far an assignment is from the best contiguous one: exp of the difference, less 1.

    Of the preference's objective, predicted task loss included. An assignment that revisits a core
    can beat every contiguous one: the gap is then negative.
    """
    options = contiguous_candidates(objective.problem, ordinals)
    options = np.concatenate([assignment[:, None], options], axis=1)
    tiled = np.repeat(ordinals[:, None], options.shape[1], axis=1)
    values = _values(objective, preference, tiled, options)
    return _excess(values[0], values[1:].min())


def single_moves(assignment: np.ndarray, cores: int) -> np.ndarray:
    """[layers, layers * cores] every assignment that puts one layer elsewhere."""
    layers = len(assignment)
    moved = np.repeat(assignment[:, None], layers * cores, axis=1)
    layer, core = np.divmod(np.arange(layers * cores), cores)
    moved[layer, np.arange(layers * cores)] = core
    return moved


def _coordinate_search(
    objective: DesignObjective,
    preference: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Best single change of one ordinal, to any value of its grid, until none helps."""
    shape: Shape = objective.shape
    low, high = shape.ordinal_low.astype(int), shape.ordinal_high.astype(int)
    while True:
        columns = [ordinals]
        for i in np.flatnonzero(free):
            for value in range(low[i], high[i] + 1):
                if value != ordinals[i]:
                    changed = ordinals.copy()
                    changed[i] = value
                    columns.append(changed)
        trial = np.stack(columns, axis=1)
        tiled = np.repeat(assignment[:, None], trial.shape[1], axis=1)
        values = _values(objective, preference, trial, tiled)
        choice = int(np.argmin(values))
        if not values[choice] < values[0]:
            return ordinals, values[0]
        ordinals = trial[:, choice].copy()


def _values(
    objective: DesignObjective,
    preference: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
) -> np.ndarray:
    return objective.value(preference[:, None], ordinals, assignment, np)


def _excess(worse: float, better: float) -> float:
    """exp of a difference of objectives, less 1; objectives are weighted logs of costs.

    Infinite where the worse one exceeds a budget.
    """
    with np.errstate(over="ignore"):
        return 0.0 if worse == better else float(np.expm1(worse - better))
