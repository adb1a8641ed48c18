"""Overlap of input tiles that Timeloop keeps over loops outside the innermost one, at most.

With perfect factors along a window it keeps the overlap over a loop whose step, less those of the
loops of the window inside it, is the innermost's (equation (9) of docs/theory/access_counts.md,
lemma 9 of docs/theory/mapping_space.md). Where loops of one stretch stand and into which factors
they are parted is open here: the most of all is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

Chain = tuple[tuple[int, int, int], ...]
"""Loops of a dimension outside a tile, outermost first: stretch, factor, step in rows."""


class Loop(NamedTuple):
    """One loop along the window: which dimension it is of, its stretch, factor and step [rows]."""

    own: int
    stretch: int
    factor: int
    step: int


@lru_cache(maxsize=100_000)
def calc_most_carried(out: Chain, kernel: Chain, length: int, first: int = 0) -> int:
    """Rows kept over all advances of the window, if loops outside the innermost one carry some.

    Args:
        out: loops over the output dimension.
        kernel: loops over the kernel dimension.
        length: rows of a tile.
        first: stretch from which on no loop of other dimensions stands inside.

    Returns:
        Rows, over all tiles of one instance; 0 where no outer loop carries any.
    """
    if not out and not kernel:
        return 0  # a window whose loops all stand inside the tile
    most = 0
    for mine, other in itertools.product(_list_parted(0, out), _list_parted(1, kernel)):
        for loops in _list_merged(mine, other):
            # a loop that does not index inputs may be the innermost: then nothing moves
            for usual in (loops[-1].step, 0):
                most = max(most, _calc_kept(loops, usual, length, first))
    return most


def _calc_kept(loops: tuple[Loop, ...], usual: int, length: int, first: int) -> int:
    """Rows kept by loops in this order whose tile goes on by the usual step; 0 if one alone."""
    kept, carried = 0, False
    second = last = 0
    for number in range(len(loops) - 1, -1, -1):
        loop = loops[number]
        outer_one = number < len(loops) - (usual > 0)
        if loop.step - second == usual and (not outer_one or loop.stretch >= first):
            moved = max(abs(loop.step - second), abs(loop.step - last))
            often = loop.factor - 1
            for outer in loops[:number]:
                often *= outer.factor
            rows = max(0, length - moved) * often
            kept += rows
            carried |= rows > 0 and outer_one
        second += loop.step
        last += loop.step * (loop.factor - 1)
    return kept if carried else 0


def _list_parted(own: int, chain: Chain) -> Iterator[tuple[Loop, ...]]:
    """The loops, each in one or in several factors one inside the other."""
    for choice in itertools.product(*(_list_factors(factor) for _, factor, _ in chain)):
        loops = []
        for (stretch, factor, step), factors in zip(chain, choice, strict=True):
            left = factor
            for part in factors:
                left //= part
                loops.append(Loop(own, stretch, part, step * left))
        yield tuple(loops)


@lru_cache(maxsize=1024)
def _list_factors(number: int) -> tuple[tuple[int, ...], ...]:
    """All products of factors of at least two, in every order, that make a number."""
    found = [(number,)]
    for first in range(2, number // 2 + 1):
        if number % first == 0:
            found += [(first, *rest) for rest in _list_factors(number // first)]
    return tuple(found)


def _list_merged(a: tuple[Loop, ...], b: tuple[Loop, ...]) -> Iterator[tuple[Loop, ...]]:
    """All orders of the loops of two dimensions that keep each one's own and the stretches'."""
    if not a or not b:
        yield a + b
        return
    if a[0].stretch <= b[0].stretch:
        for rest in _list_merged(a[1:], b):
            yield (a[0], *rest)
    if b[0].stretch <= a[0].stretch:
        for rest in _list_merged(a, b[1:]):
            yield (b[0], *rest)
