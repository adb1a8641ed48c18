"""Where do bottlenecks pay? Energy saved at equal accuracy, against the prices of links and MACs.

One set of designs, their accuracy predicted by the surface's own predictor, is priced anew for
every cell: on-chip energy scales with the price of a MAC, link energy with that of a bit, and all
else stays, so a cell is a dot product and a minimum. Layers stay on the cores of the reference
design: with layers free to move, dear links end as no links, and the question answers itself.

The line is that of one pair: it pays when e_link b (1 - 1/r) > (2 C / r) e_MAC at each position of
the tensor, e_MAC with the memory accesses of a MAC and b the bits of a crossing activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from costs.ordered import ordered_sum
from costs.problem import Problem
from dse.answer import Surface
from dse.outcomes import RunError

LINK_PJ_PER_BIT = np.geomspace(0.1, 20.0, 24)
MAC_PJ = np.geomspace(0.003, 3.0, 28)
DESIGNS = 20_000
LINE_RATIOS = (2, 4, 8)


@dataclass(frozen=True)
class Priced:
    """Designs with their energy in parts that the cells scale. Arrays [designs].

    Attributes:
        core_pj: energy of MACs and on-chip memories [pJ].
        link_bits: bits over links.
        other_pj: DRAM and idle energy [pJ].
        ratio: geometric mean of C / w over the boundaries that cross.
        mac_pj: energy of one MAC of the pairs, memory accesses included, at the chip's own
            prices [pJ].
        link_pj_per_bit: mean of the chip's own links [pJ/bit].
        channels: mean channels of the boundaries that cross.
        bits: mean bits of a crossing activation.
    """

    core_pj: np.ndarray
    link_bits: np.ndarray
    other_pj: np.ndarray
    ratio: np.ndarray
    mac_pj: float
    link_pj_per_bit: float
    channels: float
    bits: float


def break_even_mac_pj(link_pj_per_bit: Any, bits: float, channels: float, ratio: float) -> Any:
    """Energy of a MAC [pJ] below which a pair pays: e_link b (r - 1) / (2 C)."""
    return link_pj_per_bit * bits * (ratio - 1.0) / (2.0 * channels)


def price_designs(surface: Surface, tolerance: float, seed: int) -> Priced:
    """Designs whose predicted cross-entropy is within a tolerance of uncompressed, which is first.

    Args:
        surface: a finished run.
        tolerance: of the cross-entropy [nat].
        seed: of the widths that are tried.

    Raises:
        RunError: if nothing crosses in the reference design.
    """
    objective, shape = surface.objective, surface.objective.shape
    problem = objective.problem
    reference, assignment = surface.outputs["tables"]["reference"]
    count = len(shape.max_widths)
    top = shape.ordinal_high[:count]
    rng = np.random.default_rng([seed, 9])
    drawn = np.round(top[:, None] ** rng.uniform(size=(count, DESIGNS)))
    whole = np.repeat(np.asarray(reference)[:, None], DESIGNS + 1, axis=1).astype(int)
    whole[:count, 1:] = drawn
    whole[:count, 0] = top
    crossing = _crossing_boundaries(surface)
    if not crossing.any():
        raise RunError("no boundary crosses cores in the reference design: nothing to compress")
    whole[:count][~crossing] = top[~crossing].astype(int)[:, None]
    whole = np.concatenate([whole[:, :1], np.unique(whole[:, 1:], axis=1)], axis=1)
    costs = objective.costs(whole, np.repeat(assignment[:, None], whole.shape[1], axis=1))
    loss = objective.predicted_loss(whole, costs)
    kept = loss <= loss[0] + tolerance
    channels = np.array(shape.max_widths)[:, None]
    ratios = np.log(channels / shape.widths(whole))[crossing].mean(axis=0)
    on_chip = ordered_sum(
        costs[f"energy_{part}_pj"] for part in ("mac", *problem.levels) if part != "dram"
    )
    bits = np.array([boundary.bits for boundary in problem.boundaries])
    return Priced(
        core_pj=on_chip[kept],
        link_bits=8.0 * costs["link_bytes"][kept],
        other_pj=(costs["energy_dram_pj"] + costs["energy_idle_pj"])[kept],
        ratio=np.exp(ratios)[kept],
        mac_pj=_pair_mac_pj(problem, costs, shape.widths(whole)),
        link_pj_per_bit=float(np.mean([k.energy_pj_per_bit for k in problem.chip.links])),
        channels=float(channels[crossing].mean()),
        bits=float(bits[crossing].mean()),
    )


def calc_cells(priced: Priced) -> list[dict[str, float]]:
    """The best design of every cell: its ratio and the energy that it saves.

    Returns:
        One row for each pair of prices: `link_pj_per_bit`, `mac_pj`, `ratio`, `saved` (of the
        uncompressed design's energy).
    """
    rows = []
    for mac_pj in MAC_PJ:
        core_pj = priced.core_pj * (mac_pj / priced.mac_pj) + priced.other_pj
        for link_pj in LINK_PJ_PER_BIT:
            energy = core_pj + priced.link_bits * link_pj
            best = int(np.argmin(energy))
            rows.append(
                {
                    "link_pj_per_bit": float(link_pj),
                    "mac_pj": float(mac_pj),
                    "ratio": float(priced.ratio[best]),
                    "saved": float(1.0 - energy[best] / energy[0]),
                    "channels": priced.channels,
                    "bits": priced.bits,
                    "own_mac_pj": priced.mac_pj,
                    "own_link_pj_per_bit": priced.link_pj_per_bit,
                }
            )
    return rows


def _crossing_boundaries(surface: Surface) -> np.ndarray:
    """[boundaries] whether a boundary crosses cores in the reference design."""
    objective = surface.objective
    ordinals, assignment = surface.outputs["tables"]["reference"]
    costs = objective.costs(np.asarray(ordinals)[:, None], assignment[:, None])
    crossing = surface.context.crossing(costs["crossing"])[:, 0]
    owner = surface.context.boundary_of_edge
    return np.array(
        [crossing[owner == b].any() for b in range(len(objective.problem.boundaries))], bool
    )


def _pair_mac_pj(problem: Problem, costs: dict[str, Any], widths: np.ndarray) -> float:
    """On-chip energy of the pairs' convolutions over their MACs, all designs together [pJ]."""
    dram = 1 + problem.levels.index("dram")
    energy = macs = 0.0
    for i, slot in enumerate(problem.slots):
        if slot.kind == "layer":
            continue
        active = costs["slot_active"][i]
        parts = [part[i] for j, part in enumerate(costs["slot_parts_pj"]) if j != dram]
        energy += float(np.sum(np.where(active, sum(parts), 0.0)))
        per_width = problem.rows[slot.row].macs  # the row of width 1
        macs += float(np.sum(np.where(active, per_width * widths[slot.boundary], 0.0)))
    return energy / macs
