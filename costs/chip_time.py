"""Time on a chip: the steady-state interval, and the latency of one input event by event."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from costs.ordered import Array, of_core, ordered_sum
from costs.problem import Problem


def calc_times(
    problem: Problem, place: dict, slots: dict, moves: dict, xp: Any
) -> dict[str, Array]:
    """Steady-state interval, and the latency of one input followed event by event [s].

    Returns:
        `interval_s`, `latency_s` [designs], `core_busy_s` [cores, designs], `slot_start_s` [slots,
        designs] and `each_link_wait_s` [links, designs], how long the transfers of one input wait
        in all because a link is busy with another.
    """
    chip, on_core, active = problem.chip, place["on_core"], place["active"]
    layer_slot, reduce_slot, expand_slot = problem.find_slots()
    time_s = slots["time_s"]
    busy = [
        ordered_sum(
            xp.where(on_core[slot.owner][k], time_s[i], 0.0) for i, slot in enumerate(problem.slots)
        )
        for k in range(len(chip.cores))
    ]
    rates = [link.bandwidth_bytes_per_s for link in chip.links]
    interval = (
        ordered_sum(slots["dram_bytes"]) + moves["dram_bytes"]
    ) / chip.dram_bandwidth_bytes_per_s
    for stage in busy:
        interval = xp.maximum(interval, stage)
    for n, rate in enumerate(rates):
        interval = xp.maximum(interval, moves["each_link_work"][n] / rate)

    _, hop_s = chip.routes()
    between = hop_s[~np.eye(len(hop_s), dtype=bool)]
    zero = 0.0 * time_s[0]
    core_free = [zero for _ in chip.cores]
    link_free = [zero for _ in chip.links]
    link_wait = [zero for _ in chip.links]
    finish: list[Array] = []
    starts: list[Array] = []
    sent: dict[int, Array] = {}  # tensor -> when its last link is done

    @functools.cache
    def arrival(e: int) -> Array:
        """When the tensor of an edge is in the consumer's core."""
        edge = problem.edges[e]
        maker = problem.workload.tensors[edge.tensor].producer
        if maker < 0:
            return zero
        flight = float(between.max(initial=0.0))
        if (between != flight).any():
            pair = place["slot_core"][layer_slot[maker]] * len(hop_s)
            flight = xp.take(
                hop_s.reshape(-1), pair + place["slot_core"][layer_slot[edge.consumer]]
            )
        there = sent[edge.tensor] + flight
        return xp.where(place["crosses"][e], there, finish[layer_slot[maker]])

    for i, slot in enumerate(problem.slots):
        mine, present = on_core[slot.owner], active[i]
        ready = zero
        if slot.kind == "reduce":
            ready = finish[layer_slot[slot.owner]]
        elif slot.kind == "expand":
            ready = xp.where(present, arrival(slot.edge), 0.0)
        else:
            for e, edge in enumerate(problem.edges):
                if edge.consumer == slot.owner:
                    ready = xp.maximum(ready, arrival(e))
                    if e in expand_slot:
                        expand = expand_slot[e]
                        ready = xp.maximum(ready, xp.where(active[expand], finish[expand], 0.0))
        ready = xp.maximum(ready, of_core(core_free, mine, xp))
        starts.append(ready)
        finish.append(ready + time_s[i])
        for k, here in enumerate(mine):
            running = here if slot.kind == "layer" else here & present
            core_free[k] = xp.where(running, finish[i], core_free[k])
        for t, tensor in enumerate(problem.workload.tensors):
            if tensor.producer != slot.owner or i != reduce_slot.get(t, layer_slot[slot.owner]):
                continue
            done = finish[layer_slot[slot.owner]]
            if slot.kind == "reduce":
                done = xp.where(present, finish[i], done)
            over = done
            for n, rate in enumerate(rates):
                used = moves["uses"][t][n]
                wait = xp.maximum(link_free[n] - done, 0.0)
                link_wait[n] = link_wait[n] + xp.where(used, wait, 0.0)
                work = place["crossing_bytes"][t] * moves["stretch"][t][n]
                free = xp.maximum(link_free[n], done) + work / rate
                link_free[n] = xp.where(used, free, link_free[n])
                over = xp.where(used, xp.maximum(over, free), over)
            sent[t] = over
    latency = zero
    for slot, present, end in zip(problem.slots, active, finish, strict=True):
        ended = end if slot.kind == "layer" else xp.where(present, end, 0.0)
        latency = xp.maximum(latency, ended)
    return {
        "interval_s": interval,
        "latency_s": latency,
        "core_busy_s": xp.stack(busy),
        "slot_start_s": xp.stack(starts),
        "each_link_wait_s": xp.stack(link_wait) if link_wait else xp.zeros((0, *zero.shape)),
    }
