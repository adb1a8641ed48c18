"""`dse evaluate`: the input size of a network of one's own, and options that do not apply."""

import pytest
from typer.testing import CliRunner

from costs.errors import InputError
from dse.cli import app
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


@pytest.mark.parametrize("stray", [["--bounds"], ["--batch", "2"], ["--input", "8x8x3"]])
def test_options_of_networks_are_refused_for_a_design(stray):
    result = CliRunner().invoke(app, ["evaluate", "design.yaml", *stray])
    assert isinstance(result.exception, InputError)
    assert stray[0] in str(result.exception)
