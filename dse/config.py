"""Reading an experiment: strict YAML, `--set`, errors that name file, key, value and allowed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from costs import strict_yaml
from costs.errors import InputError, nearest
from dse.experiment_spec import Experiment as Experiment
from models.registry import is_user_network

MAY_CHANGE_ON_RESUME = ("log_every", "checkpoint", "question", "expected")
"""Keys (with all below them) that say when something is logged or saved, never what is computed."""


def load_config(path: str | Path, overrides: list[str] | None = None) -> Experiment:
    """Read an experiment from a YAML file.

    Args:
        path: The file.
        overrides: `a.b=c` each, the value written as in YAML; applied in order.

    Raises:
        InputError: Naming file (or `--set`), dotted key, value and what is allowed.
    """
    document = strict_yaml.load(path)
    if not isinstance(document, dict):
        raise InputError("an experiment is a mapping of keys to values", file=path, value=document)
    set_keys = [_apply(document, override) for override in overrides or ()]
    if isinstance(document.get("chip"), str) and "chip" not in set_keys:
        document["chip"] = _beside(Path(path), document["chip"])
    network = document.get("network")
    network = network if isinstance(network, dict) else {}
    name = network.get("name")
    if isinstance(name, str) and is_user_network(name) and "network.name" not in set_keys:
        file, _, attribute = name.rpartition(":")
        network["name"] = f"{_beside(Path(path), file)}:{attribute}"
    return parse_config(document, file=path, set_keys=set_keys)


def parse_config(
    document: dict[str, Any], *, file: object = None, set_keys: list[str] | None = None
) -> Experiment:
    """Check a document and fill in the defaults.

    Args:
        document: As a YAML file says it; whole numbers are accepted where reals are expected.
        file: What errors name as its origin.
        set_keys: Dotted keys that came from `--set`: errors name that as their origin.
    """
    try:
        config = Experiment.model_validate(document)
    except ValidationError as error:
        raise _first_problem(error, document, file, set_keys or []) from None
    relaxation, key = config.assignment.relaxation, "assignment.relaxation"
    if config.method != "surface" and config.requests:
        raise InputError(
            f"method: {config.method} would ignore them",
            file=file,
            key="requests",
            value=f"{len(config.requests)} of them",
            allowed="none; joint.preference and joint.budget with method: joint",
        )
    if config.method != "joint" and relaxation != "softmax":
        raise InputError(
            f"method: {config.method} would ignore it",
            file="--set" if key in (set_keys or []) else file,
            key=key,
            value=relaxation,
            allowed="softmax; the others with method: joint",
        )
    return config


@contextlib.contextmanager
def naming(file: object) -> Iterator[None]:
    """Name a file in input errors that know only a key of it."""
    try:
        yield
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(
            error.message, file=file, key=error.key, value=error.value, allowed=error.allowed
        ) from error


def resolved(config: Experiment) -> dict[str, Any]:
    """The configuration with every default filled in, as plain data."""
    return config.model_dump(mode="json")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What changed between two resolved configurations, one `key: old -> new` each."""
    found = []
    for key in dict.fromkeys((*old, *new)):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            found += differences(was, now, f"{prefix}{key}.")
        elif was != now or type(was) is not type(now):
            found.append(f"{prefix}{key}: {was!r} -> {now!r}")
    return found


def forbidden_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The differences that would make a resumed run another run."""
    return [
        change
        for change in differences(old, new)
        if change.partition(":")[0].partition(".")[0] not in MAY_CHANGE_ON_RESUME
    ]


def _beside(experiment: Path, named: str) -> str:
    """A file relative to its experiment, as an absolute path; else what is written."""
    found = experiment.parent / named
    is_file = named.endswith((".yaml", ".yml", ".py")) and found.is_file()
    return str(found.resolve()) if is_file else named


def _apply(document: dict[str, Any], override: str) -> str:
    """Set one dotted key of a document; returns the key."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise InputError("not of the form", file="--set", value=override, allowed="a.b=value")
    node = document
    for part in path[:-1]:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise InputError("has no keys below it", file="--set", key=part, value=override)
    node[path[-1]] = strict_yaml.loads(text, file="--set")
    return ".".join(path)


def _first_problem(
    error: ValidationError, document: Any, file: object, set_keys: list[str]
) -> InputError:
    """The first thing pydantic found wrong, as this project words errors."""
    problem = error.errors(include_url=False)[0]
    kind, value = problem["type"], problem["input"]
    location = _in_document(problem["loc"], document)
    key = ".".join(location) or None
    origin = "--set" if key and any(key.startswith(name) for name in set_keys) else file
    if kind == "missing":
        return InputError("is required", file=origin, key=key)
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = nearest(location[-1], known)
        hint = f"unknown key; did you mean {close}?" if close else "unknown key"
        return InputError(hint, file=origin, key=key, value=value, allowed=sorted(known))
    if kind == "literal_error":
        allowed = problem.get("ctx", {}).get("expected", "")
        close = nearest(str(value), re.findall(r"'([^']*)'", allowed))
        hint = f"unknown value; did you mean {close}?" if close else "unknown value"
        return InputError(hint, file=origin, key=key, value=value, allowed=allowed)
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "model_type":
        message = "must be a mapping of keys to values"
    message = message[:1].lower() + message[1:]
    return InputError(message, file=origin, key=key, value=value, allowed=_interval(location))


def _in_document(location: tuple[int | str, ...], document: Any) -> list[str]:
    """A location without the tags that pydantic adds for the members of a union."""
    kept: list[str] = []
    for number, part in enumerate(location):
        if part in _keys(document):
            document = document[part]
        elif not isinstance(document, dict) or number + 1 < len(location):
            continue  # a tag; a missing key is the last part of a location, in a mapping
        kept.append(str(part))
    return kept


def _keys(node: Any) -> Iterable[int | str]:
    """What a node of a document can be indexed with."""
    if isinstance(node, dict):
        return node.keys()
    return range(len(node)) if isinstance(node, list) else ()


def _field(location: list[str]) -> FieldInfo | None:
    """The field at a dotted location, or None where the location leaves the sections."""
    section: Any = Experiment
    field = None
    for part in location:
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
        field = section.model_fields.get(part)
        section = None if field is None else field.annotation
    return field


def _known_keys(location: list[str]) -> list[str]:
    """The keys of the section at a dotted location."""
    field = _field(location)
    section = field.annotation if field is not None else None if location else Experiment
    if isinstance(section, type) and issubclass(section, BaseModel):
        return list(section.model_fields)
    return []


def _interval(location: list[str]) -> str | None:
    """The bounds of a number, in words."""
    field = _field(location)
    bounds = () if field is None else field.metadata
    for bound in bounds:
        if isinstance(bound, annotated_types.Interval):
            low = f"above {bound.gt:.10g}" if bound.gt is not None else f"from {bound.ge:.10g}"
            return f"{low} to {bound.le:.10g}"
    return None
