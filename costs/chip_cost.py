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
  consumers' cores once; its bytes are read from one global buffer and written to the others.
* The network's input comes from DRAM and its output goes there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
        knobs: [types, 3, designs] grid index of each hardware knob of each core type.
        xp: numpy (float64, reported) or jax.numpy (inside jit).

    Returns:
        Arrays [designs] per inference: `energy_pj` and its parts `energy_mac_pj`,
        `energy_<level>_pj`, `energy_link_pj`, `energy_idle_pj` [pJ]; `link_bytes`, `dram_bytes`,
        `io_bytes` [bytes]; `interval_s`, `latency_s` [s]; `area_mm2` [mm^2]; `cores_used`; and with
        leading axes `slot_core`, `slot_active`, `slot_time_s`, `slot_start_s`, `slot_resident`,
        `slot_spilled`, `slot_energy_pj`, `slot_dram_bytes` [slots, designs], `slot_parts_pj` (a
        list: MAC, then each level) and `core_busy_s` [cores, designs],
        `each_link_bytes` [links, designs], `crossing` [edges, designs].
    """
    place = _place(problem, widths, assignment, knobs, xp)
    slots = _slot_costs(problem, widths, place, xp)
    moves = _transfers(problem, assignment, place, slots, xp)
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
        "crossing": place["crosses"],
    }


def _place(problem: Problem, widths: Array, assignment: Array, knobs: Array, xp: Any) -> dict:
    """Where every slot runs, which edges cross, which pairs are present."""
    chip, tensors = problem.chip, problem.workload.tensors
    hardware = xp.stack([
        problem.hardware_offset[kind]
        + sum(
            knobs[kind, j] * int(np.prod(chip.types[kind].shape[j + 1 :]))
            for j in range(len(chip.types[kind].shape))
        )
        for kind in problem.core_types
    ])  # fmt: skip
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
        first.append(cross & ~_any(earlier, nowhere))
    leaves = [
        _any([crosses[e] for e, edge in enumerate(problem.edges) if edge.tensor == t], nowhere)
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


def _any(flags: list[Array], nowhere: Array) -> Array:
    found = nowhere
    for flag in flags:
        found = found | flag
    return found


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
    resident = _resident(problem, xp.stack(weights), place, xp)
    spilled = _spilled(problem, place, xp)
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
        "time_s": values[..., -2] * cycle_s,
        "dram_bytes": values[..., -1],
    }


def _resident(problem: Problem, weights: Array, place: dict, xp: Any) -> Array:
    """[slots, designs] whether a slot's weights stay in its core's weight buffer."""
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
    return xp.stack(resident)


def _spilled(problem: Problem, place: dict, xp: Any) -> Array:
    """[slots, designs] whether the tensors live at a slot exceed its core's global buffer."""
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
        held = held | np.isin(number, sends)
        for e, edge in enumerate(problem.edges):
            if edge.tensor != t:
                continue
            last = order[edge.consumer]
            during = (number >= made) & (number <= last)
            held = held | (during & (slot_core == slot_core[last][None]))
            bring = [i for i, s in enumerate(problem.slots) if s.kind == "expand" and s.edge == e]
            sends = sends + bring
        live = live + xp.where(held, tensor.bytes, 0.0)
        live = live + xp.where(np.isin(number, sends), place["crossing_bytes"][t], 0.0)
    capacity = xp.take(problem.global_buffer_bytes, place["slot_hardware"])
    return live > capacity


def _transfers(
    problem: Problem, assignment: Array, place: dict, slots: dict, xp: Any
) -> dict[str, Any]:
    """Bytes between buffers, DRAM and links outside of what the mappings of the layers move."""
    order = {s.owner: i for i, s in enumerate(problem.slots) if s.kind == "layer"}
    route, _ = problem.chip.routes()
    spilled, core, active = slots["spilled"], place["slot_core"], place["active"]
    zero = 0.0 * slots["time_s"][0]
    nowhere = xp.zeros(zero.shape, bool)
    dram_read, dram_write, buffer_pj = zero, zero, zero
    links = [zero for _ in problem.chip.links]
    uses: list[list[Array]] = []
    read_pj = xp.take(problem.buffer_read_pj, place["slot_hardware"])
    write_pj = xp.take(problem.buffer_write_pj, place["slot_hardware"])
    for t, tensor in enumerate(problem.workload.tensors):
        mine = [(e, edge) for e, edge in enumerate(problem.edges) if edge.tensor == t]
        touching = [order[edge.consumer] for _, edge in mine]
        for i, s in enumerate(problem.slots):
            if s.kind == "expand" and problem.edges[s.edge].tensor == t:
                touching.append(i)
            if s.kind == "reduce" and problem.boundaries[s.boundary].tensor == t:
                touching.append(i)
        made = order.get(tensor.producer, -1)
        if made >= 0:
            touching.append(made)

        def in_dram(here: Array, touching: list[int] = touching) -> Array:
            return _any([spilled[i] & (core[i] == here) for i in touching], nowhere)

        size, crossing = tensor.bytes, place["crossing_bytes"][t]
        if made >= 0:
            away = in_dram(core[made])
            dram_write = dram_write + xp.where(away & ~spilled[made], size, 0.0)
            if not mine:  # the network's output
                dram_write = dram_write + xp.where(~spilled[made] & ~away, size, 0.0)
            buffer_pj = buffer_pj + xp.where(place["leaves"][t], crossing * read_pj[made], 0.0)
        on_link = [nowhere for _ in links]
        for i in touching:
            if problem.slots[i].kind == "reduce":
                fetch = in_dram(core[i]) & active[i] & ~spilled[i]
                dram_read = dram_read + xp.where(fetch, size, 0.0)
        for e, edge in mine:
            user = order[edge.consumer]
            away = in_dram(core[user]) if made >= 0 else ~nowhere
            if edge.fused:
                dram_read = dram_read + xp.where(away, size, 0.0)
                buffer_pj = buffer_pj + xp.where(away, 0.0, size * read_pj[user])
            else:
                dram_read = dram_read + xp.where(away & ~spilled[user], size, 0.0)
            if made < 0:
                buffer_pj = buffer_pj + xp.where(spilled[user], 0.0, size * write_pj[user])
                continue
            first = place["first"][e]
            arrives = xp.where(first, crossing * write_pj[user], 0.0)
            buffer_pj = buffer_pj + arrives
            stored = first & away
            for i, s in enumerate(problem.slots):
                if s.kind == "expand" and s.edge == e:  # a spilled expand writes it itself
                    stored = stored & ~spilled[i]
            dram_write = dram_write + xp.where(stored, size, 0.0)
            path = xp.take(
                route.reshape(len(problem.chip.cores) ** 2, len(links)),
                assignment[tensor.producer] * route.shape[0] + assignment[edge.consumer],
                axis=0,
            )
            for n in range(len(links)):
                on_link[n] = on_link[n] | (place["crosses"][e] & (path[..., n] > 0))
        for n in range(len(links)):
            links[n] = links[n] + xp.where(on_link[n], crossing, 0.0)
        uses.append(on_link)
    return {
        "dram_bytes": dram_read + dram_write,
        "buffer_pj": buffer_pj,
        # a chip of one core has no links
        "each_link_bytes": xp.stack(links) if links else xp.zeros((0, *zero.shape)),
        "uses": uses,
    }


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
