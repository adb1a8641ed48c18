"""`dse assign`: what it prints is what the chip model says, and bad input is one line."""

import json
import re
import sys
from importlib.resources import files

import numpy as np
import pytest

from dse.assignment_solvers import SOLVERS, find_solver
from dse.cli import run_app


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["dse", "assign", *arguments])
    code = run_app()
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def assign(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, *arguments)


def test_solvers_on_a_chip_with_equal_cores(assign):
    values = {}
    for solver in ("equal", "greedy", "dp", "local", "milp"):
        code, out, _ = assign("mlp", "quad_equal", "--solver", solver, "--proof-s", "5", "--json")
        assert code == 0
        found = json.loads(out)
        assert set(found["assignment"].values()) <= {c["core"] for c in found["cores"]}
        stages = max(core["stage_s"] for core in found["cores"])
        links = max(link["busy_s"] for link in found["links"])
        assert found["costs"]["interval_s"] >= max(stages, links)
        values[solver] = found["costs"]["interval_s"], found["bound"]
    best = values["milp"][0]
    assert all(value >= best * (1 - 1e-9) >= bound * (1 - 1e-5) for value, bound in values.values())


def test_stages_in_a_given_order(assign):
    code, out, _ = assign(
        "mlp",
        "quad_equal",
        "--solver",
        "dp",
        "--stages",
        "core_2,core_0",
        "--proof-s",
        "5",
        "--json",
    )
    assert code == 0
    cores = list(json.loads(out)["assignment"].values())
    assert cores in (["core_2", "core_0", "core_0"], ["core_2", "core_2", "core_0"])


def test_table_for_a_person(assign):
    code, out, _ = assign("mlp", "quad_chiplets_ucie", "--objective", "io")
    assert code == 0
    assert "io_bytes" in out
    assert "proved: no assignment" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mlp", "quad_equal", "--solver", "localy"), "no such solver (got 'localy'"),
        (("mlp", "quad_equal", "--objective", "speed"), "allowed: interval, energy, io, latency"),
        (("mlp", "quad_big_little", "--split"), "layers are split over cores of one type"),
        (("mlp", "quad_chiplets_ucie", "--solver", "dp", "--objective", "energy"),
         "minimises the interval alone"),
        (("mlp", "quad_equal", "--solver", "dp", "--stages", "core_0,core_1,core_2,core_3"),
         "stages: more stages than layers: name fewer cores, or split layers (got 4; allowed: at"
         " most 3)"),
        (("mlp", "quad_equal", "--solver", "dp", "--stages", "core_0,core_9"),
         "--stages: not cores of this chip, each once (got 'core_0,core_9'; allowed: core_0,"),
        (("mlp", "quad_equal", "--stages", "core_0"), "allowed: beside --solver dp"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(assign, arguments, said):
    code, _, err = assign(*arguments)
    assert code == 2
    assert said in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("find", "put", "said"),
    [
        (r"(?s)\nlinks:.*(?=\ndram:)", "", "links: 4 cores need links to exchange tensors over"),
        (r", wide_1\]", "]", "cores.wide_1: no link reaches this core"),
        (r"\[1024, 2048, 4096, 8192\], default: \d+", "[1], default: 1",
         "layer hidden.0 fits no core of chip quad_big_little"),
    ],
)  # fmt: skip
def test_a_bad_chip_is_one_line(assign, tmp_path, find, put, said):
    text = (files("costs") / "hardware/chips/quad_big_little.yaml").read_text()
    (tmp_path / "chip.yaml").write_text(re.sub(find, put, text))
    code, out, err = assign("mlp", str(tmp_path / "chip.yaml"))
    assert (code, out) == (2, "")
    assert said in err.replace("\n", " ")


def test_every_solver_is_there():
    from costs.random_instance import random_instance

    instance = random_instance(0, 10, 3, "bus")
    for name in ("dp", "milp", "local", "equal", "greedy"):
        found = find_solver(name)(instance, seed=1)
        assert found.shape == (10,)
        assert set(np.unique(found)) <= {0, 1, 2}
    assert set(SOLVERS) >= {"softmax", "gumbel", "cuts", "perturbed"}
