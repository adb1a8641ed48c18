"""Two cores and one link: every figure of the example computed by hand in docs/theory/chip.md."""

import re
from pathlib import Path

import numpy as np
import pytest

from costs import strict_yaml
from costs.chip_cost import calc_chip_cost
from costs.chip_report import as_rows, calc_core_load, calc_inputs, calc_link_load
from costs.chip_tables import build_problem
from costs.errors import InputError
from costs.layer import Layer
from costs.library import build_chip
from costs.workload import Tensor, Workload

PAGE = (Path(__file__).parent.parent / "docs" / "theory" / "chip.md").read_text()
LINES = re.findall(r"^\| `(.+?)` \| .*? \| ([0-9.e+-]+) \|$", PAGE, flags=re.MULTILINE)


def read_example():
    """The chip and the network of the page."""
    (text,) = re.findall(r"```yaml\n(name: pair.*?)```", PAGE, flags=re.DOTALL)
    layers = (Layer("a", K=4, C=2, P=2, Q=2), Layer("b", K=2, C=4, P=2, Q=2))
    tensors = (
        Tensor("picture", -1, (0,), 8, 8, (2, 2, 2)),
        Tensor("middle", 0, (1,), 16, 8, (2, 2, 4)),
        Tensor("result", 1, (), 8, 8, (2, 2, 2), output=True),
    )
    return strict_yaml.loads(text), Workload("two", layers, tensors)


@pytest.fixture(scope="module")
def figures():
    data, workload = read_example()
    chip = build_chip(data, "docs/theory/chip.md")
    problem = build_problem(workload, (), chip, "energy")
    assignment, knobs = np.array([[0], [1]]), np.zeros((1, 3, 1), int)
    costs = calc_chip_cost(problem, np.zeros((0, 1), int), assignment, knobs)
    found = {key: float(value[0]) for key, value in costs.items() if np.shape(value) == (1,)}
    loads = {
        "core": as_rows(calc_core_load(problem, costs, assignment, knobs), chip.core_names, 0),
        "link": as_rows(calc_link_load(problem, costs, assignment), ("wire", "dram"), 0),
    }
    for kind, rows in loads.items():
        found |= {f"{kind} {row['name']} {key}": v for row in rows for key, v in row.items()}
    several = calc_inputs(problem, costs, assignment, 8)
    return found | {f"8 inputs {key}": float(value[0]) for key, value in several.items()}


@pytest.mark.parametrize(("name", "value"), LINES)
def test_every_figure_of_the_page_is_what_the_evaluator_gives(figures, name, value):
    assert figures[name] == pytest.approx(float(value), rel=1e-12)


def test_the_page_has_the_whole_example():
    assert len(LINES) == 28


def test_a_layer_that_fits_no_core_is_named():
    data, workload = read_example()
    # a quarter of it streams: less than one weight
    data["core_types"]["tile"]["core"]["levels"][1]["capacity_bytes"] = 3
    chip = build_chip(data, "pair.yaml")
    with pytest.raises(InputError, match="core_types: layer a fits no core of chip pair"):
        build_problem(workload, (), chip, "energy")
