"""What rows of multipliers cost, or at least cost, at every hardware point.

Where a choice is still open the smallest values that the columns can end with bound the cost from
below (docs/theory/mapping_space.md, lemma 5); for complete rows it is their cost by equation (1),
or in the views that look for less what their real cost is at least (lemma 8).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from costs.bounds import calc_compulsory_words
from costs.conventions import Conventions
from costs.core import Core
from costs.hardware_points import Same, hardware_of
from costs.layer import Layer
from costs.orders import Structure, View
from costs.parts import Part
from costs.window_parts import count_distinct

MOST_WORDS = 1e300
"""More than any count; finite, so that differences are numbers."""

MANY_PRICES = 4
"""Sets of prices from which on rows are first asked at the least of all."""


class Columns(Protocol):
    """Rows of multipliers of which columns are asked for: a table, or products not yet made."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, at: tuple[slice, int], /) -> np.ndarray:
        """One column of all rows."""
        ...


def skips_padding(layer: Layer, conventions: Conventions) -> bool:
    """Whether there is padding that does not count: (2) counts it."""
    return conventions.padding == "skipped" and any(map(any, layer.padding))


def overstates(layer: Layer, conventions: Conventions) -> bool:
    """Whether (2) is only an upper bound of the words of input tiles, and often not near them.

    It counts padding, and of what tiles share that which the innermost loop keeps.
    """
    slides = any(layer.bounds[out] > 1 < layer.bounds[kernel] for out, kernel in ("PR", "QS"))
    return skips_padding(layer, conventions) or (conventions.halo == "exact" and slides)


class CandidateCost:
    """Traffic, objective and fit of the rows of one layer on several cores of one structure."""

    def __init__(
        self, layer: Layer, cores: Sequence[Core], objective: str, conventions: Conventions,
        view: View = "usual",
    ):  # fmt: skip
        """Gather what the rows are priced with."""
        self.layer, self.objective, self.conventions = layer, objective, conventions
        self.structure = replace(Structure.of(layer, cores[0], conventions), view=view)
        # where (2) overstates the words of input tiles only the different real ones are sure
        self.overstates = overstates(layer, conventions)
        skips = skips_padding(layer, conventions)
        self.distinct = calc_compulsory_words(layer) if skips else count_distinct(layer)
        # rows priced so far: effort that is the same on every machine
        self.priced = 0
        self.levels = [level.name for level in cores[0].levels]
        self.hardware = hardware_of(
            tuple(map(Same, cores)), self.structure, conventions, max(layer.bits_w, layer.bits_i)
        )

    def at(self, points: np.ndarray) -> CandidateCost:
        """The same at some of the points."""
        some = copy.copy(self)
        some.hardware = self.hardware.take(points)
        return some

    def _crossing(
        self, low: Columns, high: Columns, edges: Collection[int] | None = None
    ) -> dict[tuple[str, str], np.ndarray]:
        """Whether partial sums surely pass an edge of outputs, some of them more than once."""
        structure = self.structure
        held = {structure.anchors[a][1]: n for n, a in enumerate(structure.holders)}
        words = float(self.layer.words("O"))
        crossing = {}
        for number, (operand, parent, child) in enumerate(structure.edges):
            if operand == "O" and (edges is None or number in edges):
                seen = words * (
                    high[:, structure.first_held + held[parent]] if parent in held else 1.0
                )
                crossing[parent, child] = low[:, 1 + 2 * number] > seen
        return crossing

    def _word_bits(self, crossing: np.ndarray) -> np.ndarray:
        """Bits of a word of outputs: of a partial sum where one crosses."""
        whole, psum = self.layer.bits_o, max(self.layer.bits_o, self.layer.bits_psum)
        return np.where(crossing, float(psum), float(whole))

    def traffic(
        self, low: Columns, high: Columns, edges: Collection[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bits read and written at every level, `(rows, levels)`, at least.

        Args:
            low: `(rows, columns)` smallest values the columns can end with.
            high: the largest.
            edges: numbers of the edges to count; all by default.
        """
        self.priced += len(low)
        structure, layer = self.structure, self.layer
        read, written = np.zeros((2, len(low), len(self.levels)))
        held = {structure.anchors[a][1]: n for n, a in enumerate(structure.holders)}
        words = float(layer.words("O"))
        crossing = self._crossing(low, high, edges)
        rule = self.conventions.first_read
        for number, (operand, parent, child) in enumerate(structure.edges):
            if edges is not None and number not in edges:
                continue
            above, below = self._words(low, number)
            at = self.levels.index(parent)
            inner = self.levels.index(child) if child else -1
            if operand != "O":
                width = float(layer.bits(operand))
                read[:, at] += above * width
                if child:
                    written[:, inner] += below * width
                continue
            partial = crossing[parent, child]
            width = self._word_bits(partial)
            first = words * (
                high[:, structure.first_held + held[parent]] if parent in held else 1.0
            )
            # where nothing returns all words are seen for the first time
            counted = partial if rule == "counted" else rule == "at_mac" and not child
            read[:, at] += np.where(counted, above, np.maximum(above - first, 0)) * width
            written[:, at] += above * width
            if child:
                seen = words * high[:, structure.first_held + held[child]]
                returning = partial & (rule == "counted")
                again = np.where(returning, below, np.maximum(below - seen, 0))
                written[:, inner] += again * width
                if self.conventions.drain_reads:
                    read[:, inner] += below * width
        return read, written

    def _words(self, low: Columns, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Words seen by the parent and by the children of an edge, at least.

        By equations (1) and (2) in the usual view, else by lemma 8.
        """
        structure = self.structure
        operand, _, child = structure.edges[number]
        above, below = low[:, 1 + 2 * number], low[:, 2 + 2 * number]
        if structure.view == "usual":
            return above, below
        if operand == "I" and self.overstates:
            once = np.full(len(low), float(self.distinct[operand]))
            return once, once
        if not child:
            return above, below
        anchor = structure.anchors.index((operand, child))
        whole = np.maximum(
            1 / 2 if operand == "I" and structure.overlap else 2 / 3,
            low[:, structure.first_whole + anchor],
        )
        if operand == "I":
            # infinite in orders that have no rows
            once = [np.minimum(low[:, c], MOST_WORDS) for c in structure.once_columns(number)]
        else:
            once = [np.float64(self.distinct[operand])] * 2
        return (
            once[0] + whole * np.maximum(above - once[0], 0.0),
            once[1] + whole * np.maximum(below - once[1], 0.0),
        )

    def energy(self, low: Columns, high: Columns, edges: Collection[int]) -> np.ndarray:
        """Energy of the traffic on some edges on the first core, at least, `(rows,)` [pJ]."""
        read, written = self.traffic(low, high, edges)
        return read @ self.hardware.read_price[0] + written @ self.hardware.write_price[0]

    def least_widths(self, low: np.ndarray, high: np.ndarray) -> list[float]:
        """Bits of a word of every anchor that a row in this range has at least."""
        served = {
            parent: float(self._word_bits(crossing)[0])
            for (parent, _), crossing in self._crossing(low, high).items()
        }
        return [
            served[level] if operand == "O" else float(self.layer.bits(operand))
            for operand, level in self.structure.anchors
        ]

    def objective_bound(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Objective of every row under every set of prices, at least, `(rows, prices)`.

        Infinite in orders that have no rows, whose `low` is.
        """
        hw = self.hardware.distinct
        there = np.isfinite(low[:, 0])
        if not there.all():  # a price may be zero, and nothing times infinity is no bound
            bound = np.full((len(low), hw.points), math.inf)
            bound[there] = self.objective_bound(low[there], high[there])
            return bound
        read, written = self.traffic(low, high)
        cost = np.ones(())
        if self.objective != "latency":
            cost = (
                read @ hw.read_price.T
                + written @ hw.write_price.T
                + self.layer.macs * hw.mac_energy
            )
        if self.objective != "energy":
            cost = cost * self._cycles(low, high, read, written)
        return cost

    def find_cheap(self, low: np.ndarray, high: np.ndarray, limit: float) -> np.ndarray:
        """Rows whose energy at the least of all prices is within a limit; else all rows.

        With many sets of prices it is much sooner known than the objective under each.
        """
        hw = self.hardware.distinct
        if self.objective != "energy" or hw.points < MANY_PRICES or not np.isfinite(limit):
            return np.arange(len(low))
        there = np.flatnonzero(np.isfinite(low[:, 0]))
        if len(there) < len(low):  # as above
            return there[self.find_cheap(low[there], high[there], limit)]
        read, written = self.traffic(low, high)
        energy = read @ hw.read_price.min(axis=0) + written @ hw.write_price.min(axis=0)
        return np.flatnonzero(energy + self.layer.macs * hw.mac_energy.min() <= limit)

    def factor(self, low: np.ndarray, high: np.ndarray) -> float:
        """What the energy of any row of a range `(columns,)` is multiplied with, at least."""
        if self.objective == "energy":
            return 1.0
        read, written = self.traffic(low[None], high[None])
        return float(self._cycles(low[None], high[None], read, written)[0, 0])

    def _cycles(
        self, low: np.ndarray, high: np.ndarray, read: np.ndarray, written: np.ndarray
    ) -> np.ndarray:
        """Cycles of every row under every set of prices, at least, `(rows, prices)`."""
        hw = self.hardware.distinct
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
        return cycles

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
        served = {
            parent: self._word_bits(crossing)
            for (parent, _), crossing in self._crossing(low, high).items()
        }
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

    def keys(self, part: Part, most: np.ndarray | None) -> np.ndarray:
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


def _snap(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Number of the smallest size that is large enough, `(rows, 1)`."""
    steps = np.unique(sizes)
    return np.searchsorted(steps, values, side="left").astype(np.float64)[:, None]
