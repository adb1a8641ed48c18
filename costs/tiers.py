"""Bounds of rows by tiers: what each level costs at least, whatever the other dimensions do.

A *tier* is the traffic out of one level. Energy is a sum over tiers, and a tier depends on few
columns: the words on its edges, the tiles it fills and the extents of the array. In these columns
few rows of a dimension are left that no other dominates, so that all dimensions can be joined tier
by tier, and the least energy of a tier is known for every row *under the capacities*. The product
of smallest multipliers (`costs.ranges`) does not see those: a dimension that takes much room leaves
little to the others. The sum over tiers is a bound, for the best completions in two tiers need not
be the same (docs/theory/mapping_space.md, lemma 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from costs.candidate_cost import CandidateCost
from costs.orders import Structure
from costs.pareto import find_nondominated

PAIRS = 200_000
"""Pairs of rows priced at a time."""

EFFORT = 400
"""Rows compared with all others when dominated ones are removed."""

MOST = 1_000
"""Rows that a tier is completed with at most; more are merged into the least of neighbours."""

FEW = 4
"""Rows of a part that are not asked about, unless it is the largest."""

WORTH = 0.8
"""Parts are asked again while one of them shrinks to less than this."""


@dataclass(frozen=True)
class Tier:
    """The traffic out of one level.

    Attributes:
        edges: numbers of the edges.
        counts: columns of words on them, and of what tails leave of these.
        held: columns of instances that hold the same output.
        anchors: tiles filled.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    held: tuple[int, ...]
    anchors: tuple[int, ...]


@lru_cache(maxsize=64)
def list_tiers(structure: Structure, levels: tuple[str, ...]) -> tuple[Tier, ...]:
    """The tiers of a kind of core; levels that serve the MACs alone are one."""
    held = {structure.anchors[a][1]: n for n, a in enumerate(structure.holders)}
    inputs = structure.input_edges
    groups: dict[str, list[int]] = {}
    for level in levels:
        edges = [n for n, edge in enumerate(structure.edges) if edge[1] == level]
        name = level if any(structure.edges[n][2] for n in edges) else ""
        groups.setdefault(name, []).extend(edges)
    tiers = []
    for edges in filter(None, groups.values()):
        outputs = [structure.edges[n] for n in edges if structure.edges[n][0] == "O"]
        ends = {end for edge in outputs for end in edge[1:] if end in held}
        filled = [(o, child) for o, _, child in (structure.edges[n] for n in edges) if child]
        anchors = tuple(map(structure.anchors.index, filled))
        tiers.append(
            Tier(
                edges=tuple(edges),
                counts=(
                    *(c for n in edges for c in (1 + 2 * n, 2 + 2 * n)),
                    *(structure.first_whole + a for a in anchors if structure.view != "usual"),
                    *(c for n in edges if n in inputs for c in structure.once_columns(n)),
                ),
                held=tuple(structure.first_held + held[end] for end in sorted(ends)),
                anchors=anchors,
            )
        )
    return tuple(tiers)


class Product:
    """All pairs of rows of two tables, column by column when asked for."""

    def __init__(self, left: np.ndarray, right: np.ndarray):
        """The pairs of `(rows, columns)` and `(others, columns)`, the right one running first."""
        self.left, self.right = left, right

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.left) * len(self.right)

    def __getitem__(self, at: tuple[slice, int]) -> np.ndarray:
        """One column of all pairs."""
        return np.multiply.outer(self.left[:, at[1]], self.right[:, at[1]]).ravel()

    def take(self, pairs: np.ndarray) -> np.ndarray:
        """Some of the pairs, all columns."""
        a, b = np.divmod(pairs, len(self.right))
        return self.left[a] * self.right[b]


class Tiers:
    """Bounds of the rows of one order, tier by tier, on a single core."""

    def __init__(self, cost: CandidateCost, parts: Sequence[np.ndarray], limit: float):
        """The tiers of an order.

        Args:
            cost: prices rows; the energies used are those of its first core.
            parts: `(rows, columns)` rows of disjoint dimensions, together all; at least one each.
            limit: energy above which a complete row is of no use [pJ].
        """
        self.cost, self.limit, self.parts = cost, limit, list(parts)
        self.left = [np.arange(len(part)) for part in parts]
        self.bounds = [np.zeros(len(part)) for part in parts]
        self._small: dict[tuple[int, int], np.ndarray] = {}
        self._ends: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        structure = cost.structure
        self.sizes = [float(size[0]) for size in cost.hardware.axis_sizes]
        low, high = self._range(range(len(parts)))
        self.width = cost.least_widths(low[None], high[None])
        self.tiers = list_tiers(structure, tuple(cost.levels))
        self.floors = [float(cost.energy(low[None], high[None], t.edges)[0]) for t in self.tiers]
        self.mac = float(cost.hardware.mac_energy[0]) * cost.layer.macs

    @property
    def floor(self) -> float:
        """What no complete row undercuts, as far as is known [pJ]."""
        least = (float(bounds.min()) for bounds in self.bounds if len(bounds))
        return max(self._sum, *least)

    @property
    def _sum(self) -> float:
        """The least of every tier and the MACs [pJ]."""
        return self.mac + sum(self.floors)

    def narrow(self) -> list[np.ndarray]:
        """Indices of the rows of every part that may be of use, those of the lowest bound first."""
        asked = sorted(range(len(self.parts)), key=lambda i: -len(self.parts[i]))
        asked = [i for number, i in enumerate(asked) if not number or len(self.parts[i]) > FEW]
        while True:
            shrunk = False
            for i in asked:
                before = len(self.parts[i])
                bounds = self.bound(i)
                alive = bounds <= self.limit
                self.left[i], self.parts[i] = self.left[i][alive], self.parts[i][alive]
                self.bounds[i] = bounds[alive]
                self._small = {key: rows for key, rows in self._small.items() if key[1] != i}
                self._ends.pop(i, None)
                if not alive.any():
                    return [rows[:0] for rows in self.left]
                shrunk |= len(self.parts[i]) < WORTH * before
            if not shrunk:
                break
        return [
            rows[np.argsort(bounds, kind="stable")]
            for rows, bounds in zip(self.left, self.bounds, strict=True)
        ]

    def _range(self, parts: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest product of rows of some parts, column by column."""
        low, high = np.ones((2, self.parts[0].shape[1]))
        for i in parts:
            if i not in self._ends:
                self._ends[i] = self.parts[i].min(axis=0), self.parts[i].max(axis=0)
            low, high = low * self._ends[i][0], high * self._ends[i][1]
        return low, high

    def _fits(self, tier: Tier, values: np.ndarray | Product) -> np.ndarray:
        structure = self.cost.structure
        able = np.ones(len(values), bool)
        for anchors, capacity in self.cost.hardware.capacities:
            mine = [a for a in anchors if a in tier.anchors]
            if mine:
                bits = sum(values[:, structure.first_tile + a] * self.width[a] for a in mine)
                able &= bits <= capacity[0]
        for number, size in enumerate(self.sizes):
            able &= values[:, structure.first_axis + number] <= size
        return able

    def _reduce(self, tier: Tier, values: np.ndarray) -> np.ndarray:
        """Rows that differ in what the tier sees, without those that another dominates."""
        structure = self.cost.structure
        keys = [values[:, tier.counts], -values[:, tier.held]]
        for anchors, capacity in self.cost.hardware.capacities:
            mine = [a for a in anchors if a in tier.anchors]
            for a in mine:
                tile = values[:, structure.first_tile + a] * self.width[a]
                # alone in its room, a tile matters by the words that it leaves to the others
                alone = len(mine) == 1
                keys.append((-np.floor(capacity[0] / tile) if alone else tile)[:, None])
        for number, size in enumerate(self.sizes):
            keys.append(-np.floor(size / values[:, structure.first_axis + number])[:, None])
        table = np.concatenate(keys, axis=1)
        table = table[:, (table != table[:1]).any(axis=0)]
        if not table.shape[1]:
            return values[:1]
        kept = find_different(table)
        kept = kept[find_nondominated(table[kept], EFFORT)]
        return values[kept]

    def _join(
        self, number: int, left: np.ndarray, right: np.ndarray, least: np.ndarray, most: np.ndarray
    ) -> np.ndarray:
        """Pairs that fit and may be cheap enough, without dominated ones.

        Args:
            number: the tier.
            left, right: rows of some dimensions.
            least, most: `(columns,)` what the dimensions not in either bring.
        """
        tier = self.tiers[number]
        budget = self.limit - self._sum + self.floors[number]
        step = max(1, PAIRS // max(1, len(right)))
        found = []
        for start in range(0, len(left), step):
            pairs = Product(left[start : start + step], right)
            able = np.flatnonzero(self._fits(tier, pairs))
            values = pairs.take(able)
            energy = self.cost.energy(values * least, values * most, tier.edges)
            values = values[energy <= budget]
            found.append(self._reduce(tier, values) if len(values) else values)
        if len(found) == 1:
            return found[0]
        values = np.concatenate(found) if found else left[:0]
        return self._reduce(tier, values) if len(values) else values

    def bound(self, asked: int) -> np.ndarray:
        """Least energy of every row of a part, joined with any rows of the others [pJ]."""
        total = np.full(len(self.parts[asked]), self.mac)
        for number, tier in enumerate(self.tiers):
            others = [i for i in range(len(self.parts)) if i != asked]
            for i in others:
                if (number, i) not in self._small:
                    self._small[number, i] = self._reduce(tier, self.parts[i])
            others.sort(key=lambda i: len(self._small[number, i]))
            joined = np.ones((1, self.parts[0].shape[1]))
            for count, i in enumerate(others):
                least, most = self._range((*others[count + 1 :], asked))
                joined = self._join(number, joined, self._small[number, i], least, most)
            least = self._complete(tier, self.parts[asked], joined)
            total += least
            self.floors[number] = max(self.floors[number], least.min())
            if self._sum > self.limit:
                return np.full(len(total), np.inf)
        return total

    def _complete(self, tier: Tier, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Least energy of the tier for every row with any of the others; infinite if none fits."""
        if not len(others):
            return np.full(len(rows), np.inf)
        if len(others) > MOST:
            others = self._merge(tier, others)
        structure = self.cost.structure
        seen = [
            *tier.counts, *tier.held, *(structure.first_tile + a for a in tier.anchors),
            *range(structure.first_axis, structure.columns),
        ]  # fmt: skip
        different, back = find_different(rows[:, seen], inverse=True)
        rows = rows[different]
        least = []
        step = max(1, PAIRS // len(others))
        for start in range(0, len(rows), step):
            pairs = Product(rows[start : start + step], others)
            energy = self.cost.energy(pairs, pairs, tier.edges)
            energy = np.where(self._fits(tier, pairs), energy, np.inf)
            least.append(energy.reshape(-1, len(others)).min(axis=1))
        return np.concatenate(least)[back]

    def _merge(self, tier: Tier, values: np.ndarray) -> np.ndarray:
        """Fewer rows that are no dearer: the least of neighbours in the order of energy."""
        energy = self.cost.energy(values, values, tier.edges)
        values = values[np.argsort(energy, kind="stable")]
        begin = np.linspace(0, len(values), MOST, endpoint=False).astype(int)
        merged = np.minimum.reduceat(values, begin, axis=0)
        merged[:, tier.held] = np.maximum.reduceat(values[:, tier.held], begin, axis=0)
        return merged


def find_different(table: np.ndarray, *, inverse: bool = False):
    """Indices of the first of equal rows; with `inverse` also which of them every row equals."""
    order = np.lexsort(table.T)
    ordered = table[order]
    fresh = np.ones(len(table), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    if not inverse:
        return order[fresh]
    back = np.empty(len(table), np.int64)
    back[order] = np.cumsum(fresh) - 1
    return order[fresh], back
