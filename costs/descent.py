"""A good mapping soon: the rows of one dimension at a time, in every order at once.

Given the rows of all other dimensions the best row of one is found exactly, by pricing all of them;
dimension after dimension, again and again, until none lowers the cost. Where that ends depends on
which dimension is asked first, so that every sequence is tried in one order, and every dimension
first in all orders together. A memory that is full lets no single dimension grow; so two may be
asked at once, of their most promising rows. Nothing is proved here: what is found is a mapping, and
its cost excludes others (`costs.search`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from costs.candidate_cost import CandidateCost
from costs.parts import Part, join_parts

ROUNDS = 8
"""Times that every dimension is asked at most."""


PROMISING = 128
"""Rows of each of two dimensions that are asked at once."""


def join_promising(parts: Sequence[Part], claims: np.ndarray) -> Iterator[list[Part]]:
    """The parts of one order with the first rows of two of them joined, for every two.

    Args:
        parts: rows of every choice, the most promising first.
        claims: see `costs.orders.list_claims`.
    """
    for i, j in itertools.combinations(range(len(parts)), 2):
        left, right = (parts[n].take(np.arange(min(PROMISING, len(parts[n])))) for n in (i, j))
        pairs = np.arange(len(left) * len(right))
        joined = join_parts(left, right, *np.divmod(pairs, len(right)), claims)
        if len(joined):
            yield [joined, *(part for n, part in enumerate(parts) if n not in (i, j))]


def descend(cost: CandidateCost, parts: Sequence[Part], claims: np.ndarray) -> list[Part]:
    """Complete rows that no change of one dimension betters, of every order and sequence.

    Args:
        cost: prices rows on a single core.
        parts: rows of every choice.
        claims: see `costs.orders.list_claims`.
    """
    orders = np.arange(len(claims))
    for part in parts:
        orders = orders[np.isin(orders, part.order)]
    if not orders.size:
        return []
    place = np.full(len(claims), -1)
    place[orders] = np.arange(len(orders))
    parts = [part.take(np.flatnonzero(place[part.order] >= 0)) for part in parts]
    begins = [np.searchsorted(part.order, orders) for part in parts]
    # smallest tiles first: what surely fits
    start = []
    for part, begin in zip(parts, begins, strict=True):
        size = np.log(part.values[:, cost.structure.first_tile :]).sum(axis=1)
        start.append(_first_least(size, place[part.order], begin)[0])
    found = []
    numbers = tuple(range(len(parts)))
    turns = [numbers[i:] + numbers[:i] for i in numbers]
    for sequence in itertools.permutations(numbers) if len(orders) == 1 else turns:
        chosen = [rows.copy() for rows in start]
        value = np.full(len(orders), np.inf)
        for _ in range(ROUNDS):
            before = value
            for i in sequence:
                price = _price(cost, parts, chosen, i, place, claims[orders])
                rows, least = _first_least(price, place[parts[i].order], begins[i])
                better = least < value
                chosen[i] = np.where(better, rows, chosen[i])
                value = np.where(better, least, value)
            if (value == before).all():
                break
        fitting = np.flatnonzero(np.isfinite(value))
        joined = parts[0].take(chosen[0][fitting])
        every = np.arange(len(fitting))
        for part, rows in zip(parts[1:], chosen[1:], strict=True):
            joined = join_parts(joined, part.take(rows[fitting]), every, every, claims)
        found.append(joined)
    return found


def _price(
    cost: CandidateCost, parts: Sequence[Part], chosen: Sequence[np.ndarray], i: int,
    place: np.ndarray, claims: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Objective of the rows of part i with those chosen of the others; infinite if unfit."""
    values = np.ones((len(claims), parts[i].values.shape[1]))
    marks = np.zeros(claims.shape[:2], bool)
    for j, (part, rows) in enumerate(zip(parts, chosen, strict=True)):
        if j != i:
            values *= part.values[rows]
            marks = marks | (part.flagged[rows] > 0)
    claimed = np.any(marks[:, :, None] & claims, axis=1)
    at = place[parts[i].order]
    joined = parts[i].values * values[at]
    able = cost.fits(joined, joined)[:, 0] & ~(claimed[at] & (parts[i].flagged > 0)).any(axis=1)
    return np.where(able, cost.objective_bound(joined, joined)[:, 0], np.inf)


def _first_least(
    values: np.ndarray, group: np.ndarray, begin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index and value of the least entry of every group of neighbours."""
    least = np.minimum.reduceat(values, begin)
    hits = np.flatnonzero(values == least[group])
    _, first = np.unique(group[hits], return_index=True)
    return hits[first], least
