"""Joins of rows for a grid of cores: half of the cores after the other.

What one core cannot use is known only where the others do not ask for it, and a mapping found for
one core is at once an incumbent of the others. So a grid lists its tilings once and then costs
little more than its cores one by one, a few rows each (docs/theory/mapping_space.md).
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np

from costs.parts import Part, in_dim_order, stack_parts

if TYPE_CHECKING:
    from costs.search import Search


def join_by_halves(search: Search, parts: list[Part]) -> Part:
    """Rows of all dimensions, those that are best on some core among them.

    Args:
        search: a search for several cores, whose incumbents fall.
        parts: rows of every choice.
    """
    pieces = []
    for points in np.array_split(np.arange(len(search.incumbent)), 2):
        half = _at(search, points)
        rows = in_dim_order(half.join(half.trim(parts)))
        search.incumbent[points] = half.incumbent
        search.incumbent = np.minimum(search.incumbent, _calc_least(search, rows))
        search.unfit += half.unfit
        search.dominated += half.dominated
        search.bounded += half.bounded
        pieces.append(rows)
    return stack_parts(pieces)


def _at(search: Search, points: np.ndarray) -> Search:
    """The same search for some of the cores."""
    some = copy.copy(search)
    some.cost = search.cost.at(points)
    some.hardware = some.cost.hardware
    some.incumbent = search.incumbent[points]
    some.alone = len(points) == 1 and search.cost.objective != "latency"
    some.unfit = some.dominated = some.bounded = 0
    return some


def _calc_least(search: Search, rows: Part) -> np.ndarray:
    """`(points,)` the least objective of complete rows; infinite where none fits."""
    able = search.cost.fits(rows.values, rows.values)
    reached = search.cost.objective_bound(rows.values, rows.values)[:, search.hardware.kind]
    return np.where(able, reached, math.inf).min(axis=0, initial=math.inf)
