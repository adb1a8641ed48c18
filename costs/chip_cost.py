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

import functools
from typing import Any

import numpy as np

from costs.chip_moves import calc_moves
from costs.chip_time import calc_times
from costs.ordered import Array, any_of, of_core, ordered_sum
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
        xp.where(any_of(mine, mine[0]), 1.0, 0.0) for mine in zip(*place["on_core"], strict=True)
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
        "slot_active": xp.stack(place["active"]),
        "slot_time_s": slots["time_s"],
        "slot_start_s": times["slot_start_s"],
        "slot_resident": xp.stack(slots["resident"]),
        "slot_spilled": xp.stack(slots["spilled"]),
        "slot_energy_pj": slots["energy_pj"],
        "slot_parts_pj": slots["parts"],
        "slot_dram_bytes": slots["dram_bytes"],
        "core_busy_s": times["core_busy_s"],
        "each_link_bytes": moves["each_link_bytes"],
        "each_link_work": moves["each_link_work"],
        "stretch": moves["stretch"],
        "each_link_wait_s": times["each_link_wait_s"],
        "crossing": xp.stack(place["crosses"]),
        "arriving": xp.stack(place["first"]),
        "crossing_bytes": place["crossing_bytes"],
        "core_weight_bytes": slots["core_weight_bytes"],
        "slot_live_bytes": xp.stack(slots["live_bytes"]),
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
    """Where every layer and slot runs, which edges cross, which pairs are present."""
    tensors, edges = problem.workload.tensors, problem.edges
    layers = range(len(problem.workload.layers))
    hardware = calc_hardware(problem, knobs, xp)
    on_core = [[assignment[layer] == k for k in range(len(hardware))] for layer in layers]
    compare = functools.cache(lambda a, b: assignment[a] == assignment[b])

    def together(a: int, b: int) -> Array:
        """[designs] whether two layers share a core."""
        return compare(min(a, b), max(a, b))

    nowhere = xp.zeros(assignment.shape[1:], bool)
    crosses, first = [], []
    for number, edge in enumerate(edges):
        producer = tensors[edge.tensor].producer
        crosses.append(nowhere if producer < 0 else ~together(producer, edge.consumer))
        earlier = [e.consumer for e in edges[:number] if e.tensor == edge.tensor]
        brought = any_of([together(reader, edge.consumer) for reader in earlier], nowhere)
        first.append(crosses[-1] & ~brought if earlier else crosses[-1])
    leaves = [
        any_of([crosses[e] for e, edge in enumerate(edges) if edge.tensor == t], nowhere)
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
        "on_core": on_core,
        "together": together,
        "layer_hardware": xp.stack([of_core(hardware, mine, xp) for mine in on_core]),
        "slot_core": xp.stack([assignment[slot.owner] for slot in problem.slots]),
        "crosses": crosses,
        "first": first,
        "leaves": leaves,
        "active": active,
        "crossing_bytes": crossing_bytes,
    }


def _slot_costs(problem: Problem, widths: Array, place: dict, xp: Any) -> dict:
    """Energy by part, cycles and DRAM bytes of each slot from the table, by its operands' homes."""
    active = place["active"]
    room = xp.take(problem.global_buffer_bytes, place["layer_hardware"])
    weights, rows = [], []
    for slot in problem.slots:
        weights.append(problem.rows[slot.row].bytes("W"))  # of a pair at width 1
        rows.append(slot.row)
        if slot.kind != "layer":
            width = xp.clip(widths[slot.boundary], 1, problem.largest_pairs[slot.boundary])
            weights[-1], rows[-1] = weights[-1] * width, slot.row + width - 1
    resident, core_weight_bytes = _resident(problem, weights, place, xp)
    live_bytes = _live_bytes(problem, place, xp)
    spilled = [live > room[s.owner] for live, s in zip(live_bytes, problem.slots, strict=True)]
    points = len(problem.area_mm2)
    variant = xp.where(xp.stack(resident), 0, 2) + xp.stack(spilled)
    hardware = [
        row * points + place["layer_hardware"][slot.owner]
        for row, slot in zip(rows, problem.slots, strict=True)
    ]
    metrics, flat = problem.table.shape[1], problem.table.reshape(-1)
    entry = (xp.stack(hardware) * 4 + variant) * metrics
    # Rows that no design wants are infinite, and infinity times zero would be no number.
    present = xp.stack(active)
    values = [
        xp.where(present, xp.take(flat, entry + metric, mode="clip"), 0.0)
        for metric in range(metrics)
    ]
    parts = values[: 1 + len(problem.levels)]
    cycle_s = _cycle_s(problem, place, xp)
    return {
        "resident": [r & a for r, a in zip(resident, active, strict=True)],
        "spilled": [s & a for s, a in zip(spilled, active, strict=True)],
        "parts": parts,
        "energy_pj": ordered_sum(parts),
        "compute_s": values[-4] * cycle_s,
        "memory_s": xp.maximum(
            values[-3] * cycle_s, values[-1] / problem.chip.dram_bandwidth_bytes_per_s
        ),
        "time_s": values[-2] * cycle_s,
        "dram_bytes": values[-1],
        "core_weight_bytes": core_weight_bytes,
        "live_bytes": live_bytes,
    }


def _cycle_s(problem: Problem, place: dict, xp: Any) -> Array | float:
    """Clock period of each slot's core [s]: one number, or [slots, designs]."""
    cycle_s = 1.0 / np.array([t.core.clock_hz for t in problem.chip.types])[problem.core_types]
    if (cycle_s == cycle_s[0]).all():
        return float(cycle_s[0])
    return xp.take(cycle_s, place["slot_core"])


def _resident(
    problem: Problem, weights: list[Array | float], place: dict, xp: Any
) -> tuple[list[Array], Array]:
    """Whether a slot's weights stay in its core's weight buffer, and what all of a core need.

    Returns:
        resident: [slots][designs].
        total: [cores, designs] weights of all slots of a core [bytes].
    """
    slots, on_core = problem.slots, place["on_core"]
    cores = range(len(problem.chip.cores))
    wanted = [
        size if slot.kind == "layer" else xp.where(present, size, 0.0)
        for slot, size, present in zip(slots, weights, place["active"], strict=True)
    ]
    of_layer = [
        ordered_sum(w for w, slot in zip(wanted, slots, strict=True) if slot.owner == layer)
        for layer in range(len(on_core))
    ]
    total = [
        ordered_sum(
            xp.where(mine[k], size, 0.0) for mine, size in zip(on_core, of_layer, strict=True)
        )
        for k in cores
    ]
    capacity = xp.take(problem.weight_buffer_bytes, place["hardware"])  # [cores, designs]
    left = [
        xp.where(total[k] <= capacity[k], capacity[k], (1 - STREAMING_SHARE) * capacity[k])
        for k in cores
    ]
    resident = []
    for slot, size in zip(slots, wanted, strict=True):
        mine = on_core[slot.owner]
        stays = size <= of_core(left, mine, xp)
        kept = xp.where(stays, size, 0.0)
        left = [room - xp.where(here, kept, 0.0) for room, here in zip(left, mine, strict=True)]
        resident.append(stays)
    return resident, xp.stack(total)


def _live_bytes(problem: Problem, place: dict, xp: Any) -> list[Array]:
    """[slots][designs] size of the tensors that are live on its core during a slot [bytes]."""
    layer_slot, reduce_slot, expand_slot = problem.find_slots()
    live = [xp.zeros(flag.shape) for flag in place["active"]]
    for t, tensor in enumerate(problem.workload.tensors):
        made = layer_slot.get(tensor.producer, 0)
        readers = [(e, edge.consumer) for e, edge in enumerate(problem.edges) if edge.tensor == t]
        sends = {reduce_slot.get(t, -1), *(expand_slot.get(e, -1) for e, _ in readers)}
        for i, slot in enumerate(problem.slots):
            until = {r for _, r in readers if made <= i <= layer_slot[r]}
            held = i == reduce_slot.get(t) or (i == made and tensor.producer >= 0)
            if held or slot.owner in until:
                live[i] = live[i] + tensor.bytes
            elif until:
                kept = [place["together"](slot.owner, reader) for reader in sorted(until)]
                live[i] = live[i] + xp.where(any_of(kept, kept[0]), tensor.bytes, 0.0)
            if i in sends:
                live[i] = live[i] + place["crossing_bytes"][t]
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
