"""The tree is the architecture: imports point one way, one module for each outside world."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("costs", "models", "dse")
MAY_IMPORT = {"costs": set(), "models": {"costs"}, "dse": {"costs", "models"}}
NEVER = {"experiments", "tests", "benchmarks"}
OWNER = {
    "orbax": "dse/checkpoint.py",
    "rich": "dse/console.py",
    "typer": "dse/cli",
    "fcntl": "dse/lock.py",
}
"""Outside world -> the only module that touches it, or what the names of those few begin with."""
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
LONGEST = 400


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imported(file: Path) -> Iterator[str]:
    """Absolute names of all imported modules, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_imports_point_one_way(file: Path):
    package = file.relative_to(ROOT).parts[0]
    forbidden = (set(PACKAGES) | NEVER) - MAY_IMPORT[package] - {package}
    tops = {module.partition(".")[0] for module in imported(file)}
    assert tops & forbidden == set()


@pytest.mark.parametrize(("world", "owner"), OWNER.items())
def test_one_module_touches_each_outside_world(world: str, owner: str):
    users = [
        name_of(file)
        for file in SOURCES
        if any(module.partition(".")[0] == world for module in imported(file))
    ]
    assert users
    assert all(user.startswith(owner) for user in users), users


def test_only_the_console_prints():
    printing = {
        name_of(file)
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or ast.unparse(node.func).startswith(("sys.stdout.write", "sys.stderr.write"))
        )
    }
    assert printing <= {"dse/console.py"}


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_files_are_short_and_named_for_what_they_hold(file: Path):
    lines = file.read_text().count("\n")
    assert lines <= LONGEST, f"{lines} lines: what does it hide?"
    assert file.stem not in ("utils", "helpers", "common", "misc")


def test_test_files_are_flat_and_named_for_what_they_test():
    assert not (ROOT / "tests" / "__init__.py").exists()
    for file in (ROOT / "tests").rglob("test_*.py"):
        assert file.parent == ROOT / "tests"
        package = file.stem.split("_")[1]
        assert package in (*PACKAGES, "architecture", "experiments"), file.name
