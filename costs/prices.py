"""Bandwidths, energies and crossing bits of a chip as values that gradients reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from costs.ordered import Array
from costs.problem import VARIANTS, Problem


class Prices(NamedTuple):
    """What may vary continuously without another search for mappings. A pytree.

    Attributes:
        link_bandwidth_bytes_per_s: [links].
        link_energy_pj_per_bit: [links].
        dram_bandwidth_bytes_per_s: [].
        dram_energy_pj_per_bit: [].
        idle_power_w: [] outside the cores.
        crossing_bits: [boundaries] of an activation that crosses through a bottleneck.
    """

    link_bandwidth_bytes_per_s: Array
    link_energy_pj_per_bit: Array
    dram_bandwidth_bytes_per_s: Array
    dram_energy_pj_per_bit: Array
    idle_power_w: Array
    crossing_bits: Array


def read_prices(problem: Problem) -> Prices:
    """The prices of a problem as it is described."""
    chip = problem.chip
    return Prices(
        np.array([float(link.bandwidth_bytes_per_s) for link in chip.links]),
        np.array([float(link.energy_pj_per_bit) for link in chip.links]),
        np.array(float(chip.dram_bandwidth_bytes_per_s)),
        np.array(float(chip.dram_energy_pj_per_bit)),
        np.array(float(chip.idle_power_w)),
        np.array([float(boundary.bits) for boundary in problem.boundaries]),
    )


def with_prices(problem: Problem, prices: Prices, xp: Any = np) -> Problem:
    """The problem at other prices, with the mappings that were best at its own.

    By the envelope theorem its gradient in the prices, at its own prices, is that of the best
    mappings. `calc_chip_cost` takes it in place of the problem.

    Args:
        problem: workload, chip and tables at the chip's own prices.
        prices: arrays or tracers.
        xp: numpy or jax.numpy, that of the prices.
    """
    chip = problem.chip
    links = tuple(
        replace(
            link,
            bandwidth_bytes_per_s=prices.link_bandwidth_bytes_per_s[n],
            energy_pj_per_bit=prices.link_energy_pj_per_bit[n],
        )
        for n, link in enumerate(chip.links)
    )
    boundaries = tuple(
        replace(boundary, bits=prices.crossing_bits[n])
        for n, boundary in enumerate(problem.boundaries)
    )
    priced = replace(
        chip,
        links=links,
        dram_bandwidth_bytes_per_s=prices.dram_bandwidth_bytes_per_s,
        dram_energy_pj_per_bit=prices.dram_energy_pj_per_bit,
        idle_power_w=prices.idle_power_w,
    )
    return replace(
        problem, chip=priced, boundaries=boundaries, table=_calc_table(problem, prices, xp)
    )


def _calc_table(problem: Problem, prices: Prices, xp: Any) -> Array:
    """The cost table with the energy of DRAM and the cycles at other prices."""
    table, dram = problem.table, 1 + problem.levels.index("dram")
    feasible = np.isfinite(table[:, 0])
    known = np.where(feasible[:, None], table, 0.0)  # no infinity may meet a zero gradient
    kind = np.searchsorted(problem.hardware_offset, np.arange(len(problem.area_mm2)), "right") - 1
    clock_hz = np.array([t.core.clock_hz for t in problem.chip.types])[kind]
    clock_hz = clock_hz[np.arange(len(table)) // len(VARIANTS) % len(clock_hz)]
    columns = [known[:, i] for i in range(known.shape[1])]
    columns[dram] = (
        columns[dram] * prices.dram_energy_pj_per_bit / problem.chip.dram_energy_pj_per_bit
    )
    waiting = columns[-1] * clock_hz / prices.dram_bandwidth_bytes_per_s
    columns[-2] = xp.maximum(xp.maximum(columns[-4], columns[-3]), waiting)
    return xp.where(feasible[:, None], xp.stack(columns, axis=1), np.inf)
