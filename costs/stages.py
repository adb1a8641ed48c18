"""What a stage costs: a run of successive layers on one core, with what it receives and sends.

In a contiguous partition a stage receives every tensor that it reads from before it and sends every
tensor that anyone reads after it, once each, so its time depends on the stage alone wherever links
belong to one core (a port) or to one cut of an ordered chain of cores. Only a bus, which all cores
share, and the DRAM add up over stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costs.assignment_instance import AssignmentInstance
from costs.errors import InputError


@dataclass(frozen=True)
class StageCosts:
    """Costs of all stages. Entry [.., s, e] is of layers s to e - 1; infinite where s > e.

    Attributes:
        time_s: [cores, layers + 1, layers + 1] the most of core time, ports and cuts [s]; infinite
            where a layer or the weights do not fit.
        shared_s: [resources, cores, layers + 1, layers + 1] what the stage adds to the time of
            each resource that all stages share: a bus, the DRAM [s].
        floor_s: time of the DRAM where all partitions move the same through it [s].
    """

    time_s: np.ndarray
    shared_s: np.ndarray
    floor_s: float = 0.0


def calc_stage_costs(instance: AssignmentInstance, *, ordered: bool) -> StageCosts:
    """Costs of the stages of an instance's contiguous partitions.

    Args:
        instance: layers, cores, links.
        ordered: whether stages stand on the cores in order, which allows for links between
            neighbours.

    Raises:
        InputError: if a link couples stages otherwise.
    """
    layers, cores = instance.shape
    edge = np.arange(layers + 1)
    start, end = edge[:, None], edge[None, :]
    time = _runs(np.where(instance.possible, instance.layers.time_s, np.inf))
    weight = _runs(instance.layers.weight_bytes)
    dram = _runs(instance.layers.dram_bytes)
    leaves, arrives = _Rectangles(layers), _Rectangles(layers)
    cut = np.zeros(layers + 1)
    for number, readers in enumerate(instance.consumers):
        if not readers:
            continue
        made = int(instance.producer[number])
        leaves.add(number, (0, made), (made + 1, readers[-1]))
        for before, reader in zip((made, *readers), readers, strict=False):
            # stages that begin after the reader before it and hold this one
            arrives.add(number, (before + 1, reader), (reader + 1, layers))
        cut[made + 1 : readers[-1] + 1] += instance.tensor_bytes[number]
    sent, received = (found.sums(instance.tensor_bytes) for found in (leaves, arrives))
    for costs, found in ((instance.send, leaves), (instance.receive, arrives)):
        time += found.sums(costs.time_s)
        weight += found.sums(costs.weight_bytes)
        dram += found.sums(costs.dram_bytes)
    time = np.where(weight <= instance.capacity_bytes[:, None, None], time, np.inf)
    shared: list[np.ndarray] = []
    for n, rate in enumerate(instance.bandwidth_bytes_per_s):
        uses = instance.route[:, :, n].astype(bool)
        senders, receivers = np.flatnonzero(uses.any(axis=1)), np.flatnonzero(uses.any(axis=0))
        after = _cut_of(uses) if ordered else None
        if after is not None:
            time[after] = np.maximum(time[after], cut[None, :] / rate)
        elif len(senders) == 1 and len(receivers) == cores - 1:
            time[senders[0]] = np.maximum(time[senders[0]], sent / rate)
        elif len(receivers) == 1 and len(senders) == cores - 1:
            time[receivers[0]] = np.maximum(time[receivers[0]], received / rate)
        elif uses.sum() == cores * (cores - 1):
            shared.append(np.broadcast_to(sent / rate, time.shape))
        elif uses.any():
            raise InputError(
                "this link's load depends on more than one stage",
                key=f"{instance.name}: link {n}",
                allowed="a bus, a port of each core, or links between neighbours of ordered cores;"
                " solve others as milp",
            )
    floor_s = 0.0
    moved = instance.send.dram_bytes.any() or instance.receive.dram_bytes.any()
    if (dram == dram[:1]).all() and not moved:
        floor_s = float(dram[0, 0, -1]) / instance.dram_bandwidth_bytes_per_s
    elif np.isfinite(instance.dram_bandwidth_bytes_per_s):
        shared.append(dram / instance.dram_bandwidth_bytes_per_s)
    runs = start <= end
    every = np.array(shared).reshape(-1, *time.shape)
    return StageCosts(np.where(runs, time, np.inf), np.where(runs, every, 0.0), floor_s)


class _Rectangles:
    """Sets of stages (first layer, last layer + 1) that tensors belong to, as rectangles."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.found: list[tuple[int, int, int, int, int]] = []

    def add(self, tensor: int, first: tuple[int, int], end: tuple[int, int]) -> None:
        """The tensor belongs to stages between these first layers and ends, inclusive."""
        if first[0] <= first[1] and end[0] <= end[1]:
            self.found.append((tensor, *first, *end))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """[cores, layers + 1, layers + 1] or without cores: sums of values [tensors, cores]."""
        shape = (self.layers + 2, self.layers + 2, *values.shape[1:])
        if not values.any() or not self.found:
            return np.zeros(shape)[:-1, :-1].T.swapaxes(-1, -2)
        tensor, low, high, first, last = np.array(self.found).T
        change = np.zeros(shape)
        for row, column, sign in ((low, first, 1), (low, last + 1, -1)):
            np.add.at(change, (row, column), sign * values[tensor])
        for row, column, sign in ((high + 1, first, -1), (high + 1, last + 1, 1)):
            np.add.at(change, (row, column), sign * values[tensor])
        return change.cumsum(axis=0).cumsum(axis=1)[:-1, :-1].T.swapaxes(-1, -2)


def _runs(values: np.ndarray) -> np.ndarray:
    """[cores, layers + 1, layers + 1] sums over layers s to e - 1 of values [layers, cores]."""
    infinite = np.isinf(values)
    sums = np.cumsum(np.pad(np.where(infinite, 0.0, values), ((1, 0), (0, 0))), axis=0).T
    bad = np.cumsum(np.pad(infinite, ((1, 0), (0, 0))), axis=0).T
    runs = sums[:, None, :] - sums[:, :, None]
    return np.where(bad[:, None, :] > bad[:, :, None], np.inf, runs)


def _cut_of(uses: np.ndarray) -> int | None:
    """The core after which a link lies that all ways across that cut take, and no others."""
    core = np.arange(len(uses))
    for after in range(len(uses) - 1):
        across = (core[:, None] <= after) != (core[None, :] <= after)
        if np.array_equal(uses, across):
            return after
    return None
