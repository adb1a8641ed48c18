"""Bottlenecks for any Flax network, a user's own included: it is traced, and replayed with them.

What a user writes is a module that marks the tensors that may cross cores (`mark_boundary`). The
workload, and with it who reads a boundary's tensor, is read off the same equations that are
replayed, so what is trained is what is costed. The module is called with one batch; dropout is off,
and norms with `use_running_average` (`nnx.BatchNorm`) measure each batch alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from costs.errors import InputError
from costs.workload import Workload
from models.bottleneck import Bottleneck, Boundary, Edge, SlimBottleneck
from models.crossing_network import STATISTICS, CrossingNetwork, Widths, attach, find
from models.jaxpr import JaxprReader
from models.network import KernelDraw
from models.norm import Mode
from models.registry import describe
from models.relax import mix
from models.replay import Replay
from models.sign import never_negative
from models.trace import Program, leave_scopes, read_program
from models.workload_builder import GraphBuilder

BODY = "body"
"""Where a traced network holds the user's module."""

PAIRS = "bottlenecks"
"""Where it holds the pairs, by the names of their boundaries."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, eq=False)
class TracedArchitecture:
    """A user's network with bottlenecks, without weights.

    Attributes:
        make: Makes the user's module from random keys.
        name: The network's name.
        input_shape: (height, width, channels) of an input.
        boundaries: Tensors that may cross cores.
        edges: Their readers.
        quantise: Whether what crosses is quantised.
        modulate: Whether batch norms are told of the design.
        design: Widths and crossing flags of the one design of a slim network; None: any design.
    """

    make: Callable[[nnx.Rngs], nnx.Module]
    name: str
    input_shape: tuple[int, ...]
    boundaries: tuple[Boundary, ...] = ()
    edges: tuple[Edge, ...] = ()
    quantise: bool = True
    modulate: bool = True
    design: tuple[tuple[int, ...], tuple[bool, ...]] | None = None

    def crossed(self) -> list[int]:
        """Indices of the boundaries that a slim network's design lets cross."""
        flags = () if self.design is None else self.design[1]
        return sorted({e.boundary for e, flag in zip(self.edges, flags, strict=True) if flag})

    @cached_property
    def layers(self) -> list[str]:
        """Names of the layers, those included that reach no output."""
        return self.program(jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)).layers

    @cached_property
    def split(self) -> tuple[Any, list[Any], Any, list[tuple[Any, ...]]]:
        """Graph definition, abstract variables, their structure and paths of the user's module."""
        graphdef, state = nnx.split(nnx.eval_shape(lambda: self.make(nnx.Rngs(0))))
        leaves, structure = jax.tree_util.tree_flatten_with_path(state)
        paths = [tuple(entry.key for entry in path if hasattr(entry, "key")) for path, _ in leaves]
        return graphdef, [leaf for _, leaf in leaves], structure, paths

    def program(self, x: Any, mode: Mode = "stored", values: Any = None) -> Program:
        """What the user's module computes on a batch: logits, then its variables afterwards.

        Of x and the variables' values only shape and type count; None: those it is made with.
        """
        graphdef, abstract, structure, paths = self.split
        shapes = [
            jax.ShapeDtypeStruct(value.shape, value.dtype)
            for value in (x, *(abstract if values is None else values))
        ]

        def apply(values: list, x: jax.Array) -> Any:
            copy = nnx.merge(graphdef, jax.tree_util.tree_unflatten(structure, values))
            copy.eval()
            for _, module in nnx.iter_modules(copy):
                if mode == "batch" and hasattr(module, "use_running_average"):
                    # momentum 0: statistics of this batch alone
                    vars(module).update(use_running_average=False, momentum=0.0)
            leave_scopes(copy)
            logits = copy(x)  # pyright: ignore[reportCallIssue]
            return logits, jax.tree.leaves(nnx.split(copy)[1])

        try:
            closed = jax.make_jaxpr(apply)(shapes[1:], shapes[0])
        except InputError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise InputError(
                f"cannot be applied to an input of shape {tuple(x.shape[1:])}: {describe(error)}",
                key=self.name,
            ) from error
        logits = closed.out_avals[0]
        if len(logits.shape) != 2:
            raise InputError(
                "must give one row of logits for each input", key=self.name, value=logits.shape
            )
        reader = JaxprReader(GraphBuilder(batch=x.shape[0]), self.name, pooling="fused")
        program = read_program(reader, closed, paths, results=1)
        for instruction in program.instructions:
            if instruction.equation.primitive.name == "scan" and instruction.owner is not None:
                raise InputError(
                    "layers inside a scan can be costed but not given bottlenecks",
                    key=self.name,
                    value="scan",
                    allowed="the loop written out",
                )
        return program


class TracedNetwork(CrossingNetwork):
    """Runs a user's network with bottlenecks."""

    def __init__(self, architecture: TracedArchitecture, *, rngs: nnx.Rngs) -> None:
        """Make fresh weights: the user's, and those of the pairs."""
        self.architecture = architecture
        self.boundaries, self.edges = architecture.boundaries, architecture.edges
        self.body = architecture.make(rngs)
        kernels = KernelDraw(rngs, sum(2 * b.channels * (b.channels - 1) for b in self.boundaries))
        for index, boundary in enumerate(self.boundaries):
            module = _pair(architecture, index, boundary, kernels, rngs)
            if module is not None:
                attach(self, [PAIRS, *boundary.name.split(".")], module)
        norms = {name: norm.num_features for name, norm in batch_norms(self.body).items()}
        self.modulation = self.make_modulation(norms) if architecture.modulate else None

    @property
    def traced(self) -> nnx.Module:
        """The module that a workload is read off."""
        return self.body

    def __call__(
        self,
        x: jax.Array,
        widths: Widths | None = None,
        crossing: jax.Array | None = None,
        *,
        mode: Mode = "stored",
    ) -> jax.Array:
        """Logits of a batch, for one design; arguments as of ``models.network.Network``."""
        if not isinstance(x.shape[0], int):  # an open batch: each input by itself
            return jax.vmap(lambda one: self(one[None], widths, crossing, mode=mode)[0])(x)
        architecture = self.architecture
        _, _, structure, paths = architecture.split
        values = jax.tree.leaves(nnx.split(self.body)[1])
        program = architecture.program(x, mode, values)
        if mode == "batch" and program.layers != architecture.layers:
            raise InputError(
                "has other layers in training than at inference", key=architecture.name
            )
        masks, changes = self.design(widths, crossing)
        for index, (*module, part) in enumerate(paths):
            change = changes.get(".".join(map(str, (BODY, *module))))
            if change is not None and part in ("scale", "bias"):
                values[index] += change[int(part == "bias")].astype(values[index].dtype)
        fixed = architecture.design

        def cross(index: int, plain: jax.Array) -> jax.Array:
            boundary = self.boundaries[index]
            pixels = plain.reshape(-1, boundary.height, boundary.width, boundary.channels)
            pair = find(self, f"{PAIRS}.{boundary.name}")
            if fixed is None:
                mask = None if masks is None else masks[index]
                restored = pair(pixels, mask, changes, mode=mode)
            else:
                restored = pair(pixels, mode=mode)
            return restored.reshape(plain.shape).astype(plain.dtype)

        def far_side(edge: int, plain: jax.Array, crossed: Callable[[], jax.Array]) -> jax.Array:
            if fixed is not None:
                return crossed() if fixed[1][edge] else plain
            if crossing is None:
                return plain
            return mix(crossing[edge], crossed(), plain)

        replay = Replay(
            program,
            {boundary.name: i for i, boundary in enumerate(self.boundaries)},
            {(edge.boundary, edge.consumer): i for i, edge in enumerate(self.edges)},
            far_side,
            cross,
        )
        logits, *after = replay.run([*values, x])
        if mode == "batch":
            changed = [
                old if slot == source else new
                for old, new, slot, source in zip(
                    jax.tree.leaves(nnx.split(self.body)[1]),
                    after,
                    program.outputs[1:],
                    program.inputs,
                    strict=False,
                )
            ]
            state = jax.tree_util.tree_unflatten(structure, changed)
            nnx.update(self.body, nnx.filter_state(state, STATISTICS))
        return logits


def trace_architecture(
    make: Callable[[nnx.Rngs], nnx.Module],
    *,
    name: str,
    input_shape: Sequence[int],
    bottlenecks: Sequence[str] | Literal["all", "none"] = "all",
    bits: int | Mapping[str, int] = 8,
    quantise: bool = True,
    modulate: bool = True,
) -> tuple[TracedArchitecture, Workload]:
    """A user's network with bottlenecks, and the workload read off the same equations.

    Args:
        make: Makes the module from random keys.
        name: Of the network.
        input_shape: Height, width, channels of one input.
        bottlenecks: Names of marked tensors; "all" means each that is handed on as it is.
        bits: Word length of crossings [bits], one or by boundary.
        quantise: Whether crossings are quantised.
        modulate: Whether batch norms are told of the design.

    Raises:
        InputError: It cannot be traced, or has no such boundary.
    """
    bare = TracedArchitecture(make, name, tuple(input_shape))
    program = bare.program(jax.ShapeDtypeStruct((1, *input_shape), jnp.float32))
    workload = program.workload
    for mark in program.marks:
        if not _NAME.fullmatch(mark):
            raise InputError(
                "name of a boundary", key=name, value=mark, allowed="letters, digits, _, . and -"
            )
    handed_on = {
        mark: [t for t in workload.tensors if t.boundary == mark and t.consumers]
        for mark in program.marks
    }
    whole = [
        mark
        for mark, tensors in handed_on.items()
        if len(tensors) == 1
        and tensors[0].shape == program.marks[mark]
        and tensors[0].producer >= 0
    ]
    chosen = {"all": whole, "none": []}.get(bottlenecks) if isinstance(bottlenecks, str) else None
    chosen = list(bottlenecks) if chosen is None else chosen
    positive = never_negative(program)
    boundaries: list[Boundary] = []
    edges: list[Edge] = []
    for mark in chosen:
        if mark not in program.marks:
            raise InputError("no such boundary", key=name, value=mark, allowed=list(program.marks))
        if mark not in whole:
            raise InputError(
                "its tensor is not handed on from layer to layer as it is",
                key=f"{name}: boundary {mark}",
                value=[tensor.shape for tensor in handed_on[mark]],
                allowed=whole,
            )
        (tensor,) = handed_on[mark]
        height, width, channels = tensor.shape
        producer = workload.layers[tensor.producer].name
        word = bits if isinstance(bits, int) else bits.get(mark, 8)
        rectified = mark in positive
        edges += [Edge(len(boundaries), workload.layers[c].name) for c in tensor.consumers]
        boundaries.append(Boundary(mark, channels, height, width, word, producer, rectified))
    return (
        TracedArchitecture(
            make, name, tuple(input_shape), tuple(boundaries), tuple(edges), quantise, modulate
        ),
        workload,
    )


def batch_norms(body: nnx.Module) -> dict[str, nnx.BatchNorm]:
    """The batch norms with scale and bias of a user's module, by the path in a traced network."""
    return {
        ".".join(map(str, (BODY, *path))): module
        for path, module in nnx.iter_modules(body)
        if isinstance(module, nnx.BatchNorm)
        and module.scale is not None
        and module.bias is not None
    }


def _pair(
    architecture: TracedArchitecture,
    index: int,
    boundary: Boundary,
    kernels: KernelDraw,
    rngs: nnx.Rngs,
) -> nnx.Module | None:
    """The bottleneck of a boundary; None where a design has none."""
    if architecture.design is None:
        return Bottleneck(boundary, quantise=architecture.quantise, kernel_init=kernels, rngs=rngs)
    if index not in architecture.crossed():
        return None
    width = architecture.design[0][index]
    return SlimBottleneck(boundary, width, quantise=architecture.quantise, rngs=rngs)
