"""What a design costs on a chip: energy, traffic, time and area of an assignment of layers.

One implementation serves both uses: with numpy in float64 it gives the numbers that are reported,
by elementwise operations and sums in a fixed order, so that a design costs the same to the last bit
alone and among thousands; with `jax.numpy` it runs inside a jitted step and steers the optimizer.

The model, per inference in steady state (every core works on its own inference):

* A layer whose weights are resident in its core's weight buffer fetches none from DRAM. If all
  weights of a core fit they all stay; otherwise one quarter of the buffer streams and layers claim
  the rest first-fit in program order.
* Activations stay in the global buffer while the tensors live on that core fit beside each other;
  a slot for which they do not fit works from DRAM, and tensors it shares with other slots of the
  core are written to and read from DRAM once each.
* A tensor leaves its producer's core once (multicast) and crosses every link of the routes to its
  consumers' cores once; its bytes are read from one global buffer and written to the others. It
  runs at the slowest of the link, the sender's port and the receivers' ports, and holds the link.
* The network's input comes from DRAM and its output goes there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from costs.chip_moves import any_of, calc_moves
from costs.chip_time import calc_times
from costs.ordered import Array, ordered_sum
from costs.problem import Problem

STREAMING_SHARE = 0.25  # of a weight buffer that cannot hold all weights of its core
PJ = 1e-12


def calc_chip_cost(
    problem: Problem, widths: Array, assignment: Array, knobs: Array, xp: Any = np
) -> dict[str, Array]:
    """Cost of integer designs on a chip.

    Args:
        problem: workload, chip and cost tables.
        widths: [boundaries, designs] integers 1..channels; channels means uncompressed.
        assignment: [layers, designs] index of the core that runs each layer.
        knobs: [types, knobs, designs] grid index of each hardware knob of each core type.
        xp: numpy (float64, reported) or jax.numpy (inside jit).

    Returns:
        Arrays [designs] per inference: `energy_pj` and its parts `energy_mac_pj`,
        `energy_<level>_pj`, `energy_link_pj`, `energy_idle_pj` [pJ]; `link_bytes`, `dram_bytes`,
        `io_bytes` [bytes]; `interval_s`, `latency_s` [s]; `area_mm2` [mm^2]; `cores_used`; and with
        leading axes `slot_core`, `slot_active`, `slot_time_s`, `slot_start_s`, `slot_resident`,
        `slot_spilled`, `slot_energy_pj`, `slot_dram_bytes` [slots, designs], `slot_parts_pj` (a
        list: MAC, then each level) and `core_busy_s` [cores, designs],
        `each_link_bytes`, `each_link_work` (bytes at the link's own rate that would take as long)
        and `each_link_wait_s` [links, designs], `stretch` (for each tensor and link, how many times
        longer narrow ports make its transfer), `crossing` [edges, designs],
        `arriving` [edges, designs] (the first edge that brings a tensor to a core),
        `crossing_bytes` (for each tensor, what crosses if it does), and
        `core_weight_bytes` [cores, designs] (of all weights, whether they stay or not),
        `slot_live_bytes` [slots, designs] (activations that want a place in the global buffer),
        `slot_compute_s` and `slot_memory_s` [slots, designs], `dram_moves` (a list of core
        [designs] and bytes [designs]).
    """
    place = _place(problem, widths, assignment, knobs, xp)
    slots = _slot_costs(problem, widths, place, xp)
    moves = calc_moves(problem, assignment, place, slots, xp)
    times = calc_times(problem, place, slots, moves, xp)
    energy = _energy(problem, place, slots, moves, times, xp)
    dram_bytes = ordered_sum(slots["dram_bytes"]) + moves["dram_bytes"]
    link_bytes = ordered_sum(moves["each_link_bytes"]) + 0.0 * dram_bytes
    used = ordered_sum(
        xp.where(xp.any(place["slot_core"] == k, axis=0), 1.0, 0.0)
        for k in range(len(problem.chip.cores))
    )
    return {
        **energy,
        "link_bytes": link_bytes,
        "dram_bytes": dram_bytes,
        "io_bytes": link_bytes + dram_bytes,
        "interval_s": times["interval_s"],
        "latency_s": times["latency_s"],
        "area_mm2": ordered_sum(xp.take(problem.area_mm2, h) for h in place["hardware"]),
        "cores_used": used,
        "slot_core": place["slot_core"],
        "slot_active": place["active"],
        "slot_time_s": slots["time_s"],
        "slot_start_s": times["slot_start_s"],
        "slot_resident": slots["resident"],
        "slot_spilled": slots["spilled"],
        "slot_energy_pj": slots["energy_pj"],
        "slot_parts_pj": slots["parts"],
        "slot_dram_bytes": slots["dram_bytes"],
        "core_busy_s": times["core_busy_s"],
        "each_link_bytes": moves["each_link_bytes"],
        "each_link_work": moves["each_link_work"],
        "stretch": moves["stretch"],
        "each_link_wait_s": times["each_link_wait_s"],
        "crossing": place["crosses"],
        "arriving": xp.stack(place["first"]),
        "crossing_bytes": place["crossing_bytes"],
        "core_weight_bytes": slots["core_weight_bytes"],
        "slot_live_bytes": slots["live_bytes"],
        "slot_compute_s": slots["compute_s"],
        "slot_memory_s": slots["memory_s"],
        "dram_moves": moves["dram_moves"],
    }


def calc_hardware(problem: Problem, knobs: Array, xp: Any) -> Array:
    """[cores, designs] hardware point of every core, from knobs [types, knobs, designs]."""
    types = problem.chip.types
    return xp.stack([
        problem.hardware_offset[kind]
        + sum(
            knobs[kind, j] * int(np.prod(types[kind].shape[j + 1 :]))
            for j in range(len(types[kind].shape))
        )
        for kind in problem.core_types
    ])  # fmt: skip


def _place(problem: Problem, widths: Array, assignment: Array, knobs: Array, xp: Any) -> dict:
    """Where every slot runs, which edges cross, which pairs are present."""
    tensors = problem.workload.tensors
    hardware = calc_hardware(problem, knobs, xp)
    slot_core = xp.stack([assignment[slot.owner] for slot in problem.slots])
    nowhere = xp.zeros(assignment.shape[1:], bool)
    crosses, first = [], []
    for number, edge in enumerate(problem.edges):
        producer = tensors[edge.tensor].producer
        there = assignment[edge.consumer]
        cross = nowhere if producer < 0 else assignment[producer] != there
        earlier = [
            crosses[e] & (assignment[problem.edges[e].consumer] == there)
            for e in range(number)
            if problem.edges[e].tensor == edge.tensor
        ]
        crosses.append(cross)
        first.append(cross & ~any_of(earlier, nowhere))
    leaves = [
        any_of([crosses[e] for e, edge in enumerate(problem.edges) if edge.tensor == t], nowhere)
        for t in range(len(tensors))
    ]
    paired = [widths[i] < boundary.channels for i, boundary in enumerate(problem.boundaries)]
    active = []
    for slot in problem.slots:
        if slot.kind == "layer":
            active.append(~nowhere)
        elif slot.kind == "reduce":
            tensor = problem.boundaries[slot.boundary].tensor
            active.append(paired[slot.boundary] & leaves[tensor])
        else:
            active.append(paired[slot.boundary] & first[slot.edge])
    crossing_bytes = []
    for number, tensor in enumerate(tensors):
        size = tensor.bytes + 0.0 * assignment[0]
        for i, boundary in enumerate(problem.boundaries):
            if boundary.tensor == number:
                size = boundary.positions * widths[i] * (boundary.bits / 8.0)
        crossing_bytes.append(size)
    return {
        "hardware": hardware,
        "slot_core": slot_core,
        "slot_hardware": xp.take_along_axis(hardware, slot_core, axis=0),
        "crosses": xp.stack(crosses),
        "first": first,
        "leaves": leaves,
        "active": xp.stack(active),
        "crossing_bytes": crossing_bytes,
    }


def _slot_costs(problem: Problem, widths: Array, place: dict, xp: Any) -> dict:
    """Energy by part, cycles and DRAM bytes of each slot from the table, by its operands' homes."""
    active, slot_core = place["active"], place["slot_core"]
    weights, rows = [], []
    for slot in problem.slots:
        if slot.kind == "layer":
            weights.append(problem.rows[slot.row].bytes("W") + 0.0 * active[0])
            rows.append(slot.row + 0 * slot_core[0])
        else:
            width = xp.clip(widths[slot.boundary], 1, problem.largest_pairs[slot.boundary])
            per_width = problem.rows[slot.row].bytes("W")  # the row of width 1
            weights.append(per_width * width + 0.0 * active[0])
            rows.append(slot.row + width - 1)
    resident, core_weight_bytes = _resident(problem, xp.stack(weights), place, xp)
    live_bytes = _live_bytes(problem, place, xp)
    spilled = live_bytes > xp.take(problem.global_buffer_bytes, place["slot_hardware"])
    variant = xp.where(resident, 0, 2) + xp.where(spilled, 1, 0)
    points = len(problem.area_mm2)
    entry = (xp.stack(rows) * points + place["slot_hardware"]) * 4 + variant
    values = xp.take(problem.table, entry, axis=0)
    # Rows that no design wants are infinite, and infinity times zero would be no number.
    values = xp.where(active[..., None], values, 0.0)
    parts = [values[..., i] for i in range(1 + len(problem.levels))]
    clock_hz = np.array([t.core.clock_hz for t in problem.chip.types])[problem.core_types]
    cycle_s = xp.take(1.0 / clock_hz, slot_core)
    return {
        "resident": resident & active,
        "spilled": spilled & active,
        "parts": parts,
        "energy_pj": ordered_sum(parts),
        "compute_s": values[..., -4] * cycle_s,
        "memory_s": xp.maximum(
            values[..., -3] * cycle_s, values[..., -1] / problem.chip.dram_bandwidth_bytes_per_s
        ),
        "time_s": values[..., -2] * cycle_s,
        "dram_bytes": values[..., -1],
        "core_weight_bytes": core_weight_bytes,
        "live_bytes": live_bytes,
    }


def _resident(problem: Problem, weights: Array, place: dict, xp: Any) -> tuple[Array, Array]:
    """Whether a slot's weights stay in its core's weight buffer, and what all of a core need.

    Returns:
        resident: [slots, designs].
        total: [cores, designs] weights of all slots of a core [bytes].
    """
    active, slot_core = place["active"], place["slot_core"]
    capacity = xp.take(problem.weight_buffer_bytes, place["hardware"])  # [cores, designs]
    here = [slot_core == k for k in range(len(problem.chip.cores))]
    wanted = xp.where(active, weights, 0.0)
    total = xp.stack([ordered_sum(xp.where(mine, wanted, 0.0)) for mine in here])
    available = xp.where(total <= capacity, capacity, (1 - STREAMING_SHARE) * capacity)
    used = [0.0 * wanted[0] for _ in here]
    resident = []
    for s in range(len(problem.slots)):
        free = ordered_sum(
            xp.where(mine[s], available[k] - used[k], 0.0) for k, mine in enumerate(here)
        )
        stays = wanted[s] <= free
        resident.append(stays)
        for k, mine in enumerate(here):
            used[k] = used[k] + xp.where(mine[s] & stays, wanted[s], 0.0)
    return xp.stack(resident), total


def _live_bytes(problem: Problem, place: dict, xp: Any) -> Array:
    """[slots, designs] size of the tensors that are live on its core during a slot [bytes]."""
    active, slot_core = place["active"], place["slot_core"]
    order = {s.owner: i for i, s in enumerate(problem.slots) if s.kind == "layer"}
    number = np.arange(len(problem.slots))[:, None]
    live = 0.0 * xp.where(active, 1.0, 0.0)
    for t, tensor in enumerate(problem.workload.tensors):
        made = order.get(tensor.producer, 0)
        sends = [
            i
            for i, s in enumerate(problem.slots)
            if s.kind == "reduce" and problem.boundaries[s.boundary].tensor == t
        ]
        held = (number == made) & (tensor.producer >= 0)
        held = held | any_of([number == i for i in sends], number < 0)
        for e, edge in enumerate(problem.edges):
            if edge.tensor != t:
                continue
            last = order[edge.consumer]
            during = (number >= made) & (number <= last)
            held = held | (during & (slot_core == slot_core[last][None]))
            bring = [i for i, s in enumerate(problem.slots) if s.kind == "expand" and s.edge == e]
            sends = sends + bring
        live = live + xp.where(held, tensor.bytes, 0.0)
        sending = any_of([number == i for i in sends], number < 0)
        live = live + xp.where(sending, place["crossing_bytes"][t], 0.0)
    return live


def _energy(
    problem: Problem, place: dict, slots: dict, moves: dict, times: dict, xp: Any
) -> dict[str, Array]:
    """Energy by part [pJ]: MAC, each memory level, links, idle."""
    chip = problem.chip
    parts = {"energy_mac_pj": ordered_sum(slots["parts"][0])}
    for i, level in enumerate(problem.levels):
        parts[f"energy_{level}_pj"] = ordered_sum(slots["parts"][1 + i])
    parts["energy_global_buffer_pj"] = parts["energy_global_buffer_pj"] + moves["buffer_pj"]
    dram = moves["dram_bytes"] * 8.0 * chip.dram_energy_pj_per_bit
    parts["energy_dram_pj"] = parts["energy_dram_pj"] + dram
    link_pj = ordered_sum(
        moves["each_link_bytes"][n] * 8.0 * link.energy_pj_per_bit
        for n, link in enumerate(chip.links)
    )
    parts["energy_link_pj"] = link_pj + 0.0 * dram
    leakage_w = ordered_sum(xp.take(problem.leakage_w, h) for h in place["hardware"])
    power_w = chip.idle_power_w + leakage_w
    parts["energy_idle_pj"] = power_w * times["interval_s"] / PJ
    return {**parts, "energy_pj": ordered_sum(parts.values())}
