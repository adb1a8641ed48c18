"""The layer-distribution algorithm for cores of one type: no dynamic program.

An interval T can be kept by k cores if filling core after core as far as T allows reaches the
end: where a stage's time grows with its layers this greedy probe is exact, and bisection over T
finds the optimum. Links make a stage's time fall where its last layer hands on a small tensor, so
a probe takes the last end that T allows, not the one before the first that it does not. What
probes may still miss is mended by moving one cut anywhere between its neighbours as long as the
interval falls. (Maleki, Kamal, Afzali-Kusha, arXiv 2206.12605, report a distribution algorithm near
the optimum but not how it works; this one is this project's own.)
"""

from __future__ import annotations

import numpy as np

from costs.distribution import Partition
from costs.stages import StageCosts

PRECISION = 1e-4  # of the bisection, relative; cut moves and exact stage times do the rest


def distribute(costs: StageCosts, cores: int) -> Partition:
    """Contiguous stages of nearly least interval on equal cores.

    Args:
        costs: of every stage; the first core's are used for all.
        cores: how many there are; fewer may be used.
    """
    time, shared = costs.time_s[0], costs.shared_s[:, 0]
    edges = len(time)
    low, high = 0.0, float(time[0, -1])
    if not np.isfinite(
        high
    ):  # all layers do not fit one core: any interval that finite stages have
        high = float(time[np.isfinite(time)].max())
    best = _probe(time, high, cores)
    while best is not None and high - low > PRECISION * high:
        middle = (low + high) / 2
        found = _probe(time, middle, cores)
        if found is None:
            low = middle
        else:
            best, high = found, _longest(time, found)
    if best is None:
        best = np.minimum(np.arange(cores + 1) * -(-(edges - 1) // cores), edges - 1)
    cuts = _move_cuts(time, shared, best)
    assignment = np.searchsorted(cuts[1:], np.arange(edges - 1), side="right")
    return Partition(assignment, max(_interval(time, shared, cuts), costs.floor_s))


def _probe(time: np.ndarray, interval: float, cores: int) -> np.ndarray | None:
    """[cores + 1] cuts that keep the interval, each stage as long as it can be; None if none do."""
    last = len(time) - 1
    cuts = [0]
    for _ in range(cores):
        allowed = np.flatnonzero(time[cuts[-1]] <= interval)
        if not len(allowed) or allowed[-1] == cuts[-1] < last:
            return None
        cuts.append(int(allowed[-1]))
    return np.array(cuts) if cuts[-1] == last else None


def _move_cuts(time: np.ndarray, shared: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Cuts after moves of single cuts until none lowers (interval, sum of squared stage times)."""
    key = _key(time, shared, cuts)
    while True:
        options = []
        for n in range(1, len(cuts) - 1):
            for place in range(cuts[n - 1], cuts[n + 1] + 1):
                moved = cuts.copy()
                moved[n] = place
                options.append((_key(time, shared, moved), place, n))
        if not options:
            return cuts
        best, place, n = min(options)
        if not best < key:
            return cuts
        cuts, key = cuts.copy(), best
        cuts[n] = place


def _longest(time: np.ndarray, cuts: np.ndarray) -> float:
    return float(time[cuts[:-1], cuts[1:]].max())


def _interval(time: np.ndarray, shared: np.ndarray, cuts: np.ndarray) -> float:
    sums = shared[:, cuts[:-1], cuts[1:]].sum(axis=1)
    return max(_longest(time, cuts), float(sums.max(initial=0.0)))


def _key(time: np.ndarray, shared: np.ndarray, cuts: np.ndarray) -> tuple[float, float]:
    return _interval(time, shared, cuts), float((time[cuts[:-1], cuts[1:]] ** 2).sum())
