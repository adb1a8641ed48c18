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
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costs.candidate_cost import CandidateCost
from costs.conventions import Conventions
from costs.core import Core
from costs.descent import descend
from costs.halves import join_by_halves
from costs.layer import Layer
from costs.listing import list_parts
from costs.orders import View, list_claims
from costs.pareto import find_nondominated
from costs.parts import (
    EFFORT,
    SIMPLE_DIMS,
    WINDOWS,
    Part,
    in_dim_order,
    join_parts,
    pair_rows,
    stack_parts,
)
from costs.ranges import calc_extremes, calc_product, calc_range
from costs.tiers import Tiers
from costs.tilings import Choice, count_tilings, list_groups

CHUNK = 50_000
"""Rows joined at a time, so that memory stays bounded."""

BEAM = 24
"""Rows kept per hardware point and step by the first, greedy walk that finds an incumbent."""

MANY = 10_000_000
"""Combinations of rows from which on those of a single core are narrowed by tiers before a walk."""

ROOM = 2_000_000
"""Rows joined without dominance at most, for memory's sake."""

SPLIT = 100_000
"""Combinations of rows from which on those of several cores are joined half by half."""

SLACK = 1 + 1e-9
"""Relative error granted to a bound before it excludes: far more than rounding can cause."""

LESS = 1 - 1e-12
"""What of a real cost another must reach to count as less: rounding causes a hundredth of that."""


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
        bound: `(points,)` what no mapping undercuts; the incumbent where the search ended.
        proved: whether the search ended, so that the best of the rows is the optimum.
        coarse: whether the rows number the tilings among the few factors of the first look.
    """

    rows: Part
    incumbent: np.ndarray
    enumerated: int
    unfit: int
    dominated: int
    bounded: int
    bound: np.ndarray
    proved: bool
    coarse: bool = False


class OutOfTime(Exception):
    """The time a search was given is over."""


class Search:
    """The walk of one layer over one kind of core; holds what all orders share."""

    def __init__(
        self, layer: Layer, cores: Sequence[Core], objective: str, conventions: Conventions,
        view: View = "usual",
    ):  # fmt: skip
        """Start without an incumbent."""
        self.cost = CandidateCost(layer, cores, objective, conventions, view)
        self.structure, self.hardware = self.cost.structure, self.cost.hardware
        self.claims = list_claims(self.structure)
        self.incumbent = np.full(len(cores), math.inf)
        self.unfit = self.dominated = self.bounded = 0
        # whether all rows are asked for that the bound leaves
        self.keeps_dominated = False
        self.deadline_s = self.most_priced = math.inf
        # objective of the best mapping of an order that descents found
        self.reached = np.full(len(self.claims), math.inf)
        # objective that no mapping of an order undercuts, as far as tiers were asked
        self.floors = np.zeros(len(self.claims))
        # what bounds by tiers apply to
        self.alone = len(cores) == 1 and objective != "latency"
        self.best: list[Part] = []  # complete rows that were the cheapest yet somewhere
        bounds = layer.bounds
        choices = [Choice((d,), (bounds[d],)) for d in SIMPLE_DIMS if bounds[d] > 1]
        choices += [
            Choice((p, r), (bounds[p], bounds[r]), (layer.stride[axis], layer.dilation[axis]))
            for p, r, axis in WINDOWS
            if bounds[p] > 1 or bounds[r] > 1
        ]
        # a row of ones makes sure that there is at least one
        self.choices = choices or [Choice(("N",), (1,))]
        self.sizes = tuple(int(n) for n in self.hardware.axis_sizes.max(axis=1, initial=0))
        most_words = [math.inf] * len(self.structure.anchors)
        for anchors, capacity in self.hardware.capacities:
            for anchor in anchors:
                width = layer.bits(self.structure.anchors[anchor][0])
                most_words[anchor] = float(capacity.max() // width)
        self.most_words = tuple(most_words)

    def count_mappings(self) -> int:
        """Combinations of tilings and orders that lemmas 2 and 3 leave."""
        totals = 1
        for choice in self.choices:
            totals *= count_tilings(list_groups(self.structure, self.sizes, choice, False))
        return int(np.sum(totals))

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
        self.check_time()
        last = least is None or most is None
        low = part.values if least is None else part.values * least[part.order]
        high = part.values if most is None else part.values * most[part.order]
        rows, reached = self.find_alive(low, high, count=not beam)
        if last and self.seeks and len(rows):
            if (reached.min(axis=0) < self.incumbent).any():
                self.best.append(in_dim_order(part.take(rows[np.unique(reached.argmin(axis=0))])))
            self.incumbent = np.minimum(self.incumbent, reached.min(axis=0))
        if beam and len(rows) > beam:
            rows = rows[np.unique(np.argpartition(reached, beam, axis=0)[:beam])]
        elif len(rows) > 1 and not self.keeps_dominated:
            limit = None if most is None else most[part.order[rows]]
            keys = self.cost.keys(part.take(rows), limit)
            kept = _find_best(keys, None if last and self.seeks else part.order[rows])
            self.dominated += 0 if beam else len(rows) - len(kept)
            rows = rows[kept]
        return part.take(rows)

    def find_alive(
        self, low: np.ndarray, high: np.ndarray, *, count: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that may fit and be as cheap as the incumbent somewhere, and their bounds there.

        Args:
            low: `(rows, columns)` smallest values the columns can end with.
            high: the largest.
            count: whether to count what is left out.

        Returns:
            indices of the rows, and `(kept rows, points)` bounds, infinite where a row cannot fit.
        """
        rows = self.cost.find_cheap(low, high, float(self.limits.max()))
        dear, low, high = len(low) - len(rows), low[rows], high[rows]
        bound = self.cost.objective_bound(low, high)
        # first without asking what fits, once for all points of the same prices
        kind = self.hardware.kind
        highest = np.full(bound.shape[1], -math.inf)
        np.maximum.at(highest, kind, self.incumbent)
        hopeful = np.flatnonzero((bound <= highest * self.slack).any(axis=1))
        able = self.cost.fits(low[hopeful], high[hopeful])
        reached = np.where(able, bound[hopeful][:, kind], math.inf)
        alive = (able & (reached <= self.limits)).any(axis=1)
        if count:
            fitting = int(np.count_nonzero(able.any(axis=1)))
            kept = int(np.count_nonzero(alive))
            self.unfit += len(hopeful) - fitting
            self.bounded += dear + len(low) - len(hopeful) + fitting - kept
        return rows[hopeful[alive]], reached[alive]

    def bound(self, parts: list[Part] | None) -> np.ndarray:
        """`(points,)` what no mapping undercuts, by listed rows or what is known of orders."""
        floor = np.minimum(self.floors.min(), self.incumbent)
        if parts is None:
            shape = (len(self.claims), self.structure.columns)
            ranges = [calc_range(self.structure, self.sizes, choice) for choice in self.choices]
            wide = [(np.broadcast_to(a, shape), np.broadcast_to(b, shape)) for a, b in ranges]
            low, high = calc_product(wide)
            return np.maximum(self._least_bound(low, high), floor)
        ranges = [calc_extremes(part) for part in parts]
        bounds = [floor]
        for i, part in enumerate(parts):
            least, most = calc_product([*ranges[:i], *ranges[i + 1 :]])
            low = part.values if least is None else part.values * least[part.order]
            high = part.values if most is None else part.values * most[part.order]
            bounds.append(self._least_bound(low, high))
        return np.max(bounds, axis=0)

    def _least_bound(self, low: np.ndarray | None, high: np.ndarray | None) -> np.ndarray:
        assert low is not None
        assert high is not None
        least = self.cost.objective_bound(low, high).min(axis=0, initial=math.inf)
        # rows that cost more than the incumbent have been dropped
        return np.minimum(least[self.hardware.kind], self.incumbent)

    def trim(self, parts: list[Part]) -> list[Part]:
        """The parts less the rows that the bound excludes whatever they are joined with."""
        shared = np.ones(len(self.claims), bool)
        for part in parts:
            shared &= np.isin(np.arange(len(shared)), part.order)
        parts = [part.take(np.flatnonzero(shared[part.order])) for part in parts]
        ranges = [calc_extremes(part) for part in parts]
        return [
            self.reduce(part, *calc_product([*ranges[:i], *ranges[i + 1 :]]))
            for i, part in enumerate(parts)
        ]

    def check_time(self) -> None:
        """Raises OutOfTime when time, or effort in rows priced, is used up."""
        if time.monotonic() > self.deadline_s or self.cost.priced > self.most_priced:
            raise OutOfTime

    @property
    def seeks(self) -> bool:
        """Whether it looks for incumbents; in the other views it excludes what reaches none."""
        return self.structure.view == "usual"

    @property
    def slack(self) -> float:
        """What part of an incumbent a bound may reach."""
        return SLACK if self.seeks else LESS

    @property
    def limits(self) -> np.ndarray:
        """`(points,)` objective above which nothing is of use."""
        return self.incumbent * self.slack

    def tiers(self, parts: list[Part]) -> tuple[Tiers, float]:
        """Bounds of the rows of one order, and the factor from energy to objective."""
        values = [part.values for part in parts]
        low, high = (
            np.prod([getattr(rows, end)(axis=0) for rows in values], axis=0)
            for end in ("min", "max")
        )
        factor = self.cost.factor(low, high)
        return Tiers(self.cost, values, float(self.limits[0]) / factor), factor

    def narrow_order(self, parts: list[Part]) -> tuple[list[Part], float]:
        """Rows of one order that bounds by tiers leave, and their bound; [] if a part has none."""
        self.check_time()
        if not all(map(len, parts)):
            return [], math.inf
        if not self.alone:
            return parts, 0.0
        tiers, factor = self.tiers(parts)
        kept = tiers.narrow()
        self.bounded += sum(map(len, parts)) - sum(map(len, kept))
        if not all(map(len, kept)):
            return [], math.inf
        return [p.take(rows) for p, rows in zip(parts, kept, strict=True)], tiers.floor * factor

    def join(self, parts: list[Part]) -> Part:
        """Joins all dimensions; by halves of the cores, and orders by tiers, where that pays."""
        counts = [np.bincount(part.order, minlength=len(self.claims)) for part in parts]
        pairs = np.prod(np.array(counts, float), axis=0)
        if len(self.incumbent) > 1 and pairs.sum() >= SPLIT:
            return join_by_halves(self, parts)
        if not self.alone or pairs.sum() < MANY:
            return self.walk(parts)
        pieces = []
        for number in np.flatnonzero(pairs):
            mine, _ = self.narrow_order([p.take(np.flatnonzero(p.order == number)) for p in parts])
            while len(mine) > 2:
                first, second, *rest = sorted(mine, key=len)
                least, most = calc_product([calc_extremes(part) for part in rest])
                joined = self._join(first, second, least, most, 0)
                mine, _ = self.narrow_order([joined, *rest])
            if mine:
                pieces.append(in_dim_order(self.walk(mine)))
        return stack_parts(pieces) if pieces else self.walk(parts)

    def walk(self, parts: list[Part], *, beam: int = 0) -> Part:
        """Joins all dimensions; finds a first incumbent when `beam` is given."""
        parts = sorted(parts, key=len)
        ranges = [calc_extremes(part) for part in parts]
        joined = parts[0]
        if len(parts) == 1:
            return self.reduce(joined, None, None, beam=beam)
        for number in range(1, len(parts)):
            least, most = calc_product(ranges[number + 1 :])
            joined = self._join(joined, parts[number], least, most, beam)
        return joined

    def descend(self, parts: list[Part]) -> None:
        """Lowers the incumbent by what is found one dimension at a time (`costs.descent`)."""
        for joined in descend(self.cost, parts, self.claims):
            reached = self.cost.objective_bound(joined.values, joined.values)[:, 0]
            np.minimum.at(self.reached, joined.order, reached)
            self.reduce(joined, None, None)

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
            joined = join_parts(left, right, a, b, self.claims)
            pieces.append(self.reduce(joined, low, high, beam=beam))
            if sum(map(len, pieces)) > ROOM and self.keeps_dominated:
                raise OutOfTime
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


def find_candidates(
    layer: Layer,
    cores: Sequence[Core],
    objective: str,
    conventions: Conventions,
    limit_s: float | None = None,
) -> Candidates:
    """The mappings of a layer one of which is best on each of several cores of one structure.

    Args:
        layer: the layer.
        cores: cores with the same levels and axes, of any sizes, energies and bandwidths.
        objective: "energy", "latency" or "edp".
        conventions: how accesses and capacity are counted.
        limit_s: how long to look for the proof on a single core, once something that fits is known
            [s]; afterwards the best found is given, with a bound.
    """
    search = Search(layer, cores, objective, conventions)
    # a rough idea of what is cheap, then all that could be cheaper
    coarse = list_parts(search, coarse=True)
    search.walk(search.trim(coarse), beam=BEAM)
    if len(cores) == 1:
        search.descend(coarse)
    rough, search.best = search.best, []
    search.unfit = search.dominated = search.bounded = 0
    if limit_s is not None and len(cores) == 1 and rough:
        search.deadline_s = time.monotonic() + limit_s
    parts = None
    try:
        parts = search.trim(list_parts(search))
        search.walk(parts, beam=BEAM)
        parts = search.trim(parts)
        rows = search.reduce(search.join(parts), None, None)
        proved = True
    except OutOfTime:
        rows, proved = stack_parts(search.best or rough), False
    return Candidates(
        rows=rows,
        incumbent=search.incumbent,
        enumerated=search.count_mappings(),
        unfit=search.unfit,
        dominated=search.dominated,
        bounded=search.bounded,
        bound=search.incumbent if proved else search.bound(parts),
        proved=proved,
        coarse=not proved and not search.best,
    )
