"""Layers in a row distributed over cores in contiguous stages: exact, and by a fast algorithm.

The interval of a partition is the largest of its stages' times and of the sum of what stages add to
a shared resource. `solve_stages` is the dynamic program

    F[k, e] = min over s of max(F[k - 1, s], time[k, s, e])

over ordered cores, or over sets of unordered ones (F[set, e], the last core of the set chosen too).
With a shared resource the program instead minimises the sum under a limit on the stage time; as the
limit rises the least sum falls, so a bisection over the stage times that occur ends at the exact
optimum. With two (a bus and the DRAM) each is solved without the other, which bounds both; where
neither answer is that good in the other, labels of both sums decide.

`costs.distribute` is for cores of one type and runs no dynamic program: it bisects the interval,
fills core after core as far as the interval allows, then moves cuts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from costs.errors import InputError
from costs.stages import StageCosts

UNORDERED_CORES = 12  # sets of cores are listed


@dataclass(frozen=True)
class Partition:
    """Layers in contiguous stages.

    Attributes:
        assignment: [layers] core of each layer.
        interval_s: the longest stage, or the shared resource [s].
    """

    assignment: np.ndarray
    interval_s: float


def solve_stages(costs: StageCosts, *, ordered: bool, use_all: bool = False) -> Partition:
    """The contiguous partition of least interval.

    Args:
        costs: of every stage on every core.
        ordered: stages stand on the cores in order (cores may be skipped); else on any of them.
        use_all: every core gets at least one layer.

    Raises:
        InputError: if there are more cores to use than layers, no partition fits, or there are too
            many unordered cores.
    """
    cores, layers = len(costs.time_s), costs.time_s.shape[1] - 1
    if use_all:
        check_stages(cores, layers)
    if not ordered and cores > UNORDERED_CORES:
        raise InputError(
            "too many cores to try in every order: order them, or solve as milp",
            key="cores",
            value=cores,
            allowed=f"at most {UNORDERED_CORES}",
        )
    time = costs.time_s.copy()
    if use_all:
        time[:, np.arange(layers + 1), np.arange(layers + 1)] = np.inf
    find = _find_ordered if ordered else _find_unordered
    value, fastest = find(time, None)
    if not np.isfinite(value):
        raise InputError(
            "no contiguous partition fits the memories: enlarge them or solve as milp",
            key="cores",
            value=cores,
        )
    known = [fastest]
    bound = max(float(value), costs.floor_s)
    for shared in costs.shared_s:
        alone, path = _bisect(shared, time, find, float(value), fastest)
        known.append(path)
        bound = max(bound, alone)
    best = min(known, key=lambda path: _interval(costs, path))
    if _interval(costs, best) > bound:
        best = _find_labels(costs, best, ordered=ordered, use_all=use_all)
    return Partition(_assignment(best, layers), _interval(costs, best))


def check_stages(stages: int, layers: int) -> None:
    """Refuse more stages than there are layers.

    Raises:
        InputError: saying how many there may be.
    """
    if stages > layers:
        raise InputError(
            "more stages than layers: name fewer cores, or split layers",
            key="stages",
            value=stages,
            allowed=f"at most {layers}",
        )


def _bisect(shared, time, find, low, path) -> tuple[float, Path]:
    """The best of max(stage time, shared sum) by bisection over the stage times that occur."""
    levels = np.unique(time[np.isfinite(time) & (time >= low)])
    best_path, best = path, max(low, _sum(shared, path))
    first, last = 0, len(levels) - 1
    while first <= last:
        middle = (first + last) // 2
        allowed = np.where(time <= levels[middle], shared, np.inf)
        total, path = find(allowed, sum)
        slowest = max(time[core, s, e] for core, s, e in path)
        if max(slowest, total) < best:
            best_path, best = path, float(max(slowest, total))
        if total > levels[middle]:
            first = middle + 1
        else:
            last = middle - 1
    return best, best_path


Path = list[tuple[int, int, int]]
"""(core, first layer, last layer + 1) of each stage."""
Label = tuple[np.ndarray, Path]
"""Slowest stage and shared sums of the stages so far [s], and the stages."""


def _join(before: np.ndarray, cost: np.ndarray, together) -> tuple[np.ndarray, np.ndarray]:
    """[ends] least over starts of before[start] joined with cost[start, end], and its start."""
    grown = np.maximum(before[:, None], cost) if together is None else before[:, None] + cost
    start = grown.argmin(axis=0)
    return grown[start, np.arange(grown.shape[1])], start


def _find_ordered(cost: np.ndarray, together) -> tuple[float, Path]:
    """The best path over cores in order."""
    cores, edges = cost.shape[:2]
    value = np.full(edges, np.inf)
    value[0] = 0.0
    starts = []
    for core in range(cores):
        value, start = _join(value, cost[core], together)
        starts.append(start)
    path, end = [], edges - 1
    for core in reversed(range(cores)):
        path.append((core, int(starts[core][end]), end))
        end = int(starts[core][end])
    return float(value[-1]), path[::-1]


def _find_unordered(cost: np.ndarray, together) -> tuple[float, Path]:
    """The best path over cores in any order, by sets of cores used."""
    cores, edges = cost.shape[:2]
    value = np.full((1 << cores, edges), np.inf)
    value[0, 0] = 0.0
    start = np.zeros((1 << cores, edges), int)
    last = np.zeros((1 << cores, edges), int)
    for used in range(1, 1 << cores):
        for core in range(cores):
            if not used >> core & 1:
                continue
            found, begin = _join(value[used ^ (1 << core)], cost[core], together)
            better = found < value[used]
            value[used] = np.where(better, found, value[used])
            start[used] = np.where(better, begin, start[used])
            last[used] = np.where(better, core, last[used])
    path, used, end = [], (1 << cores) - 1, edges - 1
    best = value[-1, -1]
    while used:
        core, begin = int(last[used, end]), int(start[used, end])
        path.append((core, begin, end))
        used, end = used ^ (1 << core), begin
    return float(best), path[::-1]


def _find_labels(costs: StageCosts, path: Path, *, ordered: bool, use_all: bool) -> Path:
    """The best path where several shared sums bind: labels (slowest stage, sums), non-dominated.

    Args:
        costs: of every stage.
        path: of a known interval, which labels must stay below.
        ordered: cores in order, else any.
        use_all: no core is left out.
    """
    cores, edges = costs.time_s.shape[:2]
    best = _interval(costs, path)
    least = np.zeros((len(costs.shared_s), edges))  # of what is left, were every core free
    for start in reversed(range(edges - 1)):
        ahead = costs.shared_s[:, :, start, start + 1 :] + least[:, None, start + 1 :]
        least[:, start] = ahead.min(axis=(1, 2))
    labels: list[dict[tuple[int, ...], list[Label]]] = [{} for _ in range(edges)]
    labels[0][()] = [(np.zeros(1 + len(costs.shared_s)), [])]
    for end, of_cores in enumerate(labels[:-1]):
        for used, found in of_cores.items():
            at_least = used[-1] + 1 if ordered and used else 0
            free = [core for core in range(at_least, cores) if core not in used]
            if ordered and use_all:
                free = free[:1]
            steps = [(core, end, after) for core in free for after in range(end + 1, edges)]
            for (vector, stages), step in itertools.product(_non_dominated(found), steps):
                sums = vector[1:] + costs.shared_s[:, *step]
                grown = np.append(max(vector[0], costs.time_s[step]), sums)
                after = step[2]
                if max(grown[0], (sums + least[:, after]).max()) >= best:
                    continue
                now = (step[0],) if ordered else tuple(sorted((*used, step[0])))
                if after < edges - 1:
                    labels[after].setdefault(now, []).append((grown, [*stages, step]))
                elif not use_all or len(stages) + 1 == cores:
                    path, best = [*stages, step], _interval(costs, [*stages, step])
    return path


def _non_dominated(labels: list[Label]) -> list[Label]:
    kept: list[Label] = []
    for vector, path in sorted(labels, key=lambda label: tuple(label[0])):
        if not any((other <= vector).all() for other, _ in kept):
            kept.append((vector, path))
    return kept


def _sum(shared: np.ndarray, path: Path) -> float:
    return float(sum(shared[stage] for stage in path))


def _interval(costs: StageCosts, path: Path) -> float:
    slowest = max((float(costs.time_s[stage]) for stage in path), default=0.0)
    return max(slowest, costs.floor_s, *(_sum(shared, path) for shared in costs.shared_s))


def _assignment(path: Path, layers: int) -> np.ndarray:
    assignment = np.zeros(layers, int)
    for core, start, end in path:
        assignment[start:end] = core
    return assignment
