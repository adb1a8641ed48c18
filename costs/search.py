"""Branch and bound over all mappings of a layer, for many sizes of one kind of core at once.

`find_candidates` walks integer tilings (imperfect ones included), loop orders and uneven storage
positions, one dimension after the other, and drops what does not fit, what another partial
mapping dominates, and what cannot become as cheap as a mapping already found on any of the
hardware points. What is left out and why it may be is proven in docs/theory/mapping_space.md. The
costs used here bound the exact ones from below where a choice is still open; the exact ones of the
candidates that remain are `costs.evaluate`'s (`costs.mapper`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costs.conventions import Conventions
from costs.core import Core
from costs.hardware_points import Same, hardware_of
from costs.layer import Layer
from costs.orders import Structure, list_claims
from costs.pareto import find_nondominated
from costs.parts import SIMPLE_DIMS, WINDOWS, Part, join_parts, pair_rows, stack_parts
from costs.tilings import EFFORT, list_simple, list_windows

CHUNK = 50_000
"""Rows joined at a time, so that memory stays bounded."""

BEAM = 24
"""Rows kept per hardware point and step by the first, greedy walk that finds an incumbent."""

SLACK = 1 + 1e-9
"""Relative error granted to a bound before it excludes: far more than rounding can cause."""


@dataclass(frozen=True)
class Candidates:
    """Mappings of a layer one of which is best on every hardware point.

    Attributes:
        rows: tilings of all dimensions, with the index into `list_orders`.
        incumbent: `(points,)` the best bound of the objective found; infinite where nothing fits.
        enumerated: mappings the walk stands for.
        unfit: combinations of tilings dropped because they fit no point's memories or array.
        dominated: dropped because another combination is no worse in every count and size.
        bounded: dropped because their lower bound exceeds the cost of a mapping already found.
    """

    rows: Part
    incumbent: np.ndarray
    enumerated: int
    unfit: int
    dominated: int
    bounded: int


class Search:
    """The walk of one layer over one kind of core; holds what all orders share."""

    def __init__(
        self, layer: Layer, cores: Sequence[Core], objective: str, conventions: Conventions
    ):
        """Start without an incumbent."""
        self.layer, self.objective, self.conventions = layer, objective, conventions
        self.structure = Structure.of(layer, cores[0])
        self.claims = list_claims(self.structure)
        self.levels = [level.name for level in cores[0].levels]
        self.hardware = hardware_of(
            tuple(map(Same, cores)), self.structure, conventions, max(layer.bits_w, layer.bits_i)
        )
        self.incumbent = np.full(len(cores), math.inf)
        self.unfit = self.dominated = self.bounded = 0

    def parts(self) -> list[Part]:
        """The rows of every dimension of more than one iteration, in all orders."""
        layer, bounds = self.layer, self.layer.bounds
        largest = tuple(int(n) for n in self.hardware.axis_sizes.max(axis=1, initial=0))
        most_words = [math.inf] * len(self.structure.anchors)
        for anchors, capacity in self.hardware.capacities:
            for anchor in anchors:
                width = layer.bits(self.structure.anchors[anchor][0])
                most_words[anchor] = float(capacity.max() // width)
        frame = (self.structure, largest, tuple(most_words))
        parts = [list_simple(*frame, d, bounds[d]) for d in SIMPLE_DIMS if bounds[d] > 1]
        overlap = self.conventions.halo == "timeloop"
        parts += [
            list_windows(
                *frame,
                axis,
                bounds[p],
                bounds[r],
                layer.stride[axis],
                layer.dilation[axis],
                overlap,
            )
            for p, r, axis in WINDOWS
            if bounds[p] > 1 or bounds[r] > 1
        ]
        # a row of ones makes sure that there is at least one part
        return parts or [list_simple(*frame, "N", 1)]

    def _word_bits(self, low: np.ndarray, high: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        """Bits of a word of outputs on each edge: of a partial sum where one crosses."""
        structure, layer = self.structure, self.layer
        whole, psum = layer.bits_o, max(layer.bits_o, layer.bits_psum)
        held = {structure.anchors[a][1]: n for n, a in enumerate(structure.holders)}
        words = float(layer.words("O"))
        bits = {}
        for number, (operand, parent, child) in enumerate(structure.edges):
            if operand == "O":
                seen = words * (
                    high[:, structure.first_held + held[parent]] if parent in held else 1.0
                )
                crossing = low[:, 1 + 2 * number] > seen
                bits[parent, child] = np.where(crossing, float(psum), float(whole))
        return bits

    def traffic(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bits read and written at every level, `(rows, levels)`, at least.

        Args:
            low: `(rows, columns)` smallest values the columns can end with.
            high: the largest.
        """
        structure, layer = self.structure, self.layer
        read, written = np.zeros((2, len(low), len(self.levels)))
        held = {structure.anchors[a][1]: n for n, a in enumerate(structure.holders)}
        words = float(layer.words("O"))
        bits = self._word_bits(low, high)
        rule = self.conventions.first_read
        for number, (operand, parent, child) in enumerate(structure.edges):
            above, below = low[:, 1 + 2 * number], low[:, 2 + 2 * number]
            at = self.levels.index(parent)
            inner = self.levels.index(child) if child else -1
            if operand != "O":
                width = float(layer.bits(operand))
                read[:, at] += above * width
                if child:
                    written[:, inner] += below * width
                continue
            width = bits[parent, child]
            first = words * (
                high[:, structure.first_held + held[parent]] if parent in held else 1.0
            )
            counted = rule == "counted" or (rule == "at_mac" and not child)
            read[:, at] += (above if counted else np.maximum(above - first, 0)) * width
            written[:, at] += above * width
            if child:
                seen = words * high[:, structure.first_held + held[child]]
                again = below if rule == "counted" else np.maximum(below - seen, 0)
                written[:, inner] += again * width
                if self.conventions.drain_reads:
                    read[:, inner] += below * width
        return read, written

    def objective_bound(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Objective of every row under every set of prices, at least, `(rows, prices)`."""
        read, written = self.traffic(low, high)
        hw = self.hardware.distinct
        cost = np.ones(())
        if self.objective != "latency":
            cost = (
                read @ hw.read_price.T
                + written @ hw.write_price.T
                + self.layer.macs * hw.mac_energy
            )
        if self.objective != "energy":
            cycles = np.repeat(low[:, :1], hw.points, axis=1)
            throttled = self.structure.throttled
            for level, name in enumerate(self.levels):
                used = np.ones(len(low))
                if name in throttled:
                    used = high[:, self.structure.first_used + throttled.index(name)]
                for bits, rate in (
                    (read, hw.read_rate), (written, hw.write_rate), (read + written, hw.rate)
                ):  # fmt: skip
                    if np.isfinite(rate[:, level]).any():
                        busy = (bits[:, level] / used)[:, None] / rate[:, level]
                        cycles = np.maximum(cycles, busy)
            cost = cost * cycles
        return cost

    def fits(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Whether a row can still fit each point, `(rows, points)`."""
        structure, hw = self.structure, self.hardware
        able = np.ones((len(low), hw.points), bool)
        for number in range(len(structure.axes)):
            able &= low[:, structure.first_axis + number, None] <= hw.axis_sizes[number]
        for bits, (_, capacity) in zip(self.footprints(low, high), hw.capacities, strict=True):
            able &= bits[:, None] <= capacity
        return able

    def footprints(self, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        """Bits that each capacity constraint holds, at least, `(rows,)` each."""
        structure = self.structure
        widths = self._word_bits(low, high)
        served = {parent: bits for (parent, _), bits in widths.items()}
        return [
            sum(
                (
                    low[:, structure.first_tile + anchor]
                    * (
                        served[structure.anchors[anchor][1]]
                        if structure.anchors[anchor][0] == "O"
                        else float(self.layer.bits(structure.anchors[anchor][0]))
                    )
                    for anchor in anchors
                ),
                np.zeros(len(low)),
            )
            for anchors, _ in self.hardware.capacities
        ]

    def reduce(
        self, part: Part, least: np.ndarray | None, most: np.ndarray | None, *, beam: int = 0
    ) -> Part:
        """Drops rows that cannot fit, cannot be best anywhere, or are dominated.

        Args:
            part: the rows.
            least, most: `(orders, columns)` smallest and largest multipliers that the dimensions
                still to be joined can bring, `None` after the last one.
            beam: keep only so many rows for every hardware point; 0 for all.
        """
        last = least is None or most is None
        low = part.values if least is None else part.values * least[part.order]
        high = part.values if most is None else part.values * most[part.order]
        bound = self.objective_bound(low, high)
        # first without asking what fits, once for all points of the same prices
        kind = self.hardware.kind
        highest = np.full(bound.shape[1], -math.inf)
        np.maximum.at(highest, kind, self.incumbent)
        able = np.zeros((len(low), self.hardware.points), bool)
        hopeful = np.flatnonzero((bound <= highest * SLACK).any(axis=1))
        able[hopeful] = self.fits(low[hopeful], high[hopeful])
        fitting = able[hopeful].any(axis=1)
        alive = hopeful[
            (able[hopeful] & (bound[hopeful][:, kind] <= self.incumbent * SLACK)).any(axis=1)
        ]
        if not beam:
            self.unfit += len(hopeful) - int(np.count_nonzero(fitting))
            self.bounded += len(low) - len(hopeful) + int(np.count_nonzero(fitting)) - len(alive)
        rows = alive
        reached = np.where(able[rows], bound[rows][:, kind], math.inf)
        if last and len(rows):
            self.incumbent = np.minimum(self.incumbent, reached.min(axis=0))
        if beam and len(rows) > beam:
            rows = rows[np.unique(np.argpartition(reached, beam, axis=0)[:beam])]
        elif len(rows) > 1:
            limit = None if most is None else most[part.order[rows]]
            keys = self._keys(part.take(rows), limit)
            kept = _find_best(keys, None if last else part.order[rows])
            self.dominated += 0 if beam else len(rows) - len(kept)
            rows = rows[kept]
        return part.take(rows)

    def _keys(self, part: Part, most: np.ndarray | None) -> np.ndarray:
        """Columns in which a row must be no larger to dominate another."""
        values = part.values
        structure, hw = self.structure, self.hardware
        counts = values[:, : structure.first_held]
        held = -values[:, structure.first_held : structure.first_tile]
        keys = [counts, held]
        if most is None:
            sizes = [s for _, s in hw.capacities]
            footprints = self.footprints(values, values)
            keys += [_snap(b, s) for b, s in zip(footprints, sizes, strict=True)]
            keys += [
                _snap(values[:, structure.first_axis + n], s) for n, s in enumerate(hw.axis_sizes)
            ]
            return np.concatenate(keys, axis=1)
        # a tile that fits the smallest memory whatever follows is as good as any other
        widest = [
            max(self.layer.bits_o, self.layer.bits_psum) if o == "O" else self.layer.bits(o)
            for o, _ in structure.anchors
        ]
        for anchors, capacity in hw.capacities:
            columns = [structure.first_tile + a for a in anchors]
            width = np.array([float(widest[a]) for a in anchors])
            always = (values[:, columns] * most[:, columns]) @ width <= capacity.min()
            keys.append(np.where(always[:, None], 0.0, values[:, columns]))
        for number, size in enumerate(hw.axis_sizes):
            column = values[:, structure.first_axis + number]
            always = column * most[:, structure.first_axis + number] <= size.min()
            keys.append(np.where(always, 0.0, column)[:, None])
        keys.append((part.flagged > 0).astype(np.float64))
        return np.concatenate(keys, axis=1)

    def trim(self, parts: list[Part]) -> list[Part]:
        """The parts less the rows that the bound excludes whatever they are joined with."""
        ranges = [_extremes(part) for part in parts]
        return [
            self.reduce(part, *_product([*ranges[:i], *ranges[i + 1 :]]))
            for i, part in enumerate(parts)
        ]

    def walk(self, parts: list[Part], *, beam: int = 0) -> Part:
        """Joins all dimensions; finds a first incumbent when `beam` is given."""
        parts = sorted(parts, key=len)
        ranges = [_extremes(part) for part in parts]
        joined = parts[0]
        if len(parts) == 1:
            return self.reduce(joined, None, None, beam=beam)
        for number in range(1, len(parts)):
            least, most = _product(ranges[number + 1 :])
            joined = self._join(joined, parts[number], least, most, beam)
        return joined

    def _join(
        self, left: Part, right: Part, low: np.ndarray | None, high: np.ndarray | None, beam: int
    ) -> Part:
        """Joins two parts a chunk at a time."""
        begin, running = pair_rows(left, right)
        pieces = []
        for start in range(0, max(1, int(running[-1])), CHUNK):
            pairs = np.arange(start, min(start + CHUNK, int(running[-1])))
            a = np.searchsorted(running, pairs, side="right") - 1
            b = begin[a] + pairs - running[a]
            pieces.append(
                self.reduce(join_parts(left, right, a, b, self.claims), low, high, beam=beam)
            )
        if len(pieces) == 1:
            return pieces[0]
        return self.reduce(stack_parts(pieces), low, high, beam=beam)


def _find_best(keys: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Rows that no row dominates; of the same order where rows still have different futures."""
    if order is None:
        return find_nondominated(keys, EFFORT)
    begin = np.flatnonzero(np.diff(order, prepend=-1))
    end = np.append(begin[1:], len(order))
    return np.concatenate(
        [a + find_nondominated(keys[a:b], EFFORT) for a, b in zip(begin, end, strict=True)]
    )


def _extremes(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest multiplier of every column in every order, `(orders, columns)`."""
    shape = (len(part.totals), part.values.shape[1])
    least, most = np.full(shape, math.inf), np.zeros(shape)
    begin = np.searchsorted(part.order, np.arange(shape[0]))
    there = np.unique(part.order)
    if there.size:
        least[there] = np.minimum.reduceat(part.values, begin[there], axis=0)
        most[there] = np.maximum.reduceat(part.values, begin[there], axis=0)
    return least, most


def _product(
    ranges: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Range of the product of several parts; nothing without any."""
    if not ranges:
        return None, None
    least, most = np.ones(ranges[0][0].shape), np.ones(ranges[0][0].shape)
    for low, high in ranges:
        # an order without rows has no future: infinite, never zero times infinite
        least, most = least * low, most * np.maximum(high, 1e-300)
    return least, most


def _snap(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Number of the smallest size that is large enough, `(rows, 1)`."""
    steps = np.unique(sizes)
    return np.searchsorted(steps, values, side="left").astype(np.float64)[:, None]


def find_candidates(
    layer: Layer, cores: Sequence[Core], objective: str, conventions: Conventions
) -> Candidates:
    """The mappings of a layer one of which is best on each of several cores of one structure.

    Args:
        layer: the layer.
        cores: cores with the same levels and axes, of any sizes, energies and bandwidths.
        objective: "energy", "latency" or "edp".
        conventions: how accesses and capacity are counted; the halo is not "exact".
    """
    search = Search(layer, cores, objective, conventions)
    parts = search.parts()
    enumerated = sum(
        math.prod(part.totals[i] for part in parts) for i in range(len(parts[0].totals))
    )
    search.walk(search.trim(parts), beam=BEAM)
    rows = search.walk(search.trim(parts))
    return Candidates(
        rows=search.reduce(rows, None, None),
        incumbent=search.incumbent,
        enumerated=int(enumerated),
        unfit=search.unfit,
        dominated=search.dominated,
        bounded=search.bounded,
    )
