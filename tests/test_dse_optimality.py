"""Small joint spaces: the listing is complete, the count honest, the optimum never undercut."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_problem import make_problem, random_designs

from costs.errors import InputError
from dse import optimality
from dse.csv_rows import read_rows
from dse.experiment_spec import Objective
from dse.optimality import Counted, all_designs, count_designs, draw_space, runtime_values
from dse.relaxed import Shape
from dse.study import draw_study, write_study


@pytest.fixture(scope="module")
def space():
    return draw_space(make_problem(blocks=1, cores=2), 3)


def test_the_listing_holds_every_design_once(space) -> None:
    shape = replace(Shape.of(space[0].problem), max_widths=(3,), largest_pairs=(2,))
    listed = np.concatenate([np.concatenate(chunk) for chunk in all_designs(shape)], axis=1)
    assert listed.shape[1] == count_designs(shape) == 3 * 2**6 * 2**3
    assert len(np.unique(listed, axis=1).T) == listed.shape[1]
    assert (listed[:7] >= shape.ordinal_low[:, None]).all()
    assert (listed[:7] <= shape.ordinal_high[:, None]).all()


def test_a_count_is_of_every_column_that_was_asked_for(space) -> None:
    objective, preference = space
    counted = Counted(**vars(objective))
    designs = next(all_designs(objective.shape))
    values = counted.value(preference[:, None], *designs)
    assert sum(counted.asked) == values.size
    np.testing.assert_array_equal(values, objective.value(preference[:, None], *designs))


def test_prices_as_runtime_values_give_the_same_objective(space) -> None:
    objective, preference = space
    other, _ = draw_space(make_problem(blocks=1, cores=2), 4)
    priced = optimality.with_runtime_values(other, runtime_values(objective, preference))
    ordinals, assignment = next(all_designs(objective.shape))
    sample = slice(0, None, 997)
    exact = objective.value(preference[:, None], ordinals[:, sample], assignment[:, sample])
    found = priced.value(
        jnp.asarray(preference)[:, None],
        jnp.asarray(ordinals[:, sample]),
        jnp.asarray(assignment[:, sample]),
        jnp,
    )
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-4)


def test_the_task_loss_falls_with_width_and_rises_with_crossing(space) -> None:
    objective, _ = space
    widths, assignment, knobs = random_designs(objective.problem, 1)
    ordinals = np.concatenate([widths, knobs.reshape(-1, 1)])
    apart = np.arange(len(assignment))[:, None] % 2
    narrow, wide = ordinals.copy(), ordinals.copy()
    narrow[: len(widths)], wide[: len(widths)] = 1, objective.shape.ordinal_high[0]

    def loss(ordinals: np.ndarray, assignment: np.ndarray) -> float:
        costs = objective.costs(ordinals, assignment)
        return float(objective.predicted_loss(ordinals, costs)[0])

    assert loss(narrow, apart) > loss(wide, apart)
    assert loss(narrow, apart) > loss(narrow, 0 * apart)


def test_what_is_found_is_never_better_than_the_optimum(space) -> None:
    problem = make_problem(blocks=1, cores=2)
    shape = Shape.of(problem)
    assert isinstance(space[0].settings, Objective)
    descend = optimality.make_descent(draw_space(problem, 5)[0])
    found = optimality.explore(problem, descend, 5)
    assert found.designs == count_designs(shape)
    assert 0 < found.evaluations < found.designs
    assert found.random_gap >= 0.0
    assert 0.0 <= found.gap < 0.05


def test_a_study_is_drawn_again_from_its_table(tmp_path) -> None:
    rows = [
        {"space": i, "designs": 100, "evaluations": 4, "gap": 0.004 * i, "random_gap": 0.01 * i}
        for i in range(5)
    ]
    files = write_study(tmp_path, "optimality", rows, {"seed": 0})
    assert [file.name for file in files] == ["optimality.csv", "study.json", "optimality.png"]
    assert read_rows(files[0]) == rows
    drawn = files[2].read_bytes()
    files[2].unlink()
    draw_study(tmp_path)
    assert files[2].read_bytes() == drawn


def test_a_directory_without_a_study_is_one_clear_error(tmp_path) -> None:
    with pytest.raises(InputError, match=r"study\.json"):
        draw_study(tmp_path)
