"""A network's workload, read from its own computation: its jaxpr.

    workload = workload_of(network, (32, 32, 3))

No weights are needed (`nnx.eval_shape` builds a network without any) and none are computed with.
What is a layer and what is fused: see `models.jaxpr` and `models.workload_builder`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from costs.errors import InputError
from costs.workload import Workload
from models.jaxpr import BOUNDARY, SCOPE, JaxprReader
from models.jaxpr_layers import calc_shape
from models.jaxpr_values import Activation, Hint, Instruction, Known, Scope
from models.registry import describe
from models.workload_builder import GraphBuilder, Shape, unique

Path = tuple[str | int, ...]


def workload_of(
    network: nnx.Module | Callable[[jax.Array], Any],
    input_shape: Sequence[int],
    *,
    batch: int = 1,
    name: str | None = None,
    call: Callable[[Any, jax.Array], Any] | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    psum_bits: int = 32,
    pooling: str = "layers",
    elementwise: str = "fused",
    dtype: Any = jnp.float32,
) -> Workload:
    """The layers and tensors of a network at inference.

    Args:
        network: A Flax module, with weights or with shapes only, or a function of one array.
        input_shape: Of one input without the batch, usually height, width, channels.
        batch: Inputs per execution.
        name: Of the workload; by default the class or function's.
        call: How to apply the network to an array; by default `network(x)`.
        weight_bits: Width of every weight [bit].
        activation_bits: Width of every tensor between layers [bit].
        psum_bits: Width of partial sums [bit].
        pooling: "layers" makes each pooling a layer of its own, "fused" lets the layer before it
            hand on the pooled tensor.
        elementwise: "fused", or "layers": each combination of equally large tensors is a layer.
        dtype: Of the input.

    Raises:
        InputError: The computation contains a primitive that is not understood; the error names
            it and the module.
    """
    for key, value in (
        ("batch", batch),
        *((f"input_shape[{i}]", n) for i, n in enumerate(input_shape)),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(key=key, value=value, allowed="an integer of at least 1")
    for key, value, allowed in (
        ("pooling", pooling, ("layers", "fused")),
        ("elementwise", elementwise, ("fused", "layers")),
    ):
        if value not in allowed:
            raise InputError(key=key, value=value, allowed=allowed)
    title = name or getattr(network, "__name__", type(network).__name__)
    argument = jax.ShapeDtypeStruct((batch, *input_shape), dtype)
    try:
        closed, paths = _traced(network, argument, call or (lambda net, x: net(x)))
    except InputError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise InputError(
            f"cannot be applied to an input of shape {tuple(input_shape)}: {describe(error)}",
            key=title,
        ) from error
    builder = GraphBuilder(bits=activation_bits, batch=batch)
    reader = JaxprReader(builder, title, weight_bits, psum_bits, pooling, elementwise)
    return read_program(reader, closed, paths).workload


@dataclass(frozen=True)
class Program:
    """A network's computation, replayable, and the workload that it is.

    Attributes:
        workload: Its layers and tensors.
        jaxpr: The whole of it, as it was traced.
        layers: Names of the layers that instructions are part of, by their number.
        instructions: The equations in order of execution.
        constants: Arrays they use, by slot.
        marks: Height, width and channels of every tensor that is marked as a boundary, by name.
        inputs: Slots of the variables and of the input.
        outputs: Slots, or literals.
    """

    workload: Workload
    jaxpr: Any
    layers: list[str]
    instructions: list[Instruction]
    constants: dict[int, Any]
    marks: dict[str, Shape]
    inputs: list[int]
    outputs: list[Any]


def read_program(
    reader: JaxprReader, closed: Any, paths: Sequence[Path], results: int | None = None
) -> Program:
    """Read a jaxpr whose inputs are a network's variables, at these paths, and one array.

    Args:
        reader: A fresh one.
        closed: The jaxpr.
        paths: Of the variables.
        results: How many of the jaxpr's outputs the network hands on; None for all.
    """
    builder = reader.builder
    *variables, source = closed.jaxpr.invars
    shape = calc_shape(source.aval.shape, builder.batch)
    inputs = [Known(frozenset({index}), reader.slot()) for index in range(len(variables))]
    array = Activation(builder.input(shape), slot=reader.slot())
    consts = [reader.constant(value) for value in closed.consts]
    outputs = reader.read(closed.jaxpr, [*inputs, array], consts, Scope())
    for result in outputs[:results]:
        if isinstance(result, Activation):
            builder.output(result.value)
    names = _names(reader.hints, paths, [variable.aval.size for variable in variables])
    return Program(
        workload=builder.finish(reader.network, names),
        jaxpr=closed.jaxpr,
        layers=names,
        instructions=reader.program,
        constants=reader.constants,
        marks=reader.marks,
        inputs=[item.slot for item in (*inputs, array)],
        outputs=[item.slot for item in outputs],
    )


def mark_boundary(x: jax.Array, name: str) -> jax.Array:
    """The same array; in workloads the tensor that holds it crosses the boundary `name`."""
    return checkpoint_name(x, BOUNDARY + name)


def _traced(
    network: Any, argument: jax.ShapeDtypeStruct, call: Callable[[Any, jax.Array], Any]
) -> tuple[Any, list[Path]]:
    """The jaxpr of the network in inference mode and the path of each variable it takes first."""
    if not isinstance(network, nnx.Module):
        return jax.make_jaxpr(lambda x: call(network, x))(argument), []
    graphdef, state = nnx.split(network)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    paths = [tuple(_key(entry) for entry in path if hasattr(entry, "key")) for path, _ in leaves]

    def apply(values: list, x: jax.Array) -> Any:
        copy = nnx.merge(graphdef, jax.tree_util.tree_unflatten(structure, values))
        copy.eval()
        leave_scopes(copy)
        return call(copy, x)

    return jax.make_jaxpr(apply)([value for _, value in leaves], argument), paths


def _key(entry: Any) -> str | int:
    return entry.key


def leave_scopes(network: nnx.Module) -> None:
    """Makes the modules of a copy that is traced leave their paths in the equations they write."""
    for path, module in nnx.iter_modules(network):
        if path and callable(module):
            object.__setattr__(module, "_scope_path", ".".join(str(part) for part in path))
            object.__setattr__(module, "__class__", _scoped_class(type(module)))


@functools.cache
def _scoped_class(cls: type) -> type:
    def scoped_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(SCOPE + self._scope_path):
            return cls.__call__(self, *args, **kwargs)

    return type(cls)(cls.__name__, (cls,), {"__call__": scoped_call, "__module__": cls.__module__})


def _names(hints: Sequence[Hint], paths: Sequence[Path], sizes: Sequence[int]) -> list[str]:
    """A unique name for each layer: its module's path, a named scope, or what it does and a number.

    A layer's module is the one that owns the largest of its weights; weights that share a module
    name their layers by the path of the weight itself.
    """
    owners: list[Path | None] = []
    for hint in hints:
        owners.append(
            paths[max(hint.leaves, key=lambda i: (sizes[i], -i))] if hint.leaves else None
        )
    modules = Counter(owner[:-1] for owner in {owner for owner in owners if owner})
    names: list[str] = []
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    for hint, owner in zip(hints, owners, strict=True):
        if owner is None:
            base = hint.scope.path
            if not hint.scope.named:
                base = f"{base}.{hint.kind}" if base else hint.kind
                counts[base] += 1
                base = f"{base}{counts[base]}"
        else:
            path = owner[:-1] if len(owner) > 1 and modules[owner[:-1]] == 1 else owner
            base = ".".join(str(part) for part in path)
        names.append(unique(base, taken))
    return names
