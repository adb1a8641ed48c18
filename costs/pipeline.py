"""A stream of inputs on a chip: a periodic schedule that starts one input every interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costs.problem import Problem

TOLERANCE = 1e-9
"""Neighbours share an end point up to rounding; relative to the interval."""


@dataclass(frozen=True)
class Operation:
    """What one input asks of one resource, without interruption.

    Attributes:
        slot: index of the slot; -1 for a transfer.
        resource: a core ("core", k) or a link ("link", n).
        time_s: how long it holds the resource [s].
        after: earlier operations that must have ended, each with a lag [s].
    """

    slot: int
    resource: tuple[str, int]
    time_s: float
    after: tuple[tuple[int, float], ...]


def list_operations(
    problem: Problem, costs: dict[str, Any], assignment: np.ndarray, design: int
) -> list[Operation]:
    """The slots and transfers of one input, with what each waits for (see `costs.chip_time`).

    Args:
        problem: workload, chip and cost tables.
        costs: of designs, by `calc_chip_cost`.
        assignment: [layers, designs].
        design: which of the designs.

    Returns:
        in program order; on every resource an input keeps that order.
    """
    layer_slot, reduce_slot, expand_slot = problem.find_slots()
    route, hop_s = problem.chip.routes()
    cores, crossing = assignment[:, design], costs["crossing"][:, design]
    operations: list[Operation] = []
    last_on: dict[tuple[str, int], int] = {}
    of_slot: dict[int, int] = {}
    sent: dict[int, list[int]] = {}  # tensor -> what must end before it is over its last link

    def add(slot: int, resource: tuple[str, int], time_s: float, after: list) -> int:
        if resource in last_on:
            after = [*after, (last_on[resource], 0.0)]
        operations.append(Operation(slot, resource, time_s, tuple(after)))
        last_on[resource] = len(operations) - 1
        return last_on[resource]

    def arrival(e: int) -> list[tuple[int, float]]:
        tensor, consumer = problem.edges[e].tensor, problem.edges[e].consumer
        maker = problem.workload.tensors[tensor].producer
        if maker < 0:
            return []
        if not crossing[e]:
            return [(of_slot[layer_slot[maker]], 0.0)]
        return [(number, float(hop_s[cores[maker], cores[consumer]])) for number in sent[tensor]]

    for i, slot in enumerate(problem.slots):
        if costs["slot_active"][i, design]:
            if slot.kind == "reduce":
                after = [(of_slot[layer_slot[slot.owner]], 0.0)]
            elif slot.kind == "expand":
                after = arrival(slot.edge)
            else:
                mine = [e for e, edge in enumerate(problem.edges) if edge.consumer == slot.owner]
                after = [wait for e in mine for wait in arrival(e)]
                expands = [expand_slot[e] for e in mine if e in expand_slot]
                after += [(of_slot[s], 0.0) for s in expands if s in of_slot]
            core = int(costs["slot_core"][i, design])
            of_slot[i] = add(i, ("core", core), float(costs["slot_time_s"][i, design]), after)
        for t, tensor in enumerate(problem.workload.tensors):
            if tensor.producer != slot.owner or i != reduce_slot.get(t, layer_slot[slot.owner]):
                continue
            ready = of_slot.get(i, of_slot[layer_slot[slot.owner]])
            users = [
                x.consumer for e, x in enumerate(problem.edges) if x.tensor == t and crossing[e]
            ]
            sent[t] = [ready]
            for n, link in enumerate(problem.chip.links):
                if any(route[cores[slot.owner], cores[user], n] for user in users):
                    size = costs["crossing_bytes"][t][design] * costs["stretch"][t][n]
                    time_s = float(np.broadcast_to(size, assignment.shape[1:])[design])
                    time_s /= link.bandwidth_bytes_per_s
                    sent[t].append(add(-1, ("link", n), time_s, [(ready, 0.0)]))
    return operations


def schedule_alone(operations: Sequence[Operation]) -> list[float]:
    """When each operation of a single input starts [s]."""
    starts: list[float] = []
    for operation in operations:
        starts.append(_ready(operation, operations, starts))
    return starts


def schedule_stream(operations: Sequence[Operation], interval_s: float) -> list[float]:
    """When each operation starts if an input follows every interval and all run alike [s].

    Every resource repeats itself after an interval, in which it runs each of its operations once
    (modulo scheduling: Rau, "Iterative modulo scheduling", MICRO 1994). An operation takes the
    first gap that holds it after what it waits for. Where gaps are left that are too short, the
    operations of that resource follow each other without gaps: these fit always, since the
    interval is at least as long as all of them together, and an operation waits for its turn for
    less than an interval. So the interval of the cost model is attained by every design.

    Args:
        operations: of one input.
        interval_s: no shorter than the operations of any resource together [s].

    Returns:
        starts counted from the arrival of an input.
    """
    packed: set[tuple[str, int]] = set()
    while True:
        found = _place(operations, interval_s, packed)
        if isinstance(found, list):
            return found
        packed.add(found)


def calc_end_s(operations: Sequence[Operation], starts: Sequence[float]) -> float:
    """When the last operation of one input is done [s]."""
    return max(s + o.time_s for s, o in zip(starts, operations, strict=True))


def _ready(operation: Operation, operations: Sequence[Operation], starts: Sequence[float]) -> float:
    """When all is done that an operation waits for [s]."""
    return max(
        (starts[j] + operations[j].time_s + lag_s for j, lag_s in operation.after), default=0.0
    )


def _place(
    operations: Sequence[Operation], interval_s: float, packed: set[tuple[str, int]]
) -> list[float] | tuple[str, int]:
    """Starts [s], or the resource whose gaps are too short for one of its operations."""
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {}
    starts: list[float] = []
    for operation in operations:
        ready_s = _ready(operation, operations, starts)
        mine = taken.setdefault(operation.resource, [])
        ends = [begin_s + time_s for begin_s, time_s in mine]
        if operation.resource in packed and mine:
            start_s = _next(ends[-1], ready_s, interval_s)
        else:
            tries = sorted([ready_s, *(_next(end_s, ready_s, interval_s) for end_s in ends)])
            free = (s for s in tries if _is_free(s, operation.time_s, mine, interval_s))
            start_s = next(free, math.nan)
            if math.isnan(start_s):
                return operation.resource
        mine.append((start_s, operation.time_s))
        starts.append(start_s)
    return starts


def _next(moment_s: float, ready_s: float, interval_s: float) -> float:
    """The first time not before `ready_s` that is whole intervals from a moment [s]."""
    turns = math.ceil((ready_s - moment_s) / interval_s - TOLERANCE)
    return max(ready_s, moment_s + turns * interval_s)


def _is_free(
    start_s: float, time_s: float, taken: list[tuple[float, float]], interval_s: float
) -> bool:
    """Whether an operation, repeated every interval, meets no other one."""
    slack_s = TOLERANCE * interval_s
    return all(
        (begin_s - start_s + slack_s) % interval_s >= time_s - slack_s
        and (start_s - begin_s + slack_s) % interval_s >= length_s - slack_s
        for begin_s, length_s in taken
    )
