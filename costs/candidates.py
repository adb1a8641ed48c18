"""Integer tilings of one loop dimension along an order of storage positions.

A mapping is described from outside to inside by *elements*: stretches of temporal loops
("segments"), array axes, and the storage positions of operands ("anchors") between them. In such
an order every count a mapping causes is a product over the dimensions, so that dimensions can be
enumerated one at a time; this file enumerates the factors of one dimension and counts tiles.
`costs.search` joins the dimensions. The reductions made here are proven in
docs/theory/mapping_space.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Factors:
    """All integer tilings of one dimension along one signature of elements.

    Attributes:
        bound: the dimension's bound.
        signature: one letter per element, outermost first: "t" temporal, "x" or "X" spatial.
        factors: `(tilings, elements)` factor of each element, float64 holding integers.
        inner: `(tilings, elements + 1)` tile size inside each element; the last is 1, the first is
            the product of all factors (at least the bound).
    """

    bound: int
    signature: str
    factors: np.ndarray
    inner: np.ndarray


def _shortest(count: int) -> list[int]:
    """Factors that are the smallest ones to reduce `count` tiles to as many tiles as they do."""
    factors, tiles = [], 0
    for factor in range(1, count + 1):
        if (reached := -(-count // factor)) != tiles:
            factors.append(factor)
            tiles = reached
    return factors


def _options(bound: int, inside: int, *, spatial: bool, loose: bool, limit: float) -> list[int]:
    """Factors of one element whose inner tile has `inside` points.

    Args:
        bound: bound of the dimension.
        inside: points of the tile inside the element.
        spatial: whether the element is an array axis.
        loose: whether every factor must be kept: a temporal element inside an axis, or an axis
            with temporal factors inside, where lanes run in lockstep and a longer tile can save a
            step of a partial last group (docs/theory/mapping_space.md, lemma 3).
        limit: largest factor (the size of an axis).
    """
    count = -(-bound // inside)
    factors = list(range(1, count + 1)) if loose else _shortest(count)
    return [factor for factor in factors if not spatial or factor <= limit]


def _thin(bound: int, options: list[int]) -> list[int]:
    """One factor for about every power of four of tiles that are left, and the largest."""
    marks = {-(-bound // 4**k) for k in range(bound.bit_length() // 2 + 1)} | {1, options[-1]}
    return [factor for factor in options if factor in marks]


@lru_cache(maxsize=1024)
def enumerate_factors(
    bound: int, signature: str, limits: tuple[int, ...], coarse: bool = False
) -> Factors:
    """Enumerates every tiling of a dimension that no other one can replace.

    Args:
        bound: bound of the dimension.
        signature: elements from outside to inside, "t" temporal, "x" spatial, "X" spatial where
            more lanes may be better though steps are the same; the first is temporal and takes
            what the others leave.
        limits: largest factor of each spatial element, outermost first.
        coarse: only a few factors far apart, to begin with.
    """
    rows: list[tuple[int, ...]] = [()]
    inside = [1]
    spatial_left = list(limits)
    for position in range(len(signature) - 1, 0, -1):
        spatial = signature[position] in "xX"
        limit = spatial_left.pop() if spatial else 0
        axis_outside = "x" in signature[:position].lower()
        extended, sizes = [], []
        cache: dict[tuple[int, bool], list[int]] = {}
        for row, size in zip(rows, inside, strict=True):
            loose = (spatial and (size > 1 or signature[position] == "X")) or (
                not spatial and axis_outside
            )
            key = (size, loose)
            if key not in cache:
                options = _options(bound, size, spatial=spatial, loose=loose, limit=limit)
                cache[key] = _thin(-(-bound // size), options) if coarse else options
            for factor in cache[key]:
                extended.append((factor, *row))
                sizes.append(size * factor)
        rows, inside = extended, sizes
    full = [(-(-bound // size), *row) for row, size in zip(rows, inside, strict=True)]
    factors = np.array(full, np.float64).reshape(len(full), len(signature))
    inner = np.ones((len(full), len(signature) + 1))
    for position in range(len(signature) - 1, -1, -1):
        inner[:, position] = inner[:, position + 1] * factors[:, position]
    return Factors(bound, signature, factors, inner)


def count_valid(tilings: Factors, free: tuple[bool, ...]) -> np.ndarray:
    """Settings of the free elements, the others being 0, whose index is below the bound.

    With the elements outside a tile free this is the number of tiles, with those inside it the
    points of a full tile. An axis that is not free stands for lanes that work in lockstep.

    Args:
        tilings: the tilings.
        free: whether each element runs.

    Returns:
        `(tilings,)` number of settings, at least 1.
    """
    rows = len(tilings.factors)
    steps = np.ones((rows, len(free) + 1))
    for position in range(len(free) - 1, -1, -1):
        factor = tilings.factors[:, position] if free[position] else 1.0
        steps[:, position] = steps[:, position + 1] * factor
    total = np.ones(rows)
    rest = np.full(rows, float(tilings.bound))
    for position, runs in enumerate(free):
        place = tilings.inner[:, position + 1]
        if runs:
            last = np.floor((rest - 0.5) / place)
            total = total + last * steps[:, position + 1]
            rest = rest - last * place
        else:
            rest = np.minimum(rest, place)
    return total
