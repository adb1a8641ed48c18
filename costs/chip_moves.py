"""What moves between buffers, DRAM and links beside what the mappings of the layers move."""

from __future__ import annotations

from typing import Any

import numpy as np

from costs.ordered import Array, any_of, of_core
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
    layer_slot, reduce_slot, expand_slot = problem.find_slots()
    route, _ = problem.chip.routes()
    spilled, active, together = slots["spilled"], place["active"], place["together"]
    zero = 0.0 * slots["time_s"][0]
    nowhere = xp.zeros(zero.shape, bool)
    dram_read, dram_write, buffer_pj = zero, zero, zero
    dram_moves: list[tuple[Array, Array]] = []
    links = [zero for _ in problem.chip.links]
    work = [zero for _ in problem.chip.links]
    uses: list[list[Array]] = []
    read_pj = xp.take(problem.buffer_read_pj, place["layer_hardware"])
    write_pj = xp.take(problem.buffer_write_pj, place["layer_hardware"])
    for t, tensor in enumerate(problem.workload.tensors):
        mine = [(e, edge) for e, edge in enumerate(problem.edges) if edge.tensor == t]
        touching = [layer_slot[edge.consumer] for _, edge in mine]
        touching += [expand_slot[e] for e, _ in mine if e in expand_slot]
        touching += [reduce_slot[t]] if t in reduce_slot else []
        maker = tensor.producer
        touching += [layer_slot[maker]] if maker >= 0 else []
        spilled_by = {
            owner: any_of([spilled[i] for i in touching if problem.slots[i].owner == owner], zero)
            for owner in sorted({problem.slots[i].owner for i in touching})
        }

        def in_dram(here: int, spilled_by: dict[int, Array] = spilled_by) -> Array:
            """Whether a slot on the core of this layer keeps the tensor in DRAM."""
            rest = [spilled_by[o] & together(o, here) for o in spilled_by if o != here]
            return any_of([spilled_by[here], *rest], nowhere)

        size, crossing = tensor.bytes, place["crossing_bytes"][t]
        if maker >= 0:
            away = in_dram(maker)
            kept = ~spilled[layer_slot[maker]]
            stored = away & kept if mine else kept  # the network's output: always
            dram_moves.append((assignment[maker], xp.where(stored, size, 0.0)))
            dram_write = dram_write + dram_moves[-1][1]
            buffer_pj = buffer_pj + xp.where(place["leaves"][t], crossing * read_pj[maker], 0.0)
            if t in reduce_slot:
                fetch = away & active[reduce_slot[t]] & ~spilled[reduce_slot[t]]
                dram_moves.append((assignment[maker], xp.where(fetch, size, 0.0)))
                dram_read = dram_read + dram_moves[-1][1]
        on_link: list[list[Array]] = [[] for _ in links]
        for e, edge in mine:
            user = edge.consumer
            kept = ~spilled[layer_slot[user]]
            away = in_dram(user) if maker >= 0 else ~nowhere
            fetch = away if edge.fused else away & kept
            dram_moves.append((assignment[user], xp.where(fetch, size, 0.0)))
            dram_read = dram_read + dram_moves[-1][1]
            if edge.fused:
                buffer_pj = buffer_pj + xp.where(away, 0.0, size * read_pj[user])
            if maker < 0:
                buffer_pj = buffer_pj + xp.where(kept, size * write_pj[user], 0.0)
                continue
            first = place["first"][e]
            buffer_pj = buffer_pj + xp.where(first, crossing * write_pj[user], 0.0)
            stored = first & away
            if e in expand_slot:  # a spilled expand writes it itself
                stored = stored & ~spilled[expand_slot[e]]
            dram_moves.append((assignment[user], xp.where(stored, size, 0.0)))
            dram_write = dram_write + dram_moves[-1][1]
            pair = assignment[maker] * len(route) + assignment[user]
            for n in range(len(links)):
                path = route[..., n].reshape(-1) > 0
                everywhere = path.sum() == len(route) * (len(route) - 1)  # a bus
                on_link[n].append(place["crosses"][e] if everywhere else xp.take(path, pair))
        uses.append([any_of(flags, nowhere) for flags in on_link])
        for n, used in enumerate(uses[-1] if mine and maker >= 0 else ()):
            links[n] = links[n] + xp.where(used, crossing, 0.0)
            if problem.port_bytes_per_s is not None:
                work[n] = work[n] + xp.where(used, crossing * stretch[t][n], 0.0)
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
            slowest = of_core(port, place["on_core"][tensor.producer], xp)
        for e, edge in enumerate(problem.edges):
            if edge.tensor == t:
                here = of_core(port, place["on_core"][edge.consumer], xp)
                slowest = xp.where(place["first"][e], xp.minimum(slowest, here), slowest)
        stretch.append(
            [xp.maximum(link.bandwidth_bytes_per_s / slowest, 1.0) for link in chip.links]
        )
    return stretch
