"""What moves between buffers, DRAM and links beside what the mappings of the layers move."""

from __future__ import annotations

from typing import Any

import numpy as np

from costs.ordered import Array
from costs.problem import Problem


def calc_moves(
    problem: Problem, assignment: Array, place: dict, slots: dict, xp: Any
) -> dict[str, Any]:
    """Bytes between buffers, DRAM and links outside of what the mappings of the layers move.

    Args:
        problem: workload, chip and cost tables.
        assignment: [layers, designs].
        place: where every slot runs, see `costs.chip_cost`.
        slots: what every slot costs there.
        xp: numpy or jax.numpy.

    Returns:
        `dram_bytes`, `buffer_pj` [designs], `each_link_bytes` [links, designs], `uses` (for each
        tensor and link, whether it crosses it), `stretch` (for each tensor and link, how many times
        longer than at the link's own rate it takes), `each_link_work` [links, designs] (bytes times
        stretch) and `dram_moves`: (core, bytes) of each term.
    """
    stretch = _calc_stretch(problem, assignment, place, xp)
    order = {s.owner: i for i, s in enumerate(problem.slots) if s.kind == "layer"}
    route, _ = problem.chip.routes()
    spilled, core, active = slots["spilled"], place["slot_core"], place["active"]
    zero = 0.0 * slots["time_s"][0]
    nowhere = xp.zeros(zero.shape, bool)
    dram_read, dram_write, buffer_pj = zero, zero, zero
    dram_moves: list[tuple[Array, Array]] = []
    links = [zero for _ in problem.chip.links]
    work = [zero for _ in problem.chip.links]
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
            return any_of([spilled[i] & (core[i] == here) for i in touching], nowhere)

        size, crossing = tensor.bytes, place["crossing_bytes"][t]
        if made >= 0:
            away = in_dram(core[made])
            stored = ~spilled[made] if not mine else away & ~spilled[made]  # output: always
            dram_moves.append((core[made], xp.where(stored, size, 0.0)))
            dram_write = dram_write + dram_moves[-1][1]
            buffer_pj = buffer_pj + xp.where(place["leaves"][t], crossing * read_pj[made], 0.0)
        on_link = [nowhere for _ in links]
        for i in touching:
            if problem.slots[i].kind == "reduce":
                fetch = in_dram(core[i]) & active[i] & ~spilled[i]
                dram_moves.append((core[i], xp.where(fetch, size, 0.0)))
                dram_read = dram_read + dram_moves[-1][1]
        for e, edge in mine:
            user = order[edge.consumer]
            away = in_dram(core[user]) if made >= 0 else ~nowhere
            fetch = away if edge.fused else away & ~spilled[user]
            dram_moves.append((core[user], xp.where(fetch, size, 0.0)))
            dram_read = dram_read + dram_moves[-1][1]
            if edge.fused:
                buffer_pj = buffer_pj + xp.where(away, 0.0, size * read_pj[user])
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
            dram_moves.append((core[user], xp.where(stored, size, 0.0)))
            dram_write = dram_write + dram_moves[-1][1]
            path = xp.take(
                route.reshape(len(problem.chip.cores) ** 2, len(links)),
                assignment[tensor.producer] * route.shape[0] + assignment[edge.consumer],
                axis=0,
            )
            for n in range(len(links)):
                on_link[n] = on_link[n] | (place["crosses"][e] & (path[..., n] > 0))
        for n in range(len(links)):
            links[n] = links[n] + xp.where(on_link[n], crossing, 0.0)
            if problem.port_bytes_per_s is not None:
                work[n] = work[n] + xp.where(on_link[n], crossing * stretch[t][n], 0.0)
        uses.append(on_link)
    # a chip of one core has no links
    each_link_bytes = xp.stack(links) if links else xp.zeros((0, *zero.shape))
    ported = problem.port_bytes_per_s is not None and links
    return {
        "dram_bytes": dram_read + dram_write,
        "buffer_pj": buffer_pj,
        "each_link_bytes": each_link_bytes,
        "each_link_work": xp.stack(work) if ported else each_link_bytes,
        "stretch": stretch,
        "uses": uses,
        "dram_moves": dram_moves,
    }


def _calc_stretch(
    problem: Problem, assignment: Array, place: dict, xp: Any
) -> list[list[Array | float]]:
    """[tensors][links] the link's rate over that of the transfer, at least 1.

    A transfer runs at the slowest of the link, the sender's port and the ports of all receivers.
    """
    chip, tensors = problem.chip, problem.workload.tensors
    if problem.port_bytes_per_s is None:
        return [[1.0 for _ in chip.links] for _ in tensors]
    port = xp.take(problem.port_bytes_per_s, place["hardware"])  # [cores, designs]
    stretch = []
    for t, tensor in enumerate(tensors):
        slowest = xp.zeros(assignment.shape[1:]) + np.inf
        if tensor.producer >= 0:
            slowest = xp.take_along_axis(port, assignment[tensor.producer][None], axis=0)[0]
        for e, edge in enumerate(problem.edges):
            if edge.tensor == t:
                here = xp.take_along_axis(port, assignment[edge.consumer][None], axis=0)[0]
                slowest = xp.where(place["first"][e], xp.minimum(slowest, here), slowest)
        stretch.append(
            [xp.maximum(link.bandwidth_bytes_per_s / slowest, 1.0) for link in chip.links]
        )
    return stretch


def any_of(flags: list[Array], nowhere: Array) -> Array:
    """Whether any of the flags [designs] holds; `nowhere` is false everywhere."""
    found = nowhere
    for flag in flags:
        found = found | flag
    return found
