"""The dynamic program finds what listing every contiguous partition finds."""

import numpy as np
import pytest
from synthetic_problem import make_problem, random_designs

from costs.assignment import count_contiguous, enumerate_contiguous, solve_contiguous
from costs.chip_cost import calc_chip_cost


def test_enumeration_is_complete_and_contiguous():
    found = enumerate_contiguous(5, 3)
    assert found.shape[1] == count_contiguous(5, 3) == len(np.unique(found, axis=1).T)
    for column in found.T:
        stages = column[np.insert(np.diff(column) != 0, 0, True)]
        assert len(set(stages)) == len(stages), "a core is revisited"


def test_exchangeable_cores_are_listed_once():
    everything = enumerate_contiguous(5, 4)
    listed = enumerate_contiguous(5, 4, (0, 1, 0, 1))
    kinds = np.array([0, 1, 0, 1])
    shapes = {tuple(kinds[column]) + tuple(np.diff(column) != 0) for column in everything.T}
    assert listed.shape[1] == len(shapes)
    assert {tuple(kinds[c]) + tuple(np.diff(c) != 0) for c in listed.T} == shapes


@pytest.mark.parametrize("seed", range(6))
def test_dynamic_program_equals_enumeration(seed):
    problem = make_problem(seed, blocks=2 + seed % 3, cores=2 + seed % 3)
    widths, _, knobs = (array[..., 0] for array in random_designs(problem, 1, seed))
    layers, cores = len(problem.workload.layers), len(problem.chip.cores)

    def costs(options):
        count = options.shape[1]
        tiled = (
            np.repeat(widths[:, None], count, 1),
            options,
            np.repeat(knobs[:, :, None], count, 2),
        )
        return calc_chip_cost(problem, *tiled)

    everything = costs(enumerate_contiguous(layers, cores))
    survivors = costs(solve_contiguous(problem, widths, knobs))
    rng = np.random.default_rng(seed)
    objectives = [lambda c: c["energy_pj"], lambda c: c["io_bytes"], lambda c: c["interval_s"]]
    for weights in rng.dirichlet(np.ones(3), 10):
        objectives.append(
            lambda c, w=weights: sum(
                w[i] * np.log(c[n]) for i, n in enumerate(("energy_pj", "io_bytes", "interval_s"))
            )
        )
    for objective in objectives:
        assert objective(survivors).min() == objective(everything).min()
    assert len(survivors["energy_pj"]) < len(everything["energy_pj"])


def test_more_cores_than_layers_leaves_cores_unused():
    problem = make_problem(blocks=1, cores=4)
    widths, _, knobs = (array[..., 0] for array in random_designs(problem, 1))
    found = solve_contiguous(problem, widths, knobs)
    assert found.shape[0] == 3
    assert found.max() < 4
