"""What a checkpoint can hold: trees of arrays and plain values, and their copies on the host.

A tree is nested dicts (string or integer keys), lists and tuples whose leaves are numpy arrays, jax
arrays, typed PRNG keys, strings, booleans, integers, floats or None. Named tuples and other
registered pytrees are refused rather than silently turned into something else: keep
`jax.tree.leaves(state)` and rebuild with `jax.tree.unflatten`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
"""Nested dicts, lists and tuples of arrays and plain values."""

_PLAIN = (str, bool, int, float, type(None))


@dataclass(frozen=True)
class HostTree:
    """A copy of a tree that later (donating) steps cannot touch.

    Attributes:
        skeleton: JSON that describes the structure, plain values in place, arrays by label.
        arrays: The arrays by label, in the order of the tree.
    """

    skeleton: Any
    arrays: dict[str, np.ndarray]

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def digest(self) -> str:
        """SHA-256 of structure and values: equal digests mean bit-identical trees."""
        sha = hashlib.sha256(json.dumps(self.skeleton, sort_keys=True).encode())
        for label, array in self.arrays.items():
            sha.update(label.encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()

    def first_nan(self) -> str | None:
        """The label of the first array with a NaN in it, or None.

        Infinity is a legitimate value (an infeasible table entry); NaN never is.
        """
        for label, array in self.arrays.items():
            if np.issubdtype(array.dtype, np.inexact) and np.isnan(array).any():
                return label
        for label, value in _plain_floats(self.skeleton, ""):
            if value != value:
                return label
        return None


def to_host(tree: Tree) -> HostTree:
    """Copy a tree to the host; numpy leaves are shared, for steps may not write into them."""
    arrays: dict[str, np.ndarray] = {}

    def describe(node: Tree, path: str) -> Any:
        if isinstance(node, _PLAIN):
            return {"value": node}
        if isinstance(node, np.ndarray | np.generic):
            return array_entry(np.asarray(node), "numpy", path)
        if isinstance(node, jax.Array):
            if jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
                kind = f"key:{jax.random.key_impl(node)}"
                return array_entry(np.array(jax.random.key_data(node)), kind, path)
            return array_entry(np.array(node), "jax", path)
        if type(node) is dict:
            if not all(type(key) in (str, int) for key in node):
                raise TypeError(f"state{path}: keys must be strings or integers, got {list(node)}")
            return {"dict": [[key, describe(node[key], f"{path}/{key}")] for key in node]}
        if type(node) in (list, tuple):
            items = [describe(item, f"{path}/{i}") for i, item in enumerate(node)]
            return {type(node).__name__: items}
        raise TypeError(
            f"state{path}: a {type(node).__name__} cannot be checkpointed; "
            "keep its jax.tree.leaves and rebuild it with jax.tree.unflatten"
        )

    def array_entry(array: np.ndarray, kind: str, path: str) -> Any:
        if array.dtype.kind in "OSUmM":
            raise TypeError(f"state{path}: an array of {array.dtype} cannot be checkpointed")
        label = path or "/"
        arrays[label] = array
        return {"array": label, "kind": kind, "dtype": str(array.dtype), "shape": array.shape}

    return HostTree(describe(tree, ""), arrays)


def from_host(host: HostTree) -> Tree:
    """The tree that `to_host` was given: same structure, kinds, dtypes and bits."""

    def build(node: Any) -> Tree:
        (tag, content), *_ = node.items()
        if tag == "value":
            return content
        if tag == "dict":
            return {key: build(item) for key, item in content}
        if tag == "list":
            return [build(item) for item in content]
        if tag == "tuple":
            return tuple(build(item) for item in content)
        return _as_kind(host.arrays[content], node["kind"])

    return build(host.skeleton)


def array_entries(skeleton: Any) -> list[dict[str, Any]]:
    """The descriptions (label, kind, dtype, shape) of all arrays of a skeleton, in order."""
    found: list[dict[str, Any]] = []

    def visit(node: Any) -> None:
        if "array" in node:
            found.append(node)
        for _, item in node.get("dict", ()):
            visit(item)
        for item in (*node.get("list", ()), *node.get("tuple", ())):
            visit(item)

    visit(skeleton)
    return found


def settle(tree: Tree) -> Tree:
    """Make a state indistinguishable from its restored self, and safe to keep a reference to.

    Weakly typed jax scalars become strongly typed (a checkpoint cannot hold the difference, and
    promotion would differ after a resume); numpy arrays become read-only, so that a step that
    writes into the state it was given fails at once instead of tearing a checkpoint.
    """
    return _map_leaves(_settle_leaf, tree)


def _settle_leaf(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        leaf.setflags(write=False)
    elif isinstance(leaf, jax.Array) and getattr(leaf, "weak_type", False):  # keys have none
        return jax.lax.convert_element_type(leaf, leaf.dtype)
    return leaf


def _map_leaves(function: Callable[[Any], Any], tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {key: _map_leaves(function, item) for key, item in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_map_leaves(function, item) for item in tree)
    return function(tree)


def _as_kind(array: np.ndarray, kind: str) -> Any:
    if kind == "numpy":
        return array
    with jax.enable_x64(True):  # or a float64 made under enable_x64 would come back as float32
        value = jax.device_put(array)
        if kind == "jax":
            return value
        return jax.random.wrap_key_data(value, impl=kind.removeprefix("key:"))


def _plain_floats(skeleton: Any, path: str) -> list[tuple[str, float]]:
    if isinstance(skeleton.get("value"), float):
        return [(path or "/", skeleton["value"])]
    children = [*skeleton.get("dict", ())]
    children += enumerate((*skeleton.get("list", ()), *skeleton.get("tuple", ())))
    return [pair for key, item in children for pair in _plain_floats(item, f"{path}/{key}")]
