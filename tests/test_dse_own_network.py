"""A user's own network in a user's own file: run, export and evaluation through the commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from costs.errors import InputError
from dse.config import parse_config
from dse.context import make_context

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
OWN = f"{EXAMPLES / 'my_net.py'}:MyNet"


def _config(name: str, **network):
    return parse_config(
        {"name": "own", "network": {"name": name, **network}, "chip": "quad_big_little"}
    )


def test_the_example_is_costed_and_given_bottlenecks():
    context = make_context(_config(OWN, options={"channels": 6}))
    assert [b.name for b in context.boundaries] == ["stem", "merged"]
    assert [edge.consumer for edge in context.net.edges] == ["branch", "last"]
    assert context.boundaries[0].channels == 6


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("raise RuntimeError('broken')", "Net", "cannot be imported: RuntimeError: broken"),
        ("class Other: pass", "Net", "no such network in the file"),
        ("def Net(rngs):\n    raise KeyError('x')", "Net", "cannot be made: KeyError"),
        (
            "from flax import nnx\n"
            "def Net(rngs):\n    return nnx.Sequential(nnx.Conv(1, 2, (3, 3), rngs=rngs),"
            " lambda x: x.mean((1, 2)))",
            "Net",
            "no boundary to narrow",
        ),
    ],
)
def test_files_that_do_not_work_are_one_error(tmp_path, text, name, message):
    (tmp_path / "net.py").write_text(text)
    with pytest.raises(InputError, match=message):
        make_context(_config(f"{tmp_path / 'net.py'}:{name}"))


def test_a_bottleneck_named_twice_is_refused():
    with pytest.raises(InputError, match="stem is named twice"):
        _config(OWN, bottlenecks=["stem", "merged", "stem"])


def _dse(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dse", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("method", ["surface", "joint"])
def test_run_export_and_evaluate(tmp_path, method):
    small = ["weights.steps=6", "predictor.designs=16", "policy.steps=4", "finetune.steps=2"]
    settings = [f"surface.{s}" for s in (*small, "selection.candidates=4", "selection.designs=2")]
    settings += ["joint.steps=10", f"method={method}"]
    flags = [part for setting in settings for part in ("--set", setting)]
    _dse("run", EXAMPLES / "my_net.yaml", "--out", tmp_path / "run", *flags)
    written = _dse("export", tmp_path / "run", "--pick", "knee", "--out", tmp_path / "out")
    assert "model.stablehlo" in written
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["not_written"][0].startswith("ONNX")
    found = json.loads(_dse("evaluate", tmp_path / "out", "--json"))
    assert found["matches"]
