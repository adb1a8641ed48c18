"""`dse evaluate`: the input size of a network of one's own, and options that do not apply."""

import json
import sys

import pytest
from typer.testing import CliRunner

from costs.errors import InputError
from dse.cli import app, run_app
from dse.commands.evaluate import read_workload

NETWORK = """
import flax.nnx as nnx


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)

    def __call__(self, x):
        return self.conv(x)
"""


def test_input_size_reaches_the_layers_of_a_network_of_ones_own(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NETWORK)
    (layer,) = read_workload(f"{file}:Net", 2, "6x10x3").layers
    assert (layer.N, layer.P, layer.Q, layer.C, layer.K) == (2, 6, 10, 3, 8)
    with pytest.raises(InputError, match="--input"):
        read_workload(f"{file}:Net", 1)


@pytest.mark.parametrize("text", ["0x8x3", "8x8", "8x8x-3", "axbxc", "8x8x99999999"])
def test_absurd_input_sizes_are_refused(text):
    with pytest.raises(InputError, match="--input"):
        read_workload("mlp", 1, text)


@pytest.mark.parametrize(
    ("use", "stray"),
    [
        ("design.yaml", "--bounds"),
        ("design.yaml", "--batch 2"),
        ("design.yaml", "--input 8x8x3"),
        ("design.yaml", "--objective energy"),
        ("design.yaml", "--word-bits 16"),
        ("design.yaml", "--proof-s 30"),
        ("--case cases.jsonl", "--figure a.png"),
        ("mlp tpu_like", "--inputs 2"),
        ("mlp tpu_like", "--word-bits 8"),
        ("mlp tpu_like", "--data ."),
        ("mlp tpu_like --bounds", "--objective edp"),
        ("mlp tpu_like --insitu 2-44-3-6-3", "--input 28x28x1"),
        ("mlp gpu_80sm", "--figure a.png"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(use, stray):
    result = CliRunner().invoke(app, ["evaluate", *use.split(), *stray.split()])
    assert isinstance(result.exception, InputError)
    assert result.exception.key == stray.split()[0]


@pytest.mark.parametrize("name", ["--objective", "--conventions"])
def test_unknown_names_are_refused(name):
    result = CliRunner().invoke(app, ["evaluate", "mlp", "tpu_like", name, "speed"])
    assert isinstance(result.exception, InputError)
    assert result.exception.key == name


@pytest.mark.parametrize(
    "arguments", ["evaluate", "evaluate mlp tpu_like --batch 0", "evaluate a b c", "nosuch"]
)
def test_bad_arguments_are_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dse", *arguments.split()])
    assert run_app() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_bounds_print_the_published_table():
    sizes = [word for kib in ("66.5", "131.625", "173.5") for word in ("--onchip-kib", kib)]
    result = CliRunner().invoke(
        app, ["evaluate", "vgg16", "communication_optimal", "--bounds", "--json", *sizes]
    )
    found = json.loads(result.stdout)
    row = next(row for row in found["layers"] if row["layer"] == "conv1_2")
    # shared/reference/papers.md, E: batch 3, 16-bit words, MB of 10^6 bytes
    printed = [f"{traffic / 1e6:.2f}" for traffic in row["formula_bytes"]]
    assert printed == ["59.36", "47.77", "44.09"]
    assert [f"{traffic / 1e6:.2f}" for traffic in row["tiled_bytes"]] == ["63.60", "51.49", "49.32"]
    assert f"{row['compulsory_bytes'] / 1e6:.2f}" == "38.61"
