"""What assignments of an instance cost: sums of table rows, millions of assignments per second.

Every term of the cost depends on one layer's core, or on a tensor's producing core and the set of
its consuming cores. So each group of layers and each tensor has a table of rows, one row for every
choice, one column for every sum that is wanted (time of each core, bytes on each link, ...), and an
assignment is evaluated by adding rows in a fixed order: the same bits alone and among thousands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costs.assignment_instance import AssignmentInstance, CoreCosts

ROWS = 4096  # of a joined table: small enough to stay in the cache
CHUNK = 1 << 14  # assignments at a time, for the same reason
PJ = 1e-12


@dataclass(frozen=True)
class CostTables:
    """The tables of an instance.

    Columns: time of each core [s], weights on each core [bytes], bytes on each link, DRAM bytes,
    energy without idle [pJ].

    Attributes:
        instance: what they were made of.
        groups: (first layer, last layer + 1, [cores ** layers, columns]), with the tensors that
            stay within; neighbouring groups share a layer, whose own costs the first has.
        single: (producer, consumer, [cores ** 2, columns]) of other tensors with one consumer.
        multicast: (tensor, table) of other tensors with several, [cores * 2 ** cores, columns];
            None where that would be too large.
    """

    instance: AssignmentInstance
    groups: tuple[tuple[int, int, np.ndarray], ...]
    single: tuple[tuple[int, int, np.ndarray], ...]
    multicast: tuple[tuple[int, np.ndarray | None], ...]

    @classmethod
    def of(cls, instance: AssignmentInstance) -> CostTables:
        """Tables of an instance; a few milliseconds."""
        layers, cores = instance.shape
        width = max(2, int(np.log(ROWS) / np.log(max(cores, 2)) + 1e-9))
        left = {number for number, readers in enumerate(instance.consumers) if readers}
        groups = []
        first = 0
        while first == 0 or first < layers - 1:
            last = min(first + width, layers)
            digits = np.indices((cores,) * (last - first)).reshape(last - first, -1)
            table = np.zeros((digits.shape[1], count_columns(instance)))
            for layer in range(first if first == 0 else first + 1, last):
                table += item_rows(instance, instance.layers, layer, digits[layer - first])
            for number in sorted(left):
                producer, readers = int(instance.producer[number]), instance.consumers[number]
                if producer >= first and readers[-1] < last:
                    mask = _mask(digits[[reader - first for reader in readers]])
                    table += transfer_rows(instance, number, digits[producer - first], mask)
                    left.remove(number)
            groups.append((first, last, table))
            first = last - 1
        single, multicast = [], []
        for number in sorted(left):
            readers = instance.consumers[number]
            if len(readers) == 1:
                here, there = np.indices((cores, cores)).reshape(2, -1)
                table = transfer_rows(instance, number, here, 1 << there)
                single.append((int(instance.producer[number]), readers[0], table))
            elif cores << cores <= 4 * ROWS:
                here, mask = np.indices((cores, 1 << cores)).reshape(2, -1)
                multicast.append((number, transfer_rows(instance, number, here, mask)))
            else:
                multicast.append((number, None))
        return cls(instance, tuple(groups), tuple(single), tuple(multicast))


def calc_instance_cost(
    instance: AssignmentInstance | CostTables, assignment: np.ndarray
) -> dict[str, np.ndarray]:
    """Costs of assignments per inference in steady state.

    Args:
        instance: the instance, or its tables where it is evaluated often.
        assignment: [layers, assignments] core of each layer.

    Returns:
        Arrays [assignments]: `interval_s` [s], `energy_pj` with idle energy [pJ], `link_bytes`,
        `dram_bytes`, `io_bytes` [bytes], `fits` (whether the weights fit every core); and
        `core_busy_s`, `weight_bytes` [cores, assignments], `each_link_bytes` [links, assignments].
    """
    tables = instance if isinstance(instance, CostTables) else CostTables.of(instance)
    instance = tables.instance
    assignment = np.asarray(assignment, np.intp)
    sums = np.concatenate(
        [
            _sum_rows(tables, assignment[:, at : at + CHUNK])
            for at in range(0, max(assignment.shape[1], 1), CHUNK)
        ]
    )
    return calc_costs_of_sums(instance, sums)


def calc_costs_of_sums(instance: AssignmentInstance, sums: np.ndarray) -> dict[str, np.ndarray]:
    """The costs of `calc_instance_cost` from the sums of all rows [assignments, columns]."""
    sums = sums.T
    cores, links = instance.shape[1], len(instance.bandwidth_bytes_per_s)
    busy, weights, sent = np.split(sums[:-2], [cores, 2 * cores])
    interval = np.maximum(busy.max(axis=0), sums[-2] / instance.dram_bandwidth_bytes_per_s)
    for n in range(links):
        interval = np.maximum(interval, sent[n] / instance.bandwidth_bytes_per_s[n])
    link_bytes = sent.sum(axis=0)
    fits = (weights <= instance.capacity_bytes[:, None]).all(axis=0) & np.isfinite(interval)
    return {
        "interval_s": interval,
        "energy_pj": sums[-1] + instance.idle_power_w * interval / PJ,
        "link_bytes": link_bytes,
        "dram_bytes": sums[-2],
        "io_bytes": link_bytes + sums[-2],
        "fits": fits,
        "core_busy_s": busy,
        "weight_bytes": weights,
        "each_link_bytes": sent,
    }


OBJECTIVES = {"interval": "interval_s", "energy": "energy_pj", "io": "io_bytes"}
"""Objectives of the solvers and the cost that each minimises."""


def calc_objective(
    instance: AssignmentInstance | CostTables, assignment: np.ndarray, objective: str = "interval"
) -> np.ndarray:
    """[assignments] the cost to minimise; infinite where the weights do not fit.

    Args:
        instance: as for `calc_instance_cost`.
        assignment: [layers, assignments].
        objective: one of `OBJECTIVES`.
    """
    costs = calc_instance_cost(instance, assignment)
    return np.where(costs["fits"], costs[OBJECTIVES[objective]], np.inf)


def count_columns(instance: AssignmentInstance) -> int:
    """Number of sums that an assignment is made of."""
    return 2 * instance.shape[1] + len(instance.bandwidth_bytes_per_s) + 2


def item_rows(
    instance: AssignmentInstance, costs: CoreCosts, item: int, core: np.ndarray
) -> np.ndarray:
    """[n, columns] what an item adds on each of the cores given."""
    rows = np.zeros((len(core), count_columns(instance)))
    number = np.arange(len(core))
    rows[number, core] = costs.time_s[item, core]
    rows[number, instance.shape[1] + core] = costs.weight_bytes[item, core]
    rows[:, -2] = costs.dram_bytes[item, core]
    rows[:, -1] = costs.energy_pj[item, core]
    return rows


def transfer_rows(
    instance: AssignmentInstance, tensor: int, here: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """[n, columns] what a tensor adds, made on cores `here`, read on the cores of `mask`'s bits."""
    cores = instance.shape[1]
    reads: np.ndarray = (mask[:, None] & (1 << np.arange(cores))) != 0
    reads[np.arange(len(here)), here] = False
    used = (instance.route[here] & reads[:, :, None]).any(axis=1)
    moved = np.where(used, instance.tensor_bytes[tensor], 0.0)
    leaves: np.ndarray = np.any(reads, axis=1)
    sent = item_rows(instance, instance.send, tensor, here)
    rows = np.where(leaves[:, None], sent, 0.0)
    for core in range(cores):
        arrives = item_rows(instance, instance.receive, tensor, np.array([core]))
        rows += np.where(reads[:, core, None], arrives, 0.0)
    rows[:, 2 * cores : -2] += moved
    rows[:, -1] += moved @ instance.link_pj_per_byte
    return rows


def _mask(cores: np.ndarray) -> np.ndarray:
    """[n] the set of cores [consumers, n] as bits."""
    return np.bitwise_or.reduce(1 << cores, axis=0)


def _sum_rows(tables: CostTables, assignment: np.ndarray) -> np.ndarray:
    """[assignments, columns] the sums of a chunk."""
    instance, cores = tables.instance, tables.instance.shape[1]
    total = np.zeros((assignment.shape[1], count_columns(instance)))
    for first, last, table in tables.groups:
        code = assignment[first]
        for layer in range(first + 1, last):
            code = code * cores + assignment[layer]
        total += table.take(code, axis=0)
    for producer, consumer, table in tables.single:
        total += table.take(assignment[producer] * cores + assignment[consumer], axis=0)
    for number, table in tables.multicast:
        here = assignment[instance.producer[number]]
        mask = _mask(assignment[list(instance.consumers[number])])
        if table is None:
            total += transfer_rows(instance, number, here, mask)
        else:
            total += table.take((here << cores) + mask, axis=0)
    return total
