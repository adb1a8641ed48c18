"""Time on a chip: the steady-state interval, and the latency of one input event by event."""

from __future__ import annotations

from typing import Any

from costs.ordered import Array, ordered_sum
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
    chip = problem.chip
    core, time_s = place["slot_core"], slots["time_s"]
    busy = [ordered_sum(xp.where(core == k, time_s, 0.0)) for k in range(len(chip.cores))]
    rates = [link.bandwidth_bytes_per_s for link in chip.links]
    interval = (
        ordered_sum(slots["dram_bytes"]) + moves["dram_bytes"]
    ) / chip.dram_bandwidth_bytes_per_s
    for stage in busy:
        interval = xp.maximum(interval, stage)
    for n, rate in enumerate(rates):
        interval = xp.maximum(interval, moves["each_link_work"][n] / rate)

    _, hop_s = chip.routes()
    zero = 0.0 * time_s[0]
    core_free = [zero for _ in chip.cores]
    link_free = [zero for _ in chip.links]
    link_wait = [zero for _ in chip.links]
    order = {s.owner: i for i, s in enumerate(problem.slots) if s.kind == "layer"}
    sends = {s.owner: i for i, s in enumerate(problem.slots) if s.kind == "reduce"}
    finish: list[Array] = []
    starts: list[Array] = []
    sent: dict[int, Array] = {}  # tensor -> when its last link is done
    expanded: dict[int, Array] = {}  # edge -> when its expand is done

    def arrival(e: int) -> Array:
        """When the tensor of an edge is in the consumer's core."""
        edge = problem.edges[e]
        tensor = problem.workload.tensors[edge.tensor]
        if tensor.producer < 0:
            return zero
        local = finish[order[tensor.producer]]
        here = place["slot_core"][order[tensor.producer]]
        there = place["slot_core"][order[edge.consumer]]
        flight = xp.take(hop_s.reshape(-1), here * hop_s.shape[0] + there)
        return xp.where(place["crosses"][e], sent[edge.tensor] + flight, local)

    for i, slot in enumerate(problem.slots):
        ready = zero
        if slot.kind == "reduce":
            ready = finish[order[slot.owner]]
        elif slot.kind == "expand":
            ready = xp.where(place["active"][i], arrival(slot.edge), 0.0)
        else:
            for e, edge in enumerate(problem.edges):
                if edge.consumer == slot.owner:
                    ready = xp.maximum(ready, expanded.get(e, zero))
                    ready = xp.maximum(ready, arrival(e))
        for k in range(len(core_free)):
            ready = xp.where(core[i] == k, xp.maximum(ready, core_free[k]), ready)
        starts.append(ready)
        finish.append(ready + time_s[i])
        for k in range(len(core_free)):
            running = (core[i] == k) & place["active"][i]
            core_free[k] = xp.where(running, finish[i], core_free[k])
        if slot.kind == "expand":
            expanded[slot.edge] = xp.where(place["active"][i], finish[i], 0.0)
        last_of_layer = slot.kind == "reduce" or (slot.kind == "layer" and slot.owner not in sends)
        if last_of_layer:
            for t, tensor in enumerate(problem.workload.tensors):
                if tensor.producer != slot.owner:
                    continue
                paired = place["active"][i] if slot.kind == "reduce" else zero > 1
                done = xp.where(paired, finish[i], finish[order[slot.owner]])
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
    for i in range(len(finish)):
        latency = xp.maximum(latency, xp.where(place["active"][i], finish[i], 0.0))
    return {
        "interval_s": interval,
        "latency_s": latency,
        "core_busy_s": xp.stack(busy),
        "slot_start_s": xp.stack(starts),
        "each_link_wait_s": xp.stack(link_wait) if link_wait else xp.zeros((0, *zero.shape)),
    }
