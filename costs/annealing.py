"""Moves and swaps with simulated annealing: many chains at once, drawn by heat bath.

A step takes a *block* of layers and draws, in every chain, how it is assigned anew: among all cores
for a layer, among swaps, common and drawn cores for two, among all cores for a run of three or
four, among the exchanges of two cores within a window or everywhere. An option is drawn with a
probability that falls exponentially with its potential, so that no proposal is lost. Options are
priced by sums of rows as in `costs.instance_cost`, of which a block changes few, in float32.

The potential is the objective, for the interval the p-norm of all loads, which sees the loads below
the largest; p rises towards the maximum. Temperatures fall geometrically, as parts of the first
potential; a third and two thirds of the way through, the better half of the chains replaces the
worse. Descent by `costs.local_search` ends it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from costs.assignment_instance import AssignmentInstance
from costs.instance_cost import PJ, CostTables, calc_objective, item_rows, transfer_rows
from costs.local_search import improve

DOUBLINGS = (3, 4, 5)  # norms of the loads are 2 to the power of these, first to last
OVERFULL = 10.0  # potential of weights that exceed all memories by themselves, times the interval
IMPOSSIBLE = 10.0  # memories that the weights of a layer fill where it cannot run
HOT, COLD = 0.04, 0.0005  # temperature over potential, first and last
ALL_PAIRS = 16  # assignments of two layers that are all tried; of more a draw
LEAST_PART = 0.1  # of the largest load, so that powers stay normal numbers
TINY = 1e-30
TABLE_ROWS = 1 << 14  # of a tensor; with more cores rows are computed anew


def anneal(
    instance: AssignmentInstance | CostTables,
    assignment: np.ndarray,
    objective: str = "interval",
    *,
    chains: int = 64,
    sweeps: int = 32,
    hot: float = HOT,
    seed: int = 0,
) -> np.ndarray:
    """The best assignment that annealed moves and swaps lead to from one, then descent.

    Args:
        instance: the instance, or its tables where they are at hand.
        assignment: [layers] where to start, or [layers, starts].
        objective: one of `costs.instance_cost.OBJECTIVES`.
        chains: how many walk side by side.
        sweeps: of each chain, every one over all layers and many pairs.
        hot: first temperature over potential.
        seed: of the walk.

    Returns:
        [layers]; never worse than the best that was given.
    """
    tables = instance if isinstance(instance, CostTables) else CostTables.of(instance)
    layers, cores = tables.instance.shape
    if cores == 1:
        return np.zeros(layers, int)
    rng = np.random.default_rng([seed, 22])
    starts = assignment.reshape(layers, -1)
    walk = _Walk(tables, starts[:, np.arange(chains) % starts.shape[1]].copy(), objective)
    for sweep in range(sweeps):
        done = sweep / max(sweeps - 1, 1)
        part = hot * (COLD / hot) ** done
        doublings = DOUBLINGS[min(int(done * len(DOUBLINGS)), len(DOUBLINGS) - 1)]
        for block, options in _draw_blocks(walk, rng):
            walk.step(block, options, part, doublings, rng)
        walk.renew()
        if sweep in (sweeps // 3, 2 * sweeps // 3):
            walk.select(doublings)
    found = improve(tables, walk.best, objective)
    options = np.concatenate([found[:, None], starts], axis=1)
    return options[:, np.argmin(calc_objective(tables, options, objective))]


def _draw_blocks(walk: _Walk, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of a sweep, and what each may become: [1 or chains, options, layers of the block]."""
    layers, cores = walk.instance.shape
    every = np.arange(cores)
    both = np.indices((cores, cores)).reshape(2, -1).T
    together = np.stack([every, every], axis=1)
    for layer in rng.permutation(layers):
        yield np.array([layer]), every[None, :, None]
    if layers == 1:
        return
    first = rng.permutation(layers - 1)
    apart = np.sort(rng.permuted(np.tile(np.arange(layers), (layers, 1)), axis=1)[:, :2], axis=1)
    for pair in itertools.chain(np.stack([first, first + 1], axis=1), apart):
        here = walk.here[pair].T
        swapped = np.stack([here, here[:, ::-1]], axis=1)
        drawn = rng.permutation(both)[:cores] if cores * cores > ALL_PAIRS else both
        fixed = np.broadcast_to(
            np.concatenate([together, drawn]), (len(here), cores + len(drawn), 2)
        )
        yield pair, np.concatenate([swapped, fixed], axis=1)
    for length in (3, 4) * (layers // 4):
        if length < layers:
            block = rng.integers(layers - length + 1) + np.arange(length)
            stay = walk.here[block].T[:, None]
            away = np.broadcast_to(every[None, :, None], (stay.shape[0], cores, length))
            yield block, np.concatenate([stay, away], axis=1)
    names = np.stack(
        [every, *(_exchanged(cores, *pair) for pair in itertools.combinations(range(cores), 2))]
    )
    for length in (layers, *rng.integers(min(5, layers), layers // 2 + 5, 2)):
        block = rng.integers(max(layers - length, 0) + 1) + np.arange(min(length, layers))
        yield block, names[:, walk.here[block]].transpose(2, 0, 1)


def _exchanged(cores: int, one: int, other: int) -> np.ndarray:
    names = np.arange(cores)
    names[[one, other]] = other, one
    return names


class _Walk:
    """Chains, the sums of their costs' rows, and the best assignment met."""

    def __init__(self, tables: CostTables, here: np.ndarray, objective: str) -> None:
        self.instance, self.objective, self.here = tables.instance, objective, here
        self.rows = _Rows(tables.instance, objective)
        self.renew()
        values = calc_objective(tables, here, objective)
        self.best = here[:, np.argmin(values)].copy()
        self.best_value = float(self.potential(self.sums, 0)[1].min())
        self.scale = float(np.median(self.potential(self.sums, DOUBLINGS[0])[0]))

    def renew(self) -> None:
        """Sums without the rounding that steps left."""
        self.sums = self.rows.total(self.here)

    def select(self, doublings: int) -> None:
        """The better half of the chains twice."""
        order = np.argsort(self.potential(self.sums, doublings)[0], kind="stable")
        half = np.resize(order[: max(len(order) // 2, 1)], len(order))
        self.here, self.sums = self.here[:, half], self.sums[half]

    def potential(self, sums: np.ndarray, doublings: int) -> tuple[np.ndarray, np.ndarray]:
        """Potential, and objective (infinite where weights do not fit), of sums [..., columns]."""
        loads, full, linear = np.split(sums, self.rows.ends, axis=-1)
        largest = np.maximum(loads.max(axis=-1), TINY)
        if self.objective == "interval":
            value = largest
            power = np.maximum(loads / largest[..., None], LEAST_PART)
            for _ in range(doublings):
                power *= power
            spread = power.sum(axis=-1)
            for _ in range(doublings):
                spread = np.sqrt(spread)
            potential = largest * spread
        else:
            value = potential = linear[..., 0] + self.rows.idle * largest
        over = np.maximum(full - 1.0, 0.0).sum(axis=-1)
        return potential * (1.0 + OVERFULL * over), np.where(over > 0, np.inf, value)

    def step(
        self, block: np.ndarray, options: np.ndarray, part: float, doublings: int, rng: Any
    ) -> None:
        """Draw what each chain has in a block."""
        sums = self.rows.replaced(self.here, self.sums, block, options)
        potential, value = self.potential(sums, doublings)
        noise = rng.standard_exponential(potential.shape, dtype=np.float32)
        score = -potential / max(part * self.scale, TINY) - np.log(noise + TINY)  # Gumbel
        pick = np.argmax(score, axis=1)
        chain = np.arange(len(pick))
        value = value[chain, pick]
        options = np.broadcast_to(options, (len(pick), *options.shape[1:]))
        self.here[block], self.sums = options[chain, pick].T, sums[chain, pick]
        least = int(np.argmin(value))
        if value[least] < self.best_value:
            self.best, self.best_value = self.here[:, least].copy(), float(value[least])


class _Rows:
    """Rows of single layers and tensors, for sums in which few change.

    Columns: parts of a fair share of time that cores, links and DRAM take; parts of memories that
    weights fill; and what the objective adds, where it is not the interval.
    """

    def __init__(self, instance: AssignmentInstance, objective: str) -> None:
        self.instance, self.objective = instance, objective
        layers, cores = instance.shape
        possible = np.isfinite(instance.layers.time_s)
        finite = np.where(possible, instance.layers.time_s, 0.0)
        self.unit_s = float(finite.mean(axis=1).sum() / cores) or 1.0
        self.unit = 1.0
        self.ends = [cores + len(instance.bandwidth_bytes_per_s) + 1]
        self.ends.append(self.ends[0] + cores)
        # a layer that cannot run counts as overfull: infinity could not be undone
        full = np.where(
            possible, instance.layers.weight_bytes, IMPOSSIBLE * instance.capacity_bytes
        )
        costs = replace(instance.layers, time_s=finite, weight_bytes=full)
        every = np.arange(cores)
        rows = [self._columns(item_rows(instance, costs, n, every)) for n in range(layers)]
        for row, runs in zip(rows, possible, strict=True):
            # where a layer cannot run it counts as overfull: infinity could not be undone
            row[every, self.ends[0] + every] += np.where(runs, 0.0, IMPOSSIBLE)
        if objective != "interval":
            self.unit = float(sum(row[:, -1].mean() for row in rows)) or 1.0
        self.idle = 0.0
        if objective == "energy":
            self.idle = instance.idle_power_w * self.unit_s / PJ / self.unit
        self.layers = [self._scaled(row) for row in rows]
        self.tensors = {n: self._table(n) for n, c in enumerate(instance.consumers) if c}
        self.touching: dict[tuple[int, ...], tuple[int, ...]] = {}

    def _columns(self, rows: np.ndarray) -> np.ndarray:
        """The columns of `costs.instance_cost` in the order and the units used here."""
        instance, cores = self.instance, self.instance.shape[1]
        sent, dram = rows[:, 2 * cores : -2], rows[:, -2:-1]
        parts = [
            rows[:, :cores] / self.unit_s,
            sent / (instance.bandwidth_bytes_per_s * self.unit_s),
            dram / (instance.dram_bandwidth_bytes_per_s * self.unit_s),
            rows[:, cores : 2 * cores] / np.maximum(instance.capacity_bytes, TINY),
        ]
        if self.objective == "energy":
            parts.append(rows[:, -1:])
        elif self.objective == "io":
            parts.append(dram + sent.sum(axis=1, keepdims=True))
        return np.concatenate(parts, axis=1)

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        if self.objective != "interval":
            rows[:, -1] /= self.unit
        return rows.astype(np.float32)

    def _rows_of(self, tensor: int, here: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self._scaled(self._columns(transfer_rows(self.instance, tensor, here, mask)))

    def _table(self, tensor: int) -> np.ndarray | None:
        cores = self.instance.shape[1]
        if cores << cores > TABLE_ROWS:
            return None
        return self._rows_of(tensor, *np.indices((cores, 1 << cores)).reshape(2, -1))

    def total(self, here: np.ndarray) -> np.ndarray:
        """[chains, columns] of assignments [layers, chains]."""
        every = np.arange(len(here))
        empty = np.zeros((here.shape[1], 1, self.layers[0].shape[1]), np.float32)
        return self._added(empty, here, every, here.T[:, None])[:, 0]

    def replaced(
        self, here: np.ndarray, sums: np.ndarray, block: np.ndarray, options: np.ndarray
    ) -> np.ndarray:
        """[chains, options, columns] once the block's layers are what the options say."""
        none = np.zeros((sums.shape[0], 1, sums.shape[1]), np.float32)
        rest = sums[:, None] - self._added(none, here, block, here[block].T[:, None])
        return self._added(rest, here, block, options)

    def _added(
        self, total: np.ndarray, here: np.ndarray, block: np.ndarray, options: np.ndarray
    ) -> np.ndarray:
        """Total [chains, 1, columns] and the rows of the block's layers and their tensors."""
        place = {int(layer): n for n, layer in enumerate(block)}

        def core(layer: int) -> np.ndarray:
            return options[..., place[layer]] if layer in place else here[layer][:, None]

        alone = sum(self.layers[layer].take(core(layer), axis=0) for layer in place)
        total = total + alone
        for tensor in self._tensors(block):
            made = core(int(self.instance.producer[tensor]))
            mask = functools.reduce(
                np.bitwise_or, (1 << core(reader) for reader in self.instance.consumers[tensor])
            )
            table = self.tensors[tensor]
            if table is not None:
                total += table.take((made << self.instance.shape[1]) + mask, axis=0)
            else:
                made, mask = np.broadcast_arrays(made, mask)
                rows = self._rows_of(tensor, made.ravel(), mask.ravel())
                total += rows.reshape(*made.shape, -1)
        return total

    def _tensors(self, block: np.ndarray) -> tuple[int, ...]:
        key = tuple(block.tolist())
        if key not in self.touching:
            inside = set(key)
            self.touching[key] = tuple(
                n
                for n in self.tensors
                if int(self.instance.producer[n]) in inside
                or inside & set(self.instance.consumers[n])
            )
        return self.touching[key]
