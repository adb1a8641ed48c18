"""`--help` answers at once: nothing heavy is imported before a command needs it."""

import subprocess
import sys

import pytest

HEAVY = ("jax", "flax", "optax", "orbax", "numpy", "scipy", "sklearn", "matplotlib", "onnx", "yaml")
PROBE = """
import sys
sys.argv = ["dse", *{arguments}]
from dse.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = sorted(name for name in {heavy} if name in sys.modules)
print("loaded:", *loaded)
"""


def loaded_by(*arguments: str) -> set[str]:
    """Heavy packages that a command line imports."""
    code = PROBE.format(arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("loaded:")
    return set(last.split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("evaluate", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]):
    assert loaded_by(*arguments) == set()


def test_listing_and_schemas_need_no_jax():
    assert "jax" not in loaded_by("schema", "experiment")
    assert "jax" not in loaded_by("list", "experiments")
