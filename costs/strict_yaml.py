"""YAML read strictly: no duplicate keys, no aliases, YAML 1.2 numbers and booleans, bounded size.

PyYAML by itself reads ``1e-3`` as a string, ``no`` as false and ``010`` as 8, keeps the last of two
equal keys, and expands an alias bomb. Every failure here is one `InputError` naming file and line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from costs.errors import InputError

MAX_BYTES = 1_000_000
"""Largest accepted document [bytes]."""

MAX_DEPTH = 32
"""Deepest accepted nesting of mappings and sequences."""

# YAML 1.2 core schema, https://yaml.org/spec/1.2.2/#1032-tag-resolution
_RESOLVERS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
)
_MAX_INT_DIGITS = 40


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars that refuses anchors, duplicate keys and deep nesting."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    depth = 0
    last_key_wins = False

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse anchors and aliases, and count the nesting, before a node is built."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _problem("anchors and aliases are not allowed", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _problem(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_strict_mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        """A mapping of distinct string keys.

        A plain scalar such as ``1`` or ``true`` used as a key is taken by its text.
        """
        result: dict[str, Any] = {}
        if not isinstance(node, yaml.MappingNode):
            raise _problem("expected a mapping", node.start_mark)
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must be a plain word", key_node.start_mark)
            key = key_node.value
            if key in result and not self.last_key_wins:
                raise _problem(f"duplicate key {key!r}", key_node.start_mark)
            result[key] = self.construct_object(value_node, deep=True)
        return result

    def construct_strict_int(self, node: yaml.ScalarNode) -> int:
        """A decimal, 0o or 0x integer; ``010`` is ten."""
        text = str(self.construct_scalar(node))
        if len(text) > _MAX_INT_DIGITS:
            raise _problem("integer with too many digits", node.start_mark)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        try:
            return int(text[2:] if base != 10 else text, base)
        except ValueError as error:
            raise _problem(f"not an integer: {text!r}", node.start_mark) from error

    def construct_strict_float(self, node: yaml.ScalarNode) -> float:
        """A decimal number, infinity or not-a-number."""
        text = str(self.construct_scalar(node)).lower()
        if text.lstrip("+-") in (".inf", ".nan"):
            return float(text.replace(".", ""))
        try:
            return float(text)
        except ValueError as error:
            raise _problem(f"not a number: {text!r}", node.start_mark) from error

    def construct_strict_bool(self, node: yaml.ScalarNode) -> bool:
        """True or false, nothing else."""
        text = str(self.construct_scalar(node)).lower()
        if text not in ("true", "false"):
            raise _problem(f"not a boolean: {text!r}", node.start_mark)
        return text == "true"

    def construct_strict_sequence(self, node: yaml.SequenceNode) -> list[Any]:
        """A list."""
        if not isinstance(node, yaml.SequenceNode):
            raise _problem("expected a list", node.start_mark)
        return [self.construct_object(item, deep=True) for item in node.value]


for _tag, _pattern, _first in _RESOLVERS:
    _StrictLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
# only these tags: dates, binary, sets and anything naming a Python object are refused
_StrictLoader.yaml_constructors = {
    None: yaml.SafeLoader.construct_undefined,
    "tag:yaml.org,2002:null": yaml.SafeLoader.construct_yaml_null,
    "tag:yaml.org,2002:str": yaml.SafeLoader.construct_scalar,
    "tag:yaml.org,2002:bool": _StrictLoader.construct_strict_bool,
    "tag:yaml.org,2002:int": _StrictLoader.construct_strict_int,
    "tag:yaml.org,2002:float": _StrictLoader.construct_strict_float,
    "tag:yaml.org,2002:seq": _StrictLoader.construct_strict_sequence,
    "tag:yaml.org,2002:map": _StrictLoader.construct_strict_mapping,
}


class _StrictDumper(yaml.SafeDumper):
    """SafeDumper that quotes what the strict loader would misread and writes no aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """Write a repeated object out in full each time."""
        return True


for _tag, _pattern, _first in _RESOLVERS:
    _StrictDumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def load(path: str | os.PathLike[str], *, last_key_wins: bool = False) -> Any:
    """The document in a file.

    Args:
        path: file to read, UTF-8, at most `MAX_BYTES` bytes.
        last_key_wins: accept duplicate keys as other tools do; only for their files.

    Returns:
        Dicts with string keys, lists, strings, ints, floats, bools and None.

    Raises:
        InputError: naming file and line, for whatever is wrong with file or document.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    if len(data) > MAX_BYTES:
        raise InputError("file too large", file=path, allowed=f"at most {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text at byte {error.start}", file=path) from error
    return loads(text, file=path, last_key_wins=last_key_wins)


def loads(text: str, file: object = None, *, last_key_wins: bool = False) -> Any:
    """The document in a text; `file` is what errors name as its origin.

    Args:
        text: YAML.
        file: named in errors.
        last_key_wins: accept duplicate keys as other tools do; only for their files.

    Raises:
        InputError: naming file and line, for whatever is wrong with the document.
    """
    if len(text) > MAX_BYTES:
        raise InputError("text too large", file=file, allowed=f"at most {MAX_BYTES} characters")
    try:
        loader = _StrictLoader(text)
        loader.last_key_wins = last_key_wins
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not valid YAML"
        line = None if mark is None else mark.line + 1
        raise InputError(problem, file=file, line=line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError("control character in text", file=file, line=line) from error
    except RecursionError as error:
        raise InputError("nested too deeply", file=file) from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets an impossible escape such as "\\UFFFFFFFF" through to chr()
        raise InputError(f"not valid YAML: {error}", file=file) from error


def dumps(data: Any) -> str:
    """Text that `loads` reads back as equal data, keys in their given order."""
    return yaml.dump(
        data, Dumper=_StrictDumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


def dump(data: Any, path: str | os.PathLike[str]) -> None:
    """Write `dumps(data)` to a file."""
    Path(path).write_text(dumps(data), encoding="utf-8")


def _problem(text: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)
