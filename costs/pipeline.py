"""Several inputs on a chip: every core and link works on the oldest of them that is ready."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costs.problem import Problem

FOLLOWED = 256
"""Most inputs of a row that are followed event by event."""

TOLERANCE = 1e-9
"""What happens within so much of the longest operation happens at once: rounding."""


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


def run_inputs(operations: Sequence[Operation], inputs: int) -> list[list[float]]:
    """When each operation of each of several inputs starts, all inputs being there at first [s].

    A resource that is free takes the oldest input's first operation that waits for nothing else,
    and never stays idle while there is one. One input alone so runs as `costs.chip_time` says.

    Args:
        operations: of one input.
        inputs: how many.

    Returns:
        starts[input][operation].
    """
    followers: list[list[tuple[int, float]]] = [[] for _ in operations]
    for number, operation in enumerate(operations):
        for before, lag_s in operation.after:
            followers[before].append((number, lag_s))
    starts = [[0.0] * len(operations) for _ in range(inputs)]
    ready_s = [[0.0] * len(operations) for _ in range(inputs)]
    missing = [[len(operation.after) for operation in operations] for _ in range(inputs)]
    waiting: dict[tuple[str, int], list[tuple[int, int]]] = {o.resource: [] for o in operations}
    free = set(waiting)
    slack_s = TOLERANCE * max(operation.time_s for operation in operations)
    events = [  # time, input, operation, whether it ends (or else is ready)
        (0.0, i, number, False)
        for i in range(inputs)
        for number, operation in enumerate(operations)
        if not operation.after
    ]
    heapq.heapify(events)
    while events:
        now_s = events[0][0]
        while events and events[0][0] <= now_s + slack_s:
            at_s, i, number, ends = heapq.heappop(events)
            if not ends:
                heapq.heappush(waiting[operations[number].resource], (i, number))
                continue
            free.add(operations[number].resource)
            for follower, lag_s in followers[number]:
                ready_s[i][follower] = max(ready_s[i][follower], at_s + lag_s)
                missing[i][follower] -= 1
                if not missing[i][follower]:
                    heapq.heappush(events, (ready_s[i][follower], i, follower, False))
        for resource in [resource for resource in free if waiting[resource]]:
            i, number = heapq.heappop(waiting[resource])
            free.remove(resource)
            starts[i][number] = now_s
            heapq.heappush(events, (now_s + operations[number].time_s, i, number, True))
    return starts


def list_ends(operations: Sequence[Operation], starts: Sequence[Sequence[float]]) -> list[float]:
    """When each input is done [s]."""
    return [
        max(start_s + o.time_s for start_s, o in zip(mine, operations, strict=True))
        for mine in starts
    ]
