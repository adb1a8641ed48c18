"""Mappings that really cost less than the best by equations (1) and (2), or that there are none.

The last piece of a dimension and an overlap carried over outer loops make some real counts smaller
than (1) and (2) say. What they make of a mapping at least bounds every order of storage positions
once more; in the orders that this leaves, tilings are listed loop by loop, and those that may cost
less are written out in every order of loops (docs/theory/mapping_space.md, The real count).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace

import numpy as np

from costs.best_first import BestFirst
from costs.candidates import TooMany
from costs.conventions import Conventions
from costs.core import Core
from costs.layer import RELEVANT, Layer
from costs.line import Line
from costs.listing import find_floors
from costs.mapping import Mapping
from costs.orders import Order, Structure, list_orders
from costs.parts import Part
from costs.search import OutOfTime, Search
from costs.shortfall import Cases
from costs.tiers import find_different
from costs.tilings import Group, join_orders

MOST = 3_000
"""Mappings that are written out at most."""

EFFORT = 1_000_000_000
"""Rows priced at most in every step, where no time is given."""

SHARE = 0.25
"""Part of the time or effort left that one order is given at most."""

Loop = tuple[str, int, int]
"""Dimension, factor, and number of its element in the order."""


@dataclass(frozen=True)
class Rest:
    """What may really cost less than the best known.

    Attributes:
        mappings: mappings that may, written out.
        extents: `(mappings, axes)` PEs used along each axis.
        bound: objective that no mapping really undercuts, as far as is known.
        complete: whether there are no others.
    """

    mappings: tuple[Mapping, ...]
    extents: np.ndarray
    bound: float
    complete: bool


def find_rest(
    layer: Layer,
    core: Core,
    objective: str,
    conventions: Conventions,
    reached: float,
    deadline_s: float = math.inf,
    *,
    rough: bool = False,
) -> Rest:
    """All mappings that may really cost less than the best known.

    Args:
        layer: the layer.
        core: the core.
        objective: "energy", "latency" or "edp".
        conventions: how accesses are counted.
        reached: real cost of the best known.
        deadline_s: when to stop [s of `time.monotonic`].
        rough: whether only a bound is asked for, at little effort.
    """
    least, split, search = (
        Search(layer, [core], objective, conventions, view)
        for view in ("least", "split", "explicit")
    )
    search.keeps_dominated = True
    for one in (least, split, search):
        one.incumbent = np.array([reached])
        one.deadline_s = deadline_s
        one.most_priced = EFFORT if math.isinf(deadline_s) else math.inf
    if rough:
        least.deadline_s, least.most_priced = math.inf, EFFORT // 2000
    found: list[tuple[Mapping, np.ndarray]] = []
    floors = least.floors
    complete = not rough
    try:
        floors = find_floors(least)
        # the least first: what is left when time is over is bounded by the next
        for number in map(int, np.argsort(floors, kind="stable")) if complete else ():
            if np.isfinite(floors[number]):
                floor, settled = _find_floor(split, number)
                floors[number] = max(floors[number], floor)
                complete &= settled
        for number in map(int, np.flatnonzero(np.isfinite(floors))) if complete else ():
            for item in _list_mappings(search, number):
                found.append(item)
                if len(found) > MOST:
                    raise TooMany
    except (OutOfTime, TooMany):
        complete = False
    bound = reached if complete else min(reached, max(float(floors.min()), least.bound(None)[0]))
    extents = [extent for _, extent in found]
    shape = (len(found), len(search.structure.axes))
    return Rest(tuple(m for m, _ in found), np.array(extents).reshape(shape), bound, complete)


def _list_lines(search: Search, number: int) -> BestFirst:
    """The tilings of an order, loop by loop."""
    order = list_orders(search.structure)[number]
    sizes = {a[0]: n for a, n in zip(search.structure.axes, search.sizes, strict=True)}
    lines = [
        tuple(
            Line(search.structure, order, d, n, sizes, slides=choice.slides, room=search.most_words)
            for d, n in zip(choice.dims, choice.bounds, strict=True)
        )
        for choice in search.choices
    ]
    groups = {i: (Group(np.array([number]), line),) for i, line in enumerate(lines)}
    return BestFirst(search, {}, groups)


def _find_floor(search: Search, number: int) -> tuple[float, bool]:
    """What no mapping of an order that falls short of (1) undercuts; infinite if none is left.

    A part of the time or effort is spent at most; whether that was enough is told, too.
    """
    search.check_time()
    deadline_s, most_priced = search.deadline_s, search.most_priced
    if math.isfinite(deadline_s):
        search.deadline_s = time.monotonic() + SHARE * (deadline_s - time.monotonic())
    else:
        search.most_priced = search.cost.priced + SHARE * EFFORT
    try:
        lists = _list_lines(search, number)
        parts = lists.narrow(number)
        return Cases(search, lists.lines(number)).find_floor(parts) if parts else (math.inf, True)
    except (OutOfTime, TooMany):
        return 0.0, False
    finally:
        search.deadline_s, search.most_priced = deadline_s, most_priced


def _list_mappings(search: Search, number: int) -> Iterator[tuple[Mapping, np.ndarray]]:
    """Mappings of an order that may really cost less, and the PEs they use."""
    order = list_orders(search.structure)[number]
    lists = _list_lines(search, number)
    lines = lists.lines(number)
    parts = lists.narrow(number)
    if not parts:
        return
    shape = np.zeros(len(search.claims), object)
    kinds, members = zip(*map(_merge, parts), strict=True)
    numbered = [join_orders([part], shape) for part in kinds]
    joined = search.join(search.trim(numbered))
    place = [joined.dims.index(part.dims[0]) for part in kinds]
    chosen = [
        [members[i][joined.choice[row, place[i]]] for i in range(len(parts))]
        for row in range(len(joined))
    ]
    if sum(math.prod(map(len, rows)) for rows in chosen) > MOST:
        raise TooMany
    for row, rows in enumerate(chosen):
        extent = joined.values[row, search.structure.first_axis :]
        for tilings in itertools.product(*rows):
            picked = {
                one.dim: (one, choice)
                for line, tiling in zip(lines, tilings, strict=True)
                for one, choice in zip(line, tiling, strict=True)
            }
            for mapping in _write(search, order, picked):
                yield mapping, extent


def _list_moved(search: Search, order: Order, picked: Dict[str, tuple[Line, int]]) -> set[str]:
    """Dimensions of whose loops it matters where they stand in a stretch.

    They have a tail, or an input tile may keep its overlap as an outer loop of theirs advances;
    then it matters where the loops stand that do not move it, too.
    """
    structure = search.structure
    moved = set()
    for dim, (line, row) in picked.items():
        for number, (operand, _) in enumerate(structure.anchors):
            if dim in RELEVANT[operand] and line.whole(order.depth[number])[row] < 1:
                moved.add(dim)
    for pair in ("PR", "QS") if structure.overlap else ():
        there = [picked[dim] for dim in pair if dim in picked]
        loops = sum(line.list_loops(len(line.kept))[0][row] for line, row in there)
        if loops > 1 and all(line.perfect[row] for line, row in there):
            moved |= {*pair, "K"}
    return moved


def _merge(part: Part) -> tuple[Part, list[np.ndarray]]:
    """The different rows of a part, each chosen by its number, and the tilings behind each."""
    table = np.concatenate([part.values, part.flagged], axis=1)
    first, back = find_different(table, inverse=True)
    different = part.take(first)
    members = [part.choice[back == number] for number in range(len(first))]
    numbers = np.arange(len(first), dtype=np.int32)[:, None]
    return replace(different, choice=numbers, dims=part.dims[:1]), members


def _write(search: Search, order: Order, picked: Dict[str, tuple[Line, int]]) -> Iterator[Mapping]:
    """The mappings of a tiling in every order of the loops inside the stretches that matters."""
    moved = _list_moved(search, order, picked)
    factors = {
        dim: dict(zip(line.kept, map(int, line.tilings.factors[row]), strict=True))
        for dim, (line, row) in picked.items()
    }
    structure = search.structure
    stretches: list[list[Loop]] = [[]]
    begin = []
    spatial: dict[str, tuple[tuple[str, int], ...]] = {}
    split = False
    for element, kind in enumerate(order.elements):
        begin.append(len(stretches) - 1)
        here = [(d, f[element], element) for d, f in factors.items() if f.get(element, 1) > 1]
        if kind in "t+":
            split |= kind == "+" and bool(here)
            stretches[-1] += here
            if kind == "t":
                stretches.append([])
        elif here:
            spatial[kind] = tuple((d, n) for d, n, _ in here)
    begin.append(len(stretches) - 1)
    for chosen in itertools.product(*(_list_sequences(part, moved) for part in stretches)):
        loops = [(d, n) for part in chosen for d, n, _ in part]
        starts = np.concatenate([[0], np.cumsum([len(part) for part in chosen])])
        stands = [int(starts[begin[d]]) for d in order.depth[:-1]]
        for places in _list_places(structure, loops, stands, split=split):
            stored: dict[str, dict[str, int]] = {}
            for (operand, level), place in zip(structure.anchors, places, strict=True):
                stored.setdefault(operand, {})[level] = place
            yield Mapping(loops=tuple(loops), stored=stored, spatial=spatial)


def _list_sequences(loops: list[Loop], moved: set[str]) -> list[tuple[Loop, ...]]:
    """Orders of the loops of a stretch in which those of one dimension keep theirs.

    All orders, or where none of the dimensions moves by itself any order with each loop last.
    """
    if moved.isdisjoint(dim for dim, _, _ in loops):
        return [(*loops[:i], *loops[i + 1 :], last) for i, last in enumerate(loops)] or [()]
    return [
        sequence
        for sequence in itertools.permutations(loops)
        if all(
            a[0] != b[0] or a[2] < b[2] for i, a in enumerate(sequence) for b in sequence[i + 1 :]
        )
    ]


def _list_places(
    structure: Structure, loops: list[tuple[str, int]], stands: list[int], *, split: bool
) -> Iterator[list[int]]:
    """Positions of anchors inside loops that do not index them, one loop of a dimension between.

    Such loops change what input tiles keep of each other; other anchors stand inside them only to
    part two loops of one dimension.
    """
    anchors = structure.anchors
    ranges = []
    for (operand, _), place in zip(anchors, stands, strict=True):
        last = place
        if split or (operand == "I" and structure.overlap):
            while last < len(loops) and loops[last][0] not in RELEVANT[operand]:
                last += 1
        ranges.append(range(place, last + 1))
    for places in itertools.product(*ranges):
        chained = all(
            a[0] != b[0] or p <= q
            for (a, p), (b, q) in itertools.pairwise(zip(anchors, places, strict=True))
        )
        cuts = [0, *sorted(places), len(loops)]
        parted = all(len({d for d, _ in loops[a:b]}) == b - a for a, b in itertools.pairwise(cuts))
        if chained and parted:
            yield list(places)
