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
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from costs.conventions import Conventions
from costs.core import Core
from costs.layer import Layer
from costs.orders import Order, Structure, list_orders
from costs.pareto import find_nondominated
from costs.parts import SIMPLE_DIMS, WINDOWS, Line, Part, join_parts, simple_part, window_part

CHUNK = 50_000
"""Rows joined at a time, so that memory stays bounded."""

BEAM = 24
"""Rows kept per hardware point and step by the first, greedy walk that finds an incumbent."""

SLACK = 1 + 1e-9
"""Relative error granted to a bound before it excludes: far more than rounding can cause."""


@dataclass(frozen=True)
class Hardware:
    """The sizes, energies and bandwidths of the points of a grid of hardware.

    Attributes:
        axis_sizes: `(axes, points)` PEs along each axis.
        capacities: per capacity constraint, the anchors that share it and `(points,)` [bits].
        read_price, write_price: `(points, levels)` [pJ/bit].
        read_rate, write_rate, rate: `(points, levels)` of all instances together [bits/cycle].
        fixed_energy: `(points,)` energy of the MACs [pJ].
    """

    axis_sizes: np.ndarray
    capacities: tuple[tuple[tuple[int, ...], np.ndarray], ...]
    read_price: np.ndarray
    write_price: np.ndarray
    read_rate: np.ndarray
    write_rate: np.ndarray
    rate: np.ndarray
    fixed_energy: np.ndarray

    @classmethod
    def of(
        cls, layer: Layer, cores: Sequence[Core], structure: Structure, conventions: Conventions
    ) -> Hardware:
        """The hardware of several cores of one structure."""

        def gather(value) -> np.ndarray:
            return np.array([[value(core, level) for level in core.levels] for core in cores])

        capacities = []
        for number, level in enumerate(cores[0].levels):
            held = tuple(i for i, (_, name) in enumerate(structure.anchors) if name == level.name)
            if isinstance(level.capacity_bytes, Dict):
                groups = [(i,) for i in held]
            else:
                groups = [held] if held else []
            for group in groups:
                shares = []
                for core in cores:
                    share = core.levels[number].capacity_bytes
                    operand = structure.anchors[group[0]][0]
                    total = share[operand] if isinstance(share, Dict) else share
                    shares.append(8 * total / conventions.buffering)
                if not all(map(math.isinf, shares)):
                    capacities.append((group, np.array(shares)))
        return cls(
            axis_sizes=np.array(
                [[axis.size for axis in core.axes] for core in cores], np.float64
            ).T.reshape(len(structure.axes), len(cores)),
            capacities=tuple(capacities),
            read_price=gather(lambda core, level: level.read_energy_pj / level.width_bits),
            write_price=gather(lambda core, level: level.write_energy_pj / level.width_bits),
            read_rate=8
            * gather(lambda core, level: level.read_bandwidth * core.instances(level.name)),
            write_rate=8
            * gather(lambda core, level: level.write_bandwidth * core.instances(level.name)),
            rate=8 * gather(lambda core, level: level.bandwidth * core.instances(level.name)),
            fixed_energy=np.array(
                [layer.macs * core.mac_energy(max(layer.bits_w, layer.bits_i)) for core in cores]
            ),
        )

    @property
    def points(self) -> int:
        """Number of hardware points."""
        return len(self.fixed_energy)


@dataclass(frozen=True)
class Candidates:
    """Mappings of a layer one of which is best on every hardware point.

    Attributes:
        rows: tilings in each order, `(index into list_orders, Part)`.
        incumbent: `(points,)` the best bound of the objective found; infinite where nothing fits.
        enumerated: mappings the walk stands for.
        unfit: combinations of tilings dropped because they fit no point's memories or array.
        dominated: dropped because another combination is no worse in every count and size.
        bounded: dropped because their lower bound exceeds the cost of a mapping already found.
    """

    rows: tuple[tuple[int, Part], ...]
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
        self.layer, self.objective, self.conventions = layer, objective, conventions
        self.structure = Structure.of(layer, cores[0])
        self.levels = [level.name for level in cores[0].levels]
        self.hardware = Hardware.of(layer, cores, self.structure, conventions)
        self.incumbent = np.full(len(cores), math.inf)
        self.unfit = self.dominated = self.bounded = 0

    def parts_of(self, order: Order) -> list[Part]:
        """The rows of every dimension of more than one iteration, not yet reduced."""
        structure, layer = self.structure, self.layer
        largest = self.hardware.axis_sizes.max(axis=1)
        sizes = {a[0]: int(n) for a, n in zip(structure.axes, largest, strict=True)}
        bounds = layer.bounds
        lines = {d: Line(structure, order, d, bound, sizes) for d, bound in bounds.items()}
        parts = [simple_part(structure, order, lines[d]) for d in SIMPLE_DIMS if bounds[d] > 1]
        overlap = self.conventions.halo == "timeloop"
        parts += [
            window_part(structure, order, lines[p], lines[r], layer, axis, overlap)
            for p, r, axis in WINDOWS
            if bounds[p] > 1 or bounds[r] > 1
        ]
        # a row of ones makes sure that there is at least one part
        return parts or [simple_part(structure, order, lines["N"])]

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
        """Objective of every row on every point, at least, `(rows, points)`."""
        read, written = self.traffic(low, high)
        hw = self.hardware
        cost = np.ones(())
        if self.objective != "latency":
            cost = read @ hw.read_price.T + written @ hw.write_price.T + hw.fixed_energy
        if self.objective != "energy":
            cycles = np.repeat(low[:, :1], hw.points, axis=1)
            for level in range(len(self.levels)):
                for bits, rate in (
                    (read, hw.read_rate), (written, hw.write_rate), (read + written, hw.rate)
                ):  # fmt: skip
                    if np.isfinite(rate[:, level]).any():
                        cycles = np.maximum(cycles, bits[:, level, None] / rate[:, level])
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
            least, most: `(columns,)` smallest and largest multipliers that the dimensions still to
                be joined can bring, `None` after the last one.
            beam: keep only so many rows for every hardware point; 0 for all.
        """
        last = least is None or most is None
        low = part.values if last else part.values * least
        high = part.values if last else part.values * most
        able = self.fits(low, high)
        bound = np.where(able, self.objective_bound(low, high), math.inf)
        fitting = able.any(axis=1)
        keep = fitting & (bound <= self.incumbent * SLACK).any(axis=1)
        if not beam:
            self.unfit += int(np.count_nonzero(~fitting))
            self.bounded += int(np.count_nonzero(fitting & ~keep))
        rows = np.flatnonzero(keep)
        if beam and len(rows) > beam:
            best = np.argpartition(bound[rows], beam, axis=0)[:beam]
            rows = rows[np.unique(best)]
        values = part.values[rows]
        if last and len(rows):
            self.incumbent = np.minimum(self.incumbent, bound[rows].min(axis=0))
        if len(rows) > 1:
            kept = find_nondominated(self._keys(values, part.flagged[rows], most))
            if not beam:
                self.dominated += len(rows) - len(kept)
            rows = rows[kept]
        return replace(
            part,
            values=part.values[rows],
            flagged=part.flagged[rows],
            choice=part.choice[rows],
        )

    def _keys(self, values: np.ndarray, flagged: np.ndarray, most: np.ndarray | None) -> np.ndarray:
        """Columns in which a row must be no larger to dominate another."""
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
            always = (values[:, columns] * most[columns]) @ width <= capacity.min()
            keys.append(np.where(always[:, None], 0.0, values[:, columns]))
        for number, size in enumerate(hw.axis_sizes):
            column = values[:, structure.first_axis + number]
            always = column * most[structure.first_axis + number] <= size.min()
            keys.append(np.where(always, 0.0, column)[:, None])
        keys.append((flagged > 0).astype(np.float64))
        return np.concatenate(keys, axis=1)

    def walk(self, order: Order, *, beam: int = 0) -> Part:
        """The rows of one order that remain; finds a first incumbent when `beam` is given."""
        parts = self.parts_of(order)
        total = math.prod(part.total for part in parts)
        least = [part.values.min(axis=0) for part in parts]
        most = [part.values.max(axis=0) for part in parts]
        reduced = []
        for i, part in enumerate(parts):
            others = [j for j in range(len(parts)) if j != i]
            bounds = [_product([v[j] for j in others], part) for v in (least, most)]
            reduced.append(self.reduce(part, *bounds))
        reduced.sort(key=lambda part: len(part.values))
        if any(not len(part.values) for part in reduced):
            return replace(reduced[0], total=total, values=reduced[0].values[:0])
        joined = reduced[0]
        if len(reduced) == 1:
            joined = self.reduce(joined, None, None, beam=beam)
        for number in range(1, len(reduced)):
            left = reduced[number + 1 :]
            low = _product([p.values.min(axis=0) for p in left], joined) if left else None
            high = _product([p.values.max(axis=0) for p in left], joined) if left else None
            joined = self._join(joined, reduced[number], low, high, beam)
        return replace(joined, total=total)

    def _join(
        self, left: Part, right: Part, low: np.ndarray | None, high: np.ndarray | None, beam: int
    ) -> Part:
        """Joins two parts a chunk at a time."""
        step = max(1, CHUNK // max(1, len(right.values)))
        pieces = []
        for start in range(0, max(1, len(left.values)), step):
            rows = slice(start, start + step)
            chunk = replace(
                left,
                values=left.values[rows],
                flagged=left.flagged[rows],
                choice=left.choice[rows],
            )
            pieces.append(self.reduce(join_parts(chunk, right), low, high, beam=beam))
        if len(pieces) == 1:
            return pieces[0]
        together = replace(
            pieces[0],
            values=np.concatenate([p.values for p in pieces]),
            flagged=np.concatenate([p.flagged for p in pieces]),
            choice=np.concatenate([p.choice for p in pieces]),
        )
        return self.reduce(together, low, high, beam=beam)


def _product(multipliers: Sequence[np.ndarray], part: Part) -> np.ndarray:
    """Product of the multipliers of several parts, ones without any."""
    return np.prod([np.ones(part.values.shape[1]), *multipliers], axis=0)


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
    orders = list_orders(search.structure)
    for order in orders:
        search.walk(order, beam=BEAM)
    found, enumerated = [], 0
    for number, order in enumerate(orders):
        part = search.walk(order)
        enumerated += part.total
        if len(part.values):
            found.append((number, part))
    # rows found early may be above the incumbent found late
    rows = [(number, search.reduce(part, None, None)) for number, part in found]
    return Candidates(
        rows=tuple((number, part) for number, part in rows if len(part.values)),
        incumbent=search.incumbent,
        enumerated=enumerated,
        unfit=search.unfit,
        dominated=search.dominated,
        bounded=search.bounded,
    )
