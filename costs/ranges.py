"""Between which values the multipliers of a choice lie, before tilings are listed and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from costs.layer import RELEVANT
from costs.orders import Structure
from costs.parts import Part
from costs.tilings import Choice
from costs.window_parts import count_rows

Range = tuple[np.ndarray, np.ndarray]
"""Smallest and largest multiplier of every column, `(columns,)` or `(orders, columns)`."""


def calc_line_range(structure: Structure, sizes: tuple[int, ...], dim: str, bound: int) -> Range:
    """Range of the multipliers of one dimension, those of tiles and extents at least 1.

    Columns are those of `costs.parts`; an upper end that no bound asks for is infinite.
    """
    lanes = {a[0]: n for a, n in zip(structure.axes, sizes, strict=True) if dim in a[1]}

    def most_lanes(axes: tuple[str, ...]) -> float:
        return float(min(bound, math.prod(lanes.get(axis, 1) for axis in axes)))

    every = structure.replicated_axes("")
    ranges: list[tuple[float, float]] = [(math.ceil(bound / most_lanes(every)), math.inf)]
    for operand, _, _ in structure.edges:
        words = float(bound) if dim in RELEVANT[operand] else 1.0
        ranges += [(words, math.inf)] * 2
    if structure.view != "usual":
        words = float(bound) if dim in RELEVANT["I"] else 1.0
        ranges += [(0.5, 1.0)] * len(structure.anchors)
        ranges += [(words, math.inf)] * 2 * len(structure.input_edges)
    for operand, level in structure.anchors:
        if operand == "O":
            relevant = dim in RELEVANT["O"]
            ranges.append((1, 1 if relevant else most_lanes(structure.replicated_axes(level))))
    ranges += [(1, most_lanes(structure.replicated_axes(level))) for level in structure.throttled]
    for operand, _ in structure.anchors:
        ranges.append((1, bound if dim in RELEVANT[operand] else 1))
    ranges += [(1, most_lanes((name,))) for name in every]
    least, most = np.array(ranges, float).T
    return least, most


def calc_range(structure: Structure, sizes: tuple[int, ...], choice: Choice) -> Range:
    """Range of the multipliers of a choice."""
    ranges = [
        calc_line_range(structure, sizes, dim, bound)
        for dim, bound in zip(choice.dims, choice.bounds, strict=True)
    ]
    if len(ranges) == 1:
        return ranges[0]
    least, most = ranges[0][0] * ranges[1][0], ranges[0][1] * ranges[1][1]
    out, kernel = choice.bounds
    least[input_columns(structure)] = count_rows(out, kernel, choice.pace)
    for number, (operand, _) in enumerate(structure.anchors):
        if operand == "I":
            span = (out - 1) * choice.pace[0] + (kernel - 1) * choice.pace[1] + 1
            rows = structure.most_rows[choice.dims[0] == "Q"]
            most[structure.first_tile + number] = min(span, rows)
    return least, most


def calc_other_range(structure: Structure, sizes: tuple[int, ...], dim: str, bound: int) -> Range:
    """Range of one dimension of a window beside a `window_line_part` of the other."""
    least, most = calc_line_range(structure, sizes, dim, bound)
    least[input_columns(structure)] = 1.0
    return least, most


def input_columns(structure: Structure) -> list[int]:
    """Columns of the words of input tiles."""
    return [c for edge in structure.input_edges for c in structure.input_columns(edge)]


def calc_extremes(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest multiplier of every column in every order, `(orders, columns)`."""
    shape = (len(part.totals), part.values.shape[1])
    # an order without rows has no future: nothing else is asked of it
    least, most = np.full(shape, math.inf), np.ones(shape)
    begin = np.searchsorted(part.order, np.arange(shape[0]))
    there = np.unique(part.order)
    if there.size:
        least[there] = np.minimum.reduceat(part.values, begin[there], axis=0)
        most[there] = np.maximum.reduceat(part.values, begin[there], axis=0)
    return least, most


def calc_product(
    ranges: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Range of the product of several parts; nothing without any."""
    if not ranges:
        return None, None
    least, most = np.ones(ranges[0][0].shape), np.ones(ranges[0][0].shape)
    for low, high in ranges:
        least, most = least * low, most * high
    return least, most
