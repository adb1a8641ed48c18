"""A slow, literal loop walker: the definition of access counts, independent of `costs/`.

It executes every step of a clipped loop nest, keeps for every instance of every level the set of
words it holds, and counts words as they move. It shares no code with the cost model and imports
nothing of it; docs/theory/access_counts.md states the rules it follows in words:

1. Temporal loops run in order; a step is executed when some PE has a point of the nest in it.
2. A tile is what the loops inside its position, and the axes along which its level has a single
   instance, touch; for inputs the box from the first to the last row and column.
3. An instance takes a tile when the temporal loops outside it that index the operand have another
   setting than at the tile it holds. It takes nothing while every one of its PEs is idle because
   of a dimension that does not index the operand.
4. Taking a tile costs its words ("whole") or those not held ("exact"). Instances that differ only
   in dimensions which do not index the operand are served together, unless the axis cannot.
5. A tile of outputs is written up when it is left, added along the axes that reduce. Words taken
   again are filled from above. The level above reads what it adds to, unless this is the first
   time it sees the word ("elided"); "at_mac" the level next to the MACs reads it then too, and
   "counted" every level does to which partial sums return at all.
6. MACs hold nothing: each takes its operands and updates its output at every step.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field

DIMS = "GNKCPQRS"
INDEX_DIMS = {"W": "GKCRS", "I": "GNCPQRS", "O": "GNKPQ"}


@dataclass(frozen=True)
class Nest:
    """Everything the walker needs, in plain types.

    `loops` and the factors of `axes` are (dimension, factor), outermost first. `levels` are (name,
    operands, replicated axes), outermost first; `axes` maps a name to (position among the loops,
    factors, operands that multicast, whether it reduces).
    """

    bounds: dict[str, int]
    loops: tuple[tuple[str, int], ...]
    axes: dict[str, tuple[int, tuple[tuple[str, int], ...], str, bool]]
    levels: tuple[tuple[str, str, tuple[str, ...]], ...]
    stored: dict[str, dict[str, int]]
    operands: str = "WIO"
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    whole: bool = True
    skip_padding: bool = False
    first_read: str = "elided"
    drain_reads: bool = False


@dataclass(frozen=True)
class Digit:
    """One factor of a dimension: a temporal loop (number) or a part of an axis (name)."""

    dim: str
    factor: int
    loop: int | None
    axis: str | None
    name: object


@dataclass
class Instance:
    """What one instance of a level holds, and every word of outputs it has held."""

    index: object = None
    held: frozenset[tuple[int, ...]] = frozenset()
    seen: set[tuple[int, ...]] = field(default_factory=set)


def walk(nest: Nest) -> tuple[dict[tuple[str, str, str], int], int]:
    """Words by (level, operand, "read" or "write"), and the number of steps executed."""
    counts, steps, _ = follow(nest)
    return counts, steps


def count_transfers(nest: Nest) -> dict[tuple[str, str | None], tuple[int, int]]:
    """By operand and child: transfers from parents, to all they serve at once, and to children."""
    links = follow(nest)[2]
    return {(link.operand, link.below): (link.sent, link.arrived) for link in links}


def follow(nest: Nest) -> tuple[dict[tuple[str, str, str], int], int, list[Link]]:
    """The whole walk: words, steps, and every link after it."""
    digits = order_digits(nest)
    weights = place_values(digits)
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    temporal = [d for d in digits if d.loop is not None]
    temporal.sort(key=lambda d: d.loop or 0)
    spatial = [d for d in digits if d.axis is not None]
    links = [Link(nest, digits, weights, t, p, c) for t, p, c in pairs(nest)]
    pes = [
        dict(zip((d.name for d in spatial), values, strict=True))
        for values in itertools.product(*(range(d.factor) for d in spatial))
    ]
    steps = 0
    for values in itertools.product(*(range(d.factor) for d in temporal)):
        now = dict(zip((d.name for d in temporal), values, strict=True))
        valid = []
        for pe in pes:
            setting = {**now, **pe}
            index = {dim: 0 for dim in DIMS}
            for d in digits:
                index[d.dim] += setting[d.name] * weights[d.name]
            ok = {dim: index[dim] < nest.bounds[dim] for dim in DIMS}
            valid.append((pe, index, ok))
        if not any(all(ok.values()) for _, _, ok in valid):
            continue
        steps += 1
        for link in links:
            link.step(now, valid, counts)
    for link in links:
        link.count_first_reads(counts)
    return counts, steps, links


def order_digits(nest: Nest) -> list[Digit]:
    """All factors by place: an axis stands before the loop at its position."""
    digits = []
    for place in range(len(nest.loops) + 1):
        for name, (position, factors, _, _) in nest.axes.items():
            if position == place:
                for number, (dim, factor) in enumerate(factors):
                    digits.append(Digit(dim, factor, None, name, (name, number)))
        if place < len(nest.loops):
            dim, factor = nest.loops[place]
            digits.append(Digit(dim, factor, place, None, place))
    return digits


def place_values(digits: list[Digit]) -> dict[object, int]:
    """What one count of each factor is worth in its dimension's index."""
    inner: dict[str, int] = defaultdict(lambda: 1)
    values = {}
    for d in reversed(digits):
        values[d.name] = inner[d.dim]
        inner[d.dim] *= d.factor
    return values


def pairs(nest: Nest) -> list[tuple[str, int, int | None]]:
    """(operand, level, the next level inwards that holds it or None for the MACs)."""
    found: list[tuple[str, int, int | None]] = []
    for operand in nest.operands:
        chain = [i for i, (_, held, _) in enumerate(nest.levels) if operand in held]
        found += [(operand, p, c) for p, c in zip(chain, [*chain[1:], None], strict=True)]
    return found


class Link:
    """The traffic of one operand between a level and its child."""

    def __init__(self, nest, digits, weights, operand, parent, child) -> None:
        self.nest, self.digits, self.weights = nest, digits, weights
        self.operand, self.child = operand, child
        self.above = nest.levels[parent][0]
        self.below = None if child is None else nest.levels[child][0]
        position = len(nest.loops)
        own_axes = set(nest.axes)
        if child is not None:
            position = nest.stored[operand].get(self.below, 0)
            own_axes = set(nest.levels[child][2])
        parent_axes = set(nest.levels[parent][2])
        indexing = INDEX_DIMS[operand]
        self.outside = [
            d for d in digits if (d.loop is not None and d.loop < position) or d.axis in own_axes
        ]
        self.inside = [d for d in digits if d not in self.outside and d.dim in indexing]
        self.tile_index = [d.name for d in self.outside if d.loop is not None and d.dim in indexing]
        self.own = [d.name for d in self.outside if d.axis is not None]
        apart = {
            axis
            for axis, (_, _, multicast, reduces) in nest.axes.items()
            if (not reduces if operand == "O" else operand not in multicast)
        }
        self.group = [
            d.name
            for d in self.outside
            if d.axis is not None
            and (d.axis in parent_axes or d.axis in apart or d.dim in indexing)
        ]
        self.joint = [
            d.name
            for d in self.outside
            if d.axis is not None and (d.axis in parent_axes or d.axis in apart)
        ]
        self.sent = self.arrived = 0
        self.parent_own = [d.name for d in digits if d.axis in parent_axes]
        self.idle_dims = [dim for dim in DIMS if dim not in indexing]
        self.instances: dict[tuple, Instance] = defaultdict(Instance)
        self.parents: dict[tuple, set] = defaultdict(set)
        self.tiles: dict[tuple, frozenset] = {}
        self.returned, self.first_reads, self.first_fills = False, 0, 0

    def step(self, now, valid, counts) -> None:
        """Moves the words of one step."""
        groups: dict[tuple, set] = defaultdict(set)
        parent_of: dict[tuple, tuple] = {}
        served = set()
        for pe, index, ok in valid:
            if self.child is None:
                moved = self.at_mac(index, ok)
            else:
                moved = self.at_child({**now, **pe}, ok, counts)
            if moved:
                key = tuple(pe[name] for name in self.group)
                groups[key] |= moved
                served.add(tuple(pe[name] for name in self.joint))
                parent_of[key] = tuple(pe[name] for name in self.parent_own)
        self.sent += len(served)
        for key, words in groups.items():
            if self.operand != "O":
                counts[self.above, self.operand, "read"] += len(words)
                continue
            seen = self.parents[parent_of[key]]
            counts[self.above, "O", "write"] += len(words)
            counts[self.above, "O", "read"] += len(words & seen)
            self.returned = self.returned or bool(words & seen)
            self.first_reads += len(words - seen)
            seen |= words

    def count_first_reads(self, counts) -> None:
        """Adds the reads of words that a level, or an instance, saw for the first time."""
        at_mac = self.nest.first_read == "at_mac" and self.child is None
        returning = self.nest.first_read == "counted" and self.returned
        if at_mac or returning:
            counts[self.above, "O", "read"] += self.first_reads
        if returning and self.below is not None:
            counts[self.below, "O", "write"] += self.first_fills

    def at_mac(self, index, ok) -> set:
        """The word one PE uses."""
        return (
            set(self.words({dim: [i] for dim, i in index.items()})) if all(ok.values()) else set()
        )

    def at_child(self, setting, ok, counts) -> set:
        """The words that the instance of one PE takes, none if it has its tile already."""
        if not all(ok[dim] for dim in self.idle_dims):
            return set()
        own = tuple(setting[name] for name in self.own)
        instance = self.instances[own]
        index = tuple(setting[name] for name in self.tile_index)
        if index == instance.index:
            return set()
        tile = self.tile(setting)
        self.arrived += 1
        kept = frozenset() if self.nest.whole else instance.held
        instance.index, instance.held = index, tile
        if self.operand == "O":
            counts[self.below, "O", "write"] += len(tile & instance.seen)
            self.first_fills += len(tile - instance.seen)
            instance.seen |= tile
            if self.nest.drain_reads:
                counts[self.below, "O", "read"] += len(tile)
            return set(tile)
        counts[self.below, self.operand, "write"] += len(tile - kept)
        return set(tile - kept)

    def tile(self, setting) -> frozenset:
        """All words that the loops inside the tile touch at a setting of those outside."""
        key = tuple(setting[d.name] for d in self.outside)
        if key not in self.tiles:
            spans = {}
            for dim in INDEX_DIMS[self.operand]:
                base = sum(
                    setting[d.name] * self.weights[d.name] for d in self.outside if d.dim == dim
                )
                parts = [d for d in self.inside if d.dim == dim]
                spans[dim] = [
                    index
                    for values in itertools.product(*(range(d.factor) for d in parts))
                    if (
                        index := base
                        + sum(v * self.weights[d.name] for v, d in zip(values, parts, strict=True))
                    )
                    < self.nest.bounds[dim]
                ]
            self.tiles[key] = self.words(spans)
        return self.tiles[key]

    def words(self, spans) -> frozenset:
        """Addresses of an operand's words for lists of indices by dimension."""
        if self.operand != "I":
            return frozenset(itertools.product(*(spans[d] for d in INDEX_DIMS[self.operand])))
        lines = []
        for axis, (out, kernel) in enumerate((("P", "R"), ("Q", "S"))):
            touched = [
                self.nest.stride[axis] * p + self.nest.dilation[axis] * r - self.nest.pad[axis]
                for p in spans[out]
                for r in spans[kernel]
            ]
            box = range(min(touched), max(touched) + 1) if touched else range(0)
            if self.nest.skip_padding:
                box = [line for line in box if 0 <= line < self.nest.size[axis]]
            lines.append(box)
        return frozenset(itertools.product(spans["G"], spans["N"], spans["C"], *lines))
