"""Moves and swaps priced by the whole chip model: for latency and for crowded memories.

What `costs.local_search` does on an instance, on `costs.chip_cost` itself: slower, and with nothing
left out.
"""

from __future__ import annotations

import numpy as np

from costs.chip_cost import calc_chip_cost
from costs.local_search import list_neighbours
from costs.problem import Problem


def improve_exactly(
    problem: Problem, widths: np.ndarray, knobs: np.ndarray, assignment: np.ndarray, cost: str
) -> np.ndarray:
    """The assignment after moves and swaps until none lowers a cost.

    Args:
        problem: workload, chip, tables.
        widths: [boundaries] integers.
        knobs: [types, knobs] grid indices.
        assignment: [layers] where to start.
        cost: a name of what `calc_chip_cost` returns for each design.

    Returns:
        [layers].
    """
    cores = len(problem.chip.cores)
    value = np.inf
    options = assignment[:, None]
    while options.shape[1]:
        count = options.shape[1]
        tiled = np.repeat(widths[:, None], count, 1), options, np.repeat(knobs[..., None], count, 2)
        found = calc_chip_cost(problem, *tiled)[cost]
        best = int(np.argmin(found))
        if not found[best] < value:
            break
        assignment, value = options[:, best], found[best]
        options = list_neighbours(assignment, cores)
    return assignment
