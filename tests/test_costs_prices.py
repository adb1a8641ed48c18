"""Gradients of a chip's costs in bandwidths, energies and bits, and the compiled evaluator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_problem import make_problem, random_designs

from costs.chip_batch import TOTALS, compile_assignments
from costs.chip_cost import calc_chip_cost
from costs.prices import Prices, read_prices, with_prices

COSTS = {"energy_pj": 1e4, "interval_s": 1e-3, "latency_s": 1e-3, "link_bytes": 1e2}


@pytest.fixture(scope="module")
def problem():
    return make_problem(blocks=1)


def test_the_problems_own_prices_change_nothing(problem):
    designs = random_designs(problem, 50)
    before = calc_chip_cost(problem, *designs)
    after = calc_chip_cost(with_prices(problem, read_prices(problem)), *designs)
    for name in COSTS:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-14)


def test_gradients_in_bandwidths_energies_and_bits_are_finite_differences(problem):
    widths, assignment, knobs = random_designs(problem, 6, seed=4)
    assignment[:, :2] = 0  # no link: DRAM bounds them
    # slow links and a slow DRAM, so that each of them bounds some design
    own = read_prices(problem)
    slow = own._replace(
        link_bandwidth_bytes_per_s=own.link_bandwidth_bytes_per_s / 3000,
        dram_bandwidth_bytes_per_s=own.dram_bandwidth_bytes_per_s / 5000,
    )

    def value(scale, xp):
        prices = Prices(*(xp.asarray(p) * s for p, s in zip(slow, scale, strict=True)))
        costs = calc_chip_cost(with_prices(problem, prices, xp), widths, assignment, knobs, xp=xp)
        return xp.stack([costs[name] / unit for name, unit in COSTS.items()])

    ones = [np.ones(np.shape(p)) for p in slow]
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.jacrev(lambda scale: value(scale, jnp)))(ones)
    for field, (name, part) in enumerate(zip(Prices._fields, jacobian, strict=True)):
        assert np.abs(part).max() > 1e-3, name
        for place in np.ndindex(ones[field].shape):
            ends = []
            for step in (1e-6, -1e-6):
                scale = [one.copy() for one in ones]
                scale[field][place] += step
                ends.append(value(scale, np))
            slope = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(part[(..., *place)], slope, rtol=1e-6, atol=1e-6)


def test_energy_is_linear_in_each_energy_of_the_chip(problem):
    designs = random_designs(problem, 20)
    own = read_prices(problem)
    before = calc_chip_cost(problem, *designs)
    dearer = own._replace(
        link_energy_pj_per_bit=3 * own.link_energy_pj_per_bit,
        dram_energy_pj_per_bit=2 * own.dram_energy_pj_per_bit,
    )
    after = calc_chip_cost(with_prices(problem, dearer), *designs)
    np.testing.assert_allclose(after["energy_link_pj"], 3 * before["energy_link_pj"], rtol=1e-12)
    np.testing.assert_allclose(after["energy_dram_pj"], 2 * before["energy_dram_pj"], rtol=1e-12)


def test_the_compiled_evaluator_gives_what_the_exact_one_gives(problem):
    widths, assignment, knobs = random_designs(problem, 5000)
    detail = ("core_busy_s", "core_weight_bytes", "each_link_bytes")
    run = compile_assignments(problem, widths[:, 0], knobs[:, :, 0], TOTALS + detail)
    found = run(assignment)
    tiled = np.repeat(widths[:, :1], 5000, 1), np.repeat(knobs[:, :, :1], 5000, 2)
    exact = calc_chip_cost(problem, tiled[0], assignment, tiled[1])
    for name in TOTALS + detail:
        assert found[name].shape == exact[name].shape
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-5, err_msg=name)
