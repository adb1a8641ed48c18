"""Tilings of each dimension in all orders of storage positions, kept between layers.

They follow from the bounds, the kind of core and its largest sizes alone, so that the layers of a
network and the widths of a table share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from costs.line import Line
from costs.orders import Structure, list_orders
from costs.pareto import find_nondominated
from costs.parts import WINDOWS, Part, simple_part, stack_parts, window_part

EFFORT = 2000
"""Rows compared with all others when dominated ones are removed from a large set."""


@lru_cache(maxsize=4096)
def list_simple(
    structure: Structure,
    sizes: tuple[int, ...],
    most_words: tuple[float, ...],
    dim: str,
    bound: int,
) -> Part:
    """Rows of a dimension that does not slide, in all orders, without dominated ones."""
    axes = {a[0]: n for a, n in zip(structure.axes, sizes, strict=True)}
    return _undominated(
        structure,
        sizes,
        most_words,
        [
            simple_part(structure, order, Line(structure, order, dim, bound, axes))
            for order in list_orders(structure)
        ],
    )


@lru_cache(maxsize=1024)
def list_windows(
    structure: Structure,
    sizes: tuple[int, ...],
    most_words: tuple[float, ...],
    axis: int,
    outputs: int,
    kernel: int,
    stride: int,
    dilation: int,
    overlap: bool,
) -> Part:
    """Rows of an output dimension with the kernel's, in all orders, without dominated ones."""
    axes = {a[0]: n for a, n in zip(structure.axes, sizes, strict=True)}
    out, slide = WINDOWS[axis][:2]
    return _undominated(
        structure,
        sizes,
        most_words,
        [
            window_part(
                structure,
                order,
                Line(structure, order, out, outputs, axes, slides=kernel > 1),
                Line(structure, order, slide, kernel, axes, slides=kernel > 1),
                (stride, dilation),
                overlap,
                np.array([*most_words, *sizes]),
            )
            for order in list_orders(structure)
        ],
    )


def _undominated(
    structure: Structure,
    sizes: tuple[int, ...],
    most_words: tuple[float, ...],
    parts: Sequence[Part],
) -> Part:
    """The rows of all orders, less those too large for any hardware or dominated in their order."""
    kept = []
    totals = np.concatenate([part.totals for part in parts])
    limits = np.array([*most_words, *sizes])
    for number, part in enumerate(parts):
        rows = np.flatnonzero((part.values[:, structure.first_tile :] <= limits).all(axis=1))
        values = part.values[rows].copy()
        values[:, structure.first_held : structure.first_tile] *= -1
        marks = part.flagged[rows] > 0
        rows = rows[find_nondominated(np.concatenate([values, marks], axis=1), EFFORT)]
        kept.append(replace(part.take(rows), order=np.full(len(rows), number), totals=totals))
    return stack_parts(kept)
