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

MANY = 1_000_000
"""Tilings of a dimension, loop by loop, that are too many to be looked at."""


class TooMany(Exception):
    """A dimension has too many tilings, loop by loop."""


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

    def take(self, rows: np.ndarray) -> Factors:
        """Some of the tilings."""
        return Factors(self.bound, self.signature, self.factors[rows], self.inner[rows])


def _shortest(count: int) -> list[int]:
    """Factors that are the smallest ones to reduce `count` tiles to as many tiles as they do."""
    factors, tiles = [], 0
    for factor in range(1, count + 1):
        if (reached := -(-count // factor)) != tiles:
            factors.append(factor)
            tiles = reached
    return factors


def _options(
    bound: int, inside: int, *, spatial: bool, loose: bool, limit: float, tails: bool = False
) -> list[int]:
    """Factors of one element whose inner tile has `inside` points.

    Args:
        bound: bound of the dimension.
        inside: points of the tile inside the element.
        spatial: whether the element is an array axis.
        loose: whether every factor must be kept: a temporal element inside an axis, or an axis
            with temporal factors inside, where lanes run in lockstep and a longer tile can save a
            step of a partial last group (docs/theory/mapping_space.md, lemma 3).
        limit: largest factor (the size of an axis).
        tails: whether to keep factors whose last piece is a single tile, too.
    """
    count = -(-bound // inside)
    factors = list(range(1, count + 1)) if loose else _shortest(count)
    if tails and not loose:
        factors = sorted({*factors, *(m for m in range(2, count) if count % m == 1)})
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


@lru_cache(maxsize=256)
def enumerate_loops(
    bound: int, signature: str, limits: tuple[int, ...], room: tuple[float, ...],
    *, tails: int | None = None, parted: bool = False,
) -> Factors:  # fmt: skip
    """Enumerates every tiling of a dimension whose real counts none of the others has.

    Factors are the shortest or leave a last piece of a single tile; "+" is another loop of the
    stretch that ends with the next "t", there only where the loop inside it leaves such a piece.

    Args:
        bound: bound of the dimension.
        signature: as in `enumerate_factors`.
        limits: largest factor of each spatial element, outermost first.
        room: for each element the most points that fit inside its outer end.
        tails: number of elements outside the innermost tile that the dimension indexes; then those
            are enough whose bounds none of the others has. All by default.
        parted: whether a stretch may have several loops without a tail, too, where they divide the
            bound: loops of another dimension between them may carry overlap.

    Raises:
        TooMany: there are more than `MANY`.
    """
    rows = np.ones((1, 0), np.int64)
    inside = np.ones(1, np.int64)
    spatial_left = list(limits)
    for position in range(len(signature) - 1, -1, -1):
        letter = signature[position]
        spatial = letter in "xX"
        limit = spatial_left.pop() if spatial else 0
        axis_outside = "x" in signature[:position].lower()
        inner = rows[:, 0] if letter == "+" else np.zeros(len(rows), np.int64)
        pieces, sizes = [], []
        order = np.lexsort((inner, inside))
        new = np.flatnonzero((np.diff(inside[order]) != 0) | (np.diff(inner[order]) != 0)) + 1
        for alike in np.split(order, new):
            size, within = int(inside[alike[0]]), int(inner[alike[0]])
            loose = (spatial and (size > 1 or letter == "X")) or (not spatial and axis_outside)
            count = -(-bound // size)
            if position == 0:
                options = [count]
            elif letter == "+" and (
                within == 1
                or not (
                    loose
                    or -(-bound * within // size) % within == 1
                    or (parted and bound % size == 0)
                )
            ):
                options = [1]
            else:
                options = _options(
                    bound, size, spatial=spatial, loose=loose, limit=limit,
                    tails=not spatial and (tails is None or (letter == "t" and position < tails)),
                )  # fmt: skip
            factors = np.array(options, np.int64)
            factors = factors[np.minimum(bound, factors * size) <= room[position]]
            mine = rows[alike]
            a, b = np.divmod(np.arange(len(mine) * len(factors)), max(1, len(factors)))
            pieces.append(np.concatenate([factors[b, None], mine[a]], axis=1))
            sizes.append(factors[b] * size)
        rows, inside = np.concatenate(pieces), np.concatenate(sizes)
        if tails is not None and (position == 0 or (spatial and not axis_outside)):
            # outside are loops alone: what the last of their tiles leaves is known
            useful = _split_for_tails(bound, signature[position:], rows, inside)
            rows, inside = rows[useful], inside[useful]
        if len(rows) > (MANY // 5 if tails is None else MANY):
            raise TooMany
    inner = np.ones((len(rows), len(signature) + 1))
    inner[:, :-1] = np.cumprod(rows[:, ::-1], axis=1)[:, ::-1]
    return Factors(bound, signature, rows.astype(np.float64), inner)


def _split_for_tails(
    bound: int, signature: str, rows: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Whether the inner loop of every stretch of two has a tail.

    Args:
        bound: bound of the dimension.
        signature: elements from an axis, or from the first one, to the innermost.
        rows: `(tilings, elements)` their factors.
        inside: `(tilings,)` products of these.
    """
    useful = np.ones(len(rows), bool)
    split = np.flatnonzero((rows[:, [e == "+" for e in signature]] > 1).any(axis=1))
    rest = bound - (-(-bound // inside[split]) - 1) * inside[split]
    place = inside[split]
    fine = np.ones(len(split), bool)
    parted = np.zeros(len(split), bool)
    for position, letter in enumerate(signature):
        factor = rows[split, position]
        place = place // factor
        if letter in "xX":
            rest = np.minimum(rest, place)
            continue
        digit = (rest - 1) // place
        rest = rest - digit * place
        # where the loop outside it in the stretch runs this one must end with a single tile
        fine &= ~parted | ((digit == 0) & (factor > 1))
        parted = (factor > 1) & (letter == "+")
    useful[split] = fine
    return useful


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


def measure_tails(tilings: Factors, free: tuple[bool, ...]) -> np.ndarray:
    """Points left for the last piece where the innermost free element of several has one there.

    Args:
        tilings: the tilings.
        free: whether each element runs; axes do not.

    Returns:
        `(tilings,)` at least the points of the last tile; 0 where it is not by itself.
    """
    tail = np.zeros(len(tilings.factors), bool)
    rest = np.full(len(tail), float(tilings.bound))
    left = rest.copy()
    for position, runs in enumerate(free):
        place = tilings.inner[:, position + 1]
        if runs:
            last = np.floor((rest - 0.5) / place)
            tail = np.where(tilings.factors[:, position] > 1, last == 0, tail)
            rest = rest - last * place
            left = left - last * place
        else:
            rest = np.minimum(rest, place)
    return np.where(tail, left, 0.0)
