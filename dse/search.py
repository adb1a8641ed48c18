"""Local search over integer designs: exact assignment, single moves, coordinates of the grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dse.design_objective import DesignObjective, contiguous_candidates
from dse.relaxed import Shape

MOST_ROUNDS = 12
ROUNDING = 1e-12  # of an objective
LISTED = 100_000  # assignments of one network that are priced to prove the best


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
    """`improve` a design, and say what each part of the search gained."""
    shape = objective.shape
    gap_before = assignment_gap(objective, preference, ordinals, assignment)
    start = _values(objective, preference, ordinals[:, None], assignment[:, None])[0]
    knobs_only = free & (np.arange(len(free)) >= len(shape.max_widths))
    _, after_knobs = _best_ordinals(objective, preference, ordinals, assignment, knobs_only)
    ordinals, assignment = improve(objective, preference, ordinals, assignment, free)
    return Polished(
        ordinals,
        assignment,
        gap_before,
        assignment_gap(objective, preference, ordinals, assignment),
        excess(start, after_knobs),
    )


def improve(
    objective: DesignObjective,
    preference: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Improve an integer design until no exact assignment, move or grid step helps.

    Args:
        objective: exact objective.
        preference: [5].
        ordinals: [ordinals] integers.
        assignment: [layers].
        free: [ordinals] which ordinals may change.

    Returns:
        [ordinals] and [layers] of the improved design.
    """
    shape = objective.shape
    ordinals, assignment = ordinals.copy(), assignment.copy()
    best = _values(objective, preference, ordinals[:, None], assignment[:, None])[0]
    compared = None  # the ordinals at which no contiguous assignment is better
    for _ in range(MOST_ROUNDS):
        before = best
        options = single_moves(assignment, shape.cores)
        if compared is None or not np.array_equal(compared, ordinals):
            contiguous = contiguous_candidates(objective.problem, ordinals)
            options = np.concatenate([contiguous, options], axis=1)
            compared = ordinals
        values = _values(
            objective, preference, np.repeat(ordinals[:, None], options.shape[1], 1), options
        )
        choice = int(np.argmin(values))
        if values[choice] < best:
            assignment, best = options[:, choice].copy(), values[choice]
        ordinals, best = _best_ordinals(objective, preference, ordinals, assignment, free)
        if not best < before:
            break
    return ordinals, assignment


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
    return excess(values[0], values[1:].min())


def certify(
    objective: DesignObjective, preference: np.ndarray, ordinals: np.ndarray, assignment: np.ndarray
) -> tuple[np.ndarray, float]:
    """The best of all assignments, contiguous or not, that make the same network.

    The network, and so its accuracy, depends on which bottlenecks are crossed alone: among the
    assignments that cross the same ones only costs differ, and the optimum is proved by listing.

    Returns:
        [layers] that assignment, the given one if none is better, and how far the given one is
        from it (exp of the difference of the objectives, less 1); where there are too many to
        list, the given one and not a number.
    """
    options = list_same_network(objective, assignment)
    if options is None:
        return assignment, float("nan")
    tiled = np.repeat(ordinals[:, None], 1 + options.shape[1], axis=1)
    options = np.concatenate([assignment[:, None], options], axis=1)
    values = _values(objective, preference, tiled, options)
    best = int(np.argmin(values))
    if values[0] - values[best] <= ROUNDING:  # equal cores exchanged
        return assignment, 0.0
    return options[:, best], excess(values[0], values[best])


def list_same_network(objective: DesignObjective, assignment: np.ndarray) -> np.ndarray | None:
    """[layers, count] assignments that cross the same bottlenecks as one, up to equal cores.

    Layers on both sides of a bottleneck that is not crossed stay together, those on the sides of
    one that is crossed stay apart; all else is free. None where that leaves more than `LISTED`.
    """
    problem, cores = objective.problem, objective.shape.cores
    group = np.arange(len(assignment))
    apart = []
    for number in objective.edge_index:
        edge = problem.edges[number]
        made, read = problem.workload.tensors[edge.tensor].producer, edge.consumer
        if made < 0:
            continue
        if assignment[made] != assignment[read]:
            apart.append((made, read))
        else:
            group = np.where(group == group[read], group[made], group)
    _, group = np.unique(group, return_inverse=True)
    pairs = {(min(group[a], group[b]), max(group[a], group[b])) for a, b in apart}
    # cores of one type can be exchanged where all share one bus: they are taken in order
    kinds = problem.core_types if len(problem.chip.links) == 1 else np.arange(cores)
    twins = [sum(1 << c for c in range(k) if kinds[c] == kinds[k]) for k in range(cores)]
    found, used = np.zeros((0, 1), int), np.zeros(1, int)
    for number in range(int(group.max()) + 1):
        core = np.tile(np.arange(cores), found.shape[1])
        found, used = np.repeat(found, cores, axis=1), np.repeat(used, cores)
        fits = np.array(twins)[core] & ~used == 0
        for first, last in pairs:
            if last == number:
                fits &= found[first] != core
        found = np.concatenate([found[:, fits], core[None, fits]])
        used = used[fits] | (1 << core[fits])
        if found.shape[1] > LISTED:
            return None
    return found[group]


def single_moves(assignment: np.ndarray, cores: int) -> np.ndarray:
    """[layers, layers * cores] every assignment that puts one layer elsewhere."""
    layers = len(assignment)
    moved = np.repeat(assignment[:, None], layers * cores, axis=1)
    layer, core = np.divmod(np.arange(layers * cores), cores)
    moved[layer, np.arange(layers * cores)] = core
    return moved


def _best_ordinals(
    objective: DesignObjective,
    preference: np.ndarray,
    ordinals: np.ndarray,
    assignment: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Coordinate search over the free ordinals of one design, its assignment held."""

    def value(trial: np.ndarray) -> np.ndarray:
        tiled = np.repeat(assignment[:, None], trial.shape[1], axis=1)
        return _values(objective, preference, trial, tiled)

    shape: Shape = objective.shape
    return coordinate_search(value, ordinals, free, shape.ordinal_low, shape.ordinal_high)


def coordinate_search(
    value: Callable[[np.ndarray], np.ndarray],
    ordinals: np.ndarray,
    free: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Best single change of one ordinal, to any value of its grid, until none helps.

    Args:
        value: [n, trials] to the numbers [trials] to minimise.
        ordinals: [n] integers to begin with.
        free: [n] which may change.
        low, high: [n] ends of each grid.

    Returns:
        [n] the best ordinals, and their value.
    """
    while True:
        columns = [ordinals]
        for i in np.flatnonzero(free):
            for number in range(int(low[i]), int(high[i]) + 1):
                if number != ordinals[i]:
                    changed = ordinals.copy()
                    changed[i] = number
                    columns.append(changed)
        trial = np.stack(columns, axis=1)
        values = value(trial)
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


def excess(worse: float, better: float) -> float:
    """exp of a difference of objectives, less 1; objectives are weighted logs of costs.

    Infinite where the worse one exceeds a budget.
    """
    with np.errstate(over="ignore"):
        return 0.0 if worse == better else float(np.expm1(worse - better))
