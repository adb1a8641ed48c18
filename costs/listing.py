"""Rows of every choice in all orders, less what the bound excludes while they are listed.

Choices with few tilings are listed in full and come first; they narrow the range of what is to
come. Of those with many, a grid of cores sees one group of orders after the other; a single core
one order after the other (`costs.best_first`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from costs.best_first import BestFirst
from costs.orders import list_orders
from costs.parts import Part, no_rows
from costs.ranges import Range, calc_extremes, calc_other_range, calc_product, calc_range
from costs.tilings import (
    LISTED,
    Choice,
    Group,
    count_tilings,
    in_order,
    join_orders,
    list_groups,
    list_part,
    make_part,
)
from costs.window_parts import window_line_part

MANY = 1_000_000
"""Tilings in all orders from which on those of a single core are opened one by one."""

PAIRS = 3_000_000
"""Combinations of rows from which on orders are bounded by tiers alone."""

if TYPE_CHECKING:
    from costs.search import Search


def list_parts(search: Search, *, coarse: bool = False) -> list[Part]:
    """The rows of every choice in all orders, less what the incumbent's cost excludes."""
    parts, big, alive = _list_small(search, coarse=coarse)
    if big:
        return BestFirst(search, parts, big).list_parts(np.flatnonzero(alive))
    return [parts[i] for i in range(len(search.choices))]


def find_floors(search: Search) -> np.ndarray:
    """`(orders,)` objective that no mapping of an order undercuts; infinite above the incumbent."""
    parts, big, alive = _list_small(search, coarse=False)
    if big:
        orders = BestFirst(search, parts, big)
        search.floors[~alive] = np.inf
        for number in map(int, np.flatnonzero(alive)):
            orders.set_floor(number)
        return np.where(search.floors <= search.limits[0], search.floors, np.inf)
    listed = search.trim(search.trim([parts[i] for i in range(len(search.choices))]))
    floors = np.full(len(search.claims), np.inf)
    counts = [np.bincount(part.order, minlength=len(floors)) for part in listed]
    pairs = np.prod(np.array(counts, float), axis=0)
    if search.alone and pairs.sum() > PAIRS:
        for number in map(int, np.flatnonzero(pairs)):
            tiers, factor = search.tiers(
                [p.take(np.flatnonzero(p.order == number)) for p in listed]
            )
            if all(map(len, tiers.narrow())):
                floors[number] = tiers.floor * factor
        return floors
    rows = search.join(listed)
    if len(rows):
        bounds = search.cost.objective_bound(rows.values, rows.values)[:, 0]
        np.minimum.at(floors, rows.order, bounds)
    return floors


def _list_small(
    search: Search, *, coarse: bool
) -> tuple[dict[int, Part], dict[int, tuple[Group, ...]], np.ndarray]:
    """Rows of choices, groups of those with too many tilings to be listed at once, orders left.

    Choices with few tilings come first; orders in which one of them has no row left are not
    looked into again, and its rows narrow the range of what is to come.
    """
    shape = (len(list_orders(search.structure)), search.structure.columns)
    ranges: list[Range] = []
    for choice in search.choices:
        least, most = calc_range(search.structure, search.sizes, choice)
        ranges.append((np.broadcast_to(least, shape), np.broadcast_to(most, shape)))
    listed = [list_groups(search.structure, search.sizes, c, coarse) for c in search.choices]
    counts = [sum(g.size * len(g.orders) for g in groups) for groups in listed]
    alive = np.ones(shape[0], bool)
    parts: dict[int, Part] = {}
    for i in sorted(range(len(counts)), key=counts.__getitem__):
        least, most = calc_product([*ranges[:i], *ranges[i + 1 :]])
        if counts[i] <= LISTED:
            part = list_part(
                search.structure, search.sizes, search.most_words, search.choices[i], coarse
            )
            part = search.reduce(part.take(np.flatnonzero(alive[part.order])), least, most)
        elif search.alone and not coarse and max(counts) > MANY:
            continue
        else:
            part = _list_part(search, search.choices[i], listed[i], alive, least, most)
        parts[i] = part
        ranges[i] = calc_extremes(part)
        alive = np.isin(np.arange(shape[0]), part.order)
    return parts, {i: listed[i] for i in range(len(counts)) if i not in parts}, alive


def _list_part(
    search: Search, choice: Choice, groups: Sequence[Group], alive: np.ndarray,
    least: np.ndarray | None, most: np.ndarray | None,
) -> Part:  # fmt: skip
    """Rows of a choice, listed group by group and reduced at once."""
    ones = np.ones((*alive.shape, search.structure.columns))
    least, most = (ones if least is None else least), (ones if most is None else most)
    limits = np.array([*search.most_words, *search.sizes])
    pieces = [no_rows(search.structure, choice.dims)]
    for group in groups:
        orders = group.orders[alive[group.orders]]
        if not orders.size:
            continue
        low, high = least[orders].min(axis=0), most[orders].max(axis=0)
        rows = None
        if len(choice.dims) > 1:
            rows = _list_lines(search, choice, group, limits, low, high)
        part = make_part(search.structure, choice, group, limits, rows)
        part = search.reduce(in_order(part, 0), low[None], high[None])
        pieces += [in_order(part, int(number)) for number in orders]
    return search.reduce(join_orders(pieces, count_tilings(groups)), least, most)


def _list_lines(
    search: Search,
    choice: Choice,
    group: Group,
    limits: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Tilings of each dimension of a window that the bound allows by themselves."""
    kept = []
    for mine, other in ((0, 1), (1, 0)):
        pace = (choice.pace[mine], choice.pace[other])
        line, beside = group.lines[mine], group.lines[other]
        part = window_line_part(search.structure, line.order, line, beside, pace, limits)
        least, most = calc_other_range(
            search.structure, search.sizes, choice.dims[other], choice.bounds[other]
        )
        low_here, high_here = part.values * low * least, part.values * high * most
        kept.append(part.choice[search.find_alive(low_here, high_here)[0], 0])
    return kept[0], kept[1]
