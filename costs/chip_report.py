"""What every core, every link and the DRAM of a chip do under an assignment.

Derived from what `costs.chip_cost.calc_chip_cost` returns, and kept apart from it because
optimizers need totals only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from costs.chip_cost import PJ, calc_hardware
from costs.pipeline import FOLLOWED, list_ends, list_operations, run_inputs
from costs.problem import Problem


@dataclass(frozen=True)
class CoreLoad:
    """One inference on every core. Arrays [cores, designs].

    Attributes:
        compute_s: computation of its layers [s].
        memory_s: transfers of its own memories and of its share of DRAM, layer by layer [s].
        busy_s: sum over its layers of the larger of both [s].
        link_in_s: receiving, over the slowest of its links [s].
        link_out_s: sending, over the slowest of its links [s].
        stage_s: its stage of the pipeline, the largest of busy, in and out [s].
        dram_bytes: DRAM traffic on its behalf [bytes].
        dram_share: the same as a part of all DRAM traffic [1].
        dram_s: how long the DRAM works for it [s].
        weight_bytes: all weights of its layers, what it would need for them to stay [bytes].
        weight_buffer_bytes: what it has [bytes].
        weights_kept_bytes: weights that do stay; the others stream on every inference [bytes].
        activation_bytes: activations live at once, at most [bytes].
        global_buffer_bytes: what it has for them [bytes]; where less, layers work from DRAM.
    """

    compute_s: np.ndarray
    memory_s: np.ndarray
    busy_s: np.ndarray
    link_in_s: np.ndarray
    link_out_s: np.ndarray
    stage_s: np.ndarray
    dram_bytes: np.ndarray
    dram_share: np.ndarray
    dram_s: np.ndarray
    weight_bytes: np.ndarray
    weight_buffer_bytes: np.ndarray
    weights_kept_bytes: np.ndarray
    activation_bytes: np.ndarray
    global_buffer_bytes: np.ndarray


@dataclass(frozen=True)
class LinkLoad:
    """Every shared way in steady state, links first and the DRAM last. Arrays [ways, designs].

    Attributes:
        traffic_bytes: per inference [bytes].
        busy_s: per inference [s].
        bandwidth_bits_per_s: what it has [bits/s].
        required_bits_per_s: what the chip's throughput asks of it [bits/s].
        utilization: the required part of it [1].
        sharers: cores that send over it (DRAM: that use it).
        wait_s: how long transfers of one input wait for it; not followed for the DRAM [s].
        energy_pj: per inference; of the DRAM with its interface [pJ].
    """

    traffic_bytes: np.ndarray
    busy_s: np.ndarray
    bandwidth_bits_per_s: np.ndarray
    required_bits_per_s: np.ndarray
    utilization: np.ndarray
    sharers: np.ndarray
    wait_s: np.ndarray
    energy_pj: np.ndarray


def calc_core_load(
    problem: Problem, costs: dict[str, Any], assignment: np.ndarray, knobs: np.ndarray
) -> CoreLoad:
    """What every core does, from the costs of designs; arguments as for `calc_chip_cost`."""
    count = len(problem.chip.cores)
    mine = costs["slot_core"][None] == np.arange(count)[:, None, None]  # [cores, slots, designs]
    active = mine & costs["slot_active"][None]

    def add(values: np.ndarray) -> np.ndarray:
        return np.where(active, values[None], 0.0).sum(axis=1)

    weights = np.stack([
        np.where(active[:, s], _weight_bytes(problem, costs, s), 0.0)
        for s in range(len(problem.slots))
    ], axis=1)  # fmt: skip
    received, sent = _calc_endpoint_s(problem, costs, assignment)
    moved = add(costs["slot_dram_bytes"])
    for core, size in costs["dram_moves"]:
        moved += np.where(core[None] == np.arange(count)[:, None], size[None], 0.0)
    hardware = calc_hardware(problem, knobs, np)
    busy = costs["core_busy_s"]
    with np.errstate(invalid="ignore"):  # a design without DRAM traffic has no shares
        share = np.where(costs["dram_bytes"] > 0, moved / costs["dram_bytes"], 0.0)
    return CoreLoad(
        compute_s=add(costs["slot_compute_s"]),
        memory_s=add(costs["slot_memory_s"]),
        busy_s=busy,
        link_in_s=received,
        link_out_s=sent,
        stage_s=np.maximum(busy, np.maximum(received, sent)),
        dram_bytes=moved,
        dram_share=share,
        dram_s=moved / problem.chip.dram_bandwidth_bytes_per_s,
        weight_bytes=costs["core_weight_bytes"],
        weight_buffer_bytes=problem.weight_buffer_bytes[hardware],
        weights_kept_bytes=np.where(costs["slot_resident"][None], weights, 0.0).sum(axis=1),
        activation_bytes=np.where(active, costs["slot_live_bytes"][None], 0.0).max(axis=1),
        global_buffer_bytes=problem.global_buffer_bytes[hardware],
    )


def calc_link_load(problem: Problem, costs: dict[str, Any], assignment: np.ndarray) -> LinkLoad:
    """What every link and the DRAM carry, from the costs of designs."""
    chip = problem.chip
    rate = np.array([
        *(link.bandwidth_bytes_per_s for link in chip.links), chip.dram_bandwidth_bytes_per_s
    ])[:, None]  # fmt: skip
    price = np.array([
        *(link.energy_pj_per_bit for link in chip.links), chip.dram_energy_pj_per_bit
    ])[:, None]  # fmt: skip
    traffic = np.concatenate([costs["each_link_bytes"], costs["dram_bytes"][None]])
    work = np.concatenate([costs["each_link_work"], costs["dram_bytes"][None]])
    designs = np.arange(assignment.shape[1])
    senders = np.zeros((*costs["each_link_bytes"].shape, len(chip.cores)), bool)
    for journey in _journeys(problem, costs, assignment):
        senders[:, designs, journey.producer] |= journey.uses.T
    uses_dram = np.zeros((len(designs), len(chip.cores)), bool)
    for core in range(len(chip.cores)):
        mine = costs["slot_core"] == core
        uses_dram[:, core] = np.any(mine & (costs["slot_dram_bytes"] > 0), axis=0)
        for where, size in costs["dram_moves"]:
            uses_dram[:, core] |= (where == core) & (size > 0)
    sharers = np.concatenate([senders.sum(-1), uses_dram.sum(-1)[None]])
    never = np.zeros((1, assignment.shape[1]))
    return LinkLoad(
        traffic_bytes=traffic,
        busy_s=work / rate,
        bandwidth_bits_per_s=8.0 * rate + 0.0 * traffic,
        required_bits_per_s=8.0 * traffic / costs["interval_s"],
        utilization=work / rate / costs["interval_s"],
        sharers=sharers,
        wait_s=np.concatenate([costs["each_link_wait_s"], never]),
        energy_pj=8.0 * traffic * price,
    )


def calc_inputs(
    problem: Problem, costs: dict[str, Any], assignment: np.ndarray, inputs: int
) -> dict[str, np.ndarray]:
    """Time and energy of `inputs` inputs that are there at once, followed by `costs.pipeline`.

    Waiting for the DRAM is not followed: where the chip needs it for most of the interval, inputs
    are taken to follow each other as fast as it serves them. After `FOLLOWED` inputs each adds an
    interval.

    Args:
        problem: workload, chip and cost tables.
        costs: of designs, by `calc_chip_cost`.
        assignment: [layers, designs].
        inputs: how many.

    Returns:
        Arrays [designs]: `latency_s` until the last is done [s], `energy_pj` of all [pJ]: the
        dynamic energy of each, and the idle power of the chip over the latency.
    """
    interval_s, followed = costs["interval_s"], min(inputs, FOLLOWED)
    ends_s = [
        max(list_ends(operations, run_inputs(operations, followed)))
        for design in range(len(interval_s))
        for operations in [list_operations(problem, costs, assignment, design)]
    ]
    dram_s = costs["dram_bytes"] / problem.chip.dram_bandwidth_bytes_per_s
    latency_s = np.maximum(
        np.array(ends_s) + (inputs - followed) * interval_s,
        costs["latency_s"] + (inputs - 1) * dram_s,
    )
    idle_w = costs["energy_idle_pj"] * PJ / interval_s
    dynamic_pj = costs["energy_pj"] - costs["energy_idle_pj"]
    return {"latency_s": latency_s, "energy_pj": inputs * dynamic_pj + idle_w * latency_s / PJ}


def as_rows(
    load: CoreLoad | LinkLoad, names: tuple[str, ...], design: int
) -> list[dict[str, str | float]]:
    """One row for each name, of one design."""
    return [
        {"name": name}
        | {field.name: float(getattr(load, field.name)[i, design]) for field in fields(load)}
        for i, name in enumerate(names)
    ]


def _weight_bytes(problem: Problem, costs: dict[str, Any], s: int) -> np.ndarray:
    """[designs] weights of a slot [bytes]; those of a pair are of the width that crosses."""
    slot = problem.slots[s]
    weights = problem.rows[slot.row].bytes("W") + 0.0 * costs["energy_pj"]
    if slot.kind == "layer":
        return weights
    boundary = problem.boundaries[slot.boundary]
    width = costs["crossing_bytes"][boundary.tensor] * 8 / boundary.bits / boundary.positions
    return weights * width


@dataclass(frozen=True)
class Journey:
    """A tensor on its way to one consumer. Static argument.

    Attributes:
        edge: number of the edge.
        tensor: number of the tensor.
        producer, consumer: [designs] cores.
        crosses: [designs] whether they differ.
        uses: [designs, links] links of the route.
        first, last: [designs] the links by which it leaves and arrives.
    """

    edge: int
    tensor: int
    producer: np.ndarray
    consumer: np.ndarray
    crosses: np.ndarray
    uses: np.ndarray
    first: np.ndarray
    last: np.ndarray


def _journeys(problem: Problem, costs: dict[str, Any], assignment: np.ndarray) -> Iterator[Journey]:
    """Every edge whose tensor a layer makes."""
    route, _ = problem.chip.routes()
    paths = problem.chip.paths()
    ends = np.array([[(p[0], p[-1]) if p else (-1, -1) for p in row] for row in paths])
    for e, edge in enumerate(problem.edges):
        made = problem.workload.tensors[edge.tensor].producer
        if made < 0:
            continue
        here, there = assignment[made], assignment[edge.consumer]
        yield Journey(
            e,
            edge.tensor,
            here,
            there,
            costs["crossing"][e],
            (route[here, there] > 0) & costs["crossing"][e][:, None],
            *ends[here, there].T,
        )


def _calc_endpoint_s(
    problem: Problem, costs: dict[str, Any], assignment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[cores, designs] time of receiving and of sending over the slowest link of a core [s]."""
    links, designs = len(problem.chip.links), np.arange(assignment.shape[1])
    if not links:
        nothing = np.zeros((len(problem.chip.cores), len(designs)))
        return nothing, nothing
    rate = np.array([link.bandwidth_bytes_per_s for link in problem.chip.links])[:, None, None]
    received = np.zeros((links, len(problem.chip.cores), len(designs)))
    sent = np.zeros_like(received)
    left = np.zeros((len(problem.workload.tensors), links, len(designs)), bool)
    for journey in _journeys(problem, costs, assignment):
        size = costs["crossing_bytes"][journey.tensor] * np.stack(
            [times + 0.0 * costs["interval_s"] for times in costs["stretch"][journey.tensor]]
        )
        arrives = np.where(costs["arriving"][journey.edge], size[journey.last, designs], 0.0)
        received[journey.last, journey.consumer, designs] += arrives
        # what has left over a link once is there for all who get it from that link
        leaves = journey.crosses & ~left[journey.tensor, journey.first, designs]
        sent[journey.first, journey.producer, designs] += np.where(
            leaves, size[journey.first, designs], 0.0
        )
        left[journey.tensor, journey.first, designs] |= leaves
    return (received / rate).max(axis=0), (sent / rate).max(axis=0)
