"""Reads a jaxpr equation by equation and announces its layers to a graph builder.

What depends on the network's input is an activation; all else (weights, masks, folded norms,
generated kernels) is known before inference and costs nothing here. Arrays are batch first and,
outside convolutions (which name their axes), channels last; pooling over axes 2 and 3 of a
four-dimensional array is taken as channels first.

Out of scope: finding modules and running them (`models.trace`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jax.extend import core

from costs.errors import InputError
from costs.layer import Layer
from models.jaxpr_layers import (
    Found,
    UnsupportedError,
    calc_activation_product,
    calc_convolution,
    calc_product,
    calc_reduction,
    calc_shape,
    calc_window,
)
from models.jaxpr_values import Activation, Hint, Instruction, Known, Scope
from models.primitives import CALLS, ELEMENTWISE, MOVEMENT, REDUCTIONS, WINDOWS
from models.workload_builder import GraphBuilder, Shape, Value

SCOPE = "@"
"""First character of a named scope that holds a module's path."""

BOUNDARY = "boundary:"
"""How names given with `jax.ad_checkpoint.checkpoint_name` begin that mark a boundary."""

_IDENTIFIER = re.compile(r"[\w.]+")

_MAX_SCAN_LENGTH = 1024


@dataclass
class JaxprReader:
    """Reads jaxprs into a builder.

    Attributes:
        builder: Receives layers and tensors.
        network: The network's name, for errors.
        weight_bits: Width of every weight [bit].
        psum_bits: Width of every partial sum [bit].
        pooling: "layers" to make each pooling a layer, "fused" to fuse it into its producer.
        elementwise: "fused", or "layers" to make each combination of equally large tensors a layer.
        hints: What names the layers, one for each, in order.
        program: The equations in order of execution.
        constants: Arrays that the program uses, by slot.
        marks: Height, width and channels of what was marked as a boundary, by its name.
    """

    builder: GraphBuilder
    network: str
    weight_bits: int = 8
    psum_bits: int = 32
    pooling: str = "layers"
    elementwise: str = "fused"
    hints: list[Hint] = field(default_factory=list)
    program: list[Instruction] = field(default_factory=list)
    constants: dict[int, Any] = field(default_factory=dict)
    marks: dict[str, Shape] = field(default_factory=dict)
    _slots: int = 0

    def slot(self) -> int:
        """A new slot."""
        self._slots += 1
        return self._slots - 1

    def constant(self, value: Any) -> Known:
        """An array that is no variable of the network."""
        slot = self.slot()
        self.constants[slot] = value
        return Known(slot=slot)

    def read(self, jaxpr: Any, inputs: Sequence[Any], consts: Sequence[Any], scope: Scope) -> list:
        """Follows the equations of a jaxpr; returns what its outputs are."""
        known = dict(zip(jaxpr.invars, inputs, strict=True))
        known.update(zip(jaxpr.constvars, consts, strict=True))

        def lookup(atom: Any) -> Known | Activation:
            return Known(slot=atom) if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            operands = [lookup(atom) for atom in equation.invars]
            where = _scope(equation, scope)
            first, tensors = len(self.program), self.builder.count
            if any(isinstance(operand, Activation) for operand in operands):
                results = self._equation(equation, operands, where)
            else:
                results = [_union(operands)] * len(equation.outvars)
            grown = self.builder.count > tensors
            if not grown or equation.primitive.name not in CALLS:
                del self.program[first:]
                results = self._record(equation, operands, results, grown)
            known.update(zip(equation.outvars, results, strict=True))
        return [lookup(atom) for atom in jaxpr.outvars]

    def _record(self, equation: Any, operands: list, results: list, grown: bool) -> list:
        """Appends an equation to the program; returns its results in slots of their own.

        A new tensor is the work of the layer that produces it: the layer itself, or what is fused
        after it.
        """
        results = [replace(result, slot=self.slot()) for result in results]
        mark, owner = None, None
        if grown and equation.primitive.name == "name":
            mark = equation.params["name"].removeprefix(BOUNDARY)
        elif grown:
            owner = self.builder.producer(results[0].value)
        inputs, outputs = (tuple(item.slot for item in items) for items in (operands, results))
        self.program.append(Instruction(equation, inputs, outputs, owner, mark))
        return results

    def _equation(self, equation: Any, operands: list, scope: Scope) -> list:
        name = equation.primitive.name
        if name in CALLS:
            return self._call(equation, operands, scope)
        if name == "scan":
            return self._scan(equation, operands, scope)
        if name == "optimization_barrier":
            return operands
        if name == "split":
            return self._split(equation, operands[0])
        return [self._single(name, equation, operands, scope)]

    def _single(self, name: str, equation: Any, operands: list, scope: Scope) -> Activation:
        if name in ELEMENTWISE:
            return self._join(equation, operands, scope)
        if name in MOVEMENT and all(isinstance(o, Known) for o in operands[1:]):
            return Activation(operands[0].value)
        if name == "name":
            mark = equation.params["name"]
            if mark.startswith(BOUNDARY):
                boundary = mark.removeprefix(BOUNDARY)
                if boundary in self.marks:
                    raise InputError(
                        "two tensors are marked as one boundary", key=self.network, value=boundary
                    )
                aval = equation.invars[0].aval
                self.marks[boundary] = calc_shape(aval.shape, self.builder.batch)
                return Activation(self.builder.marked(operands[0].value, boundary))
            return operands[0]
        if name == "slice":
            return self._slice(equation, operands[0])
        if name == "pad" and isinstance(operands[1], Known):
            return _padded(equation, operands[0])
        if name == "concatenate":
            values = [o.value for o in operands if isinstance(o, Activation)]
            return Activation(self.builder.concatenate(values))
        if name in REDUCTIONS:
            return self._reduce(equation, operands[0], scope)
        if name in WINDOWS and isinstance(operands[0], Activation):
            return self._window(equation, operands[0], scope)
        if name == "conv_general_dilated":
            return self._convolution(equation, operands, scope)
        if name == "dot_general":
            return self._product(equation, operands, scope)
        raise self._refused(f"primitive '{name}' is not understood", scope, name)

    def _call(self, equation: Any, operands: list, scope: Scope) -> list:
        params = equation.params
        inner = params.get("jaxpr") or params["call_jaxpr"]
        closed = isinstance(inner, core.ClosedJaxpr)
        consts = [self.constant(value) for value in inner.consts] if closed else []
        jaxpr = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
        return self.read(jaxpr, operands, consts, scope)

    def _scan(self, equation: Any, operands: list, scope: Scope) -> list:
        """Unrolls a loop of known length; a weight shared by its turns counts in each."""
        params = equation.params
        if params["length"] > _MAX_SCAN_LENGTH:
            raise self._refused(f"a scan of {params['length']} turns is too long", scope, "scan")
        body = params["jaxpr"]
        fixed = params["num_consts"]
        carried = fixed + params["num_carry"]
        carry, stacked = operands[fixed:carried], operands[carried:]
        turns: list[list] = []
        for _ in range(params["length"]):
            inputs = [*operands[:fixed], *carry, *stacked]
            results = self.read(body.jaxpr, inputs, [Known() for _ in body.consts], scope)
            carry = results[: params["num_carry"]]
            turns.append(results[params["num_carry"] :])
        return [*carry, *(self._stack(column) for column in zip(*turns, strict=True))]

    def _stack(self, column: Sequence[Known | Activation]) -> Known | Activation:
        values = [item.value for item in column if isinstance(item, Activation)]
        if values:
            return Activation(self.builder.concatenate(values))
        return _union(column)

    def _join(self, equation: Any, operands: list, scope: Scope) -> Activation:
        pairs = [
            (operand.value, math.prod(calc_shape(atom.aval.shape, self.builder.batch)))
            for operand, atom in zip(operands, equation.invars, strict=True)
            if isinstance(operand, Activation)
        ]
        if len(pairs) == 1:
            return Activation(pairs[0][0])
        values, sizes = [value for value, _ in pairs], [size for _, size in pairs]
        shape = calc_shape(equation.outvars[0].aval.shape, self.builder.batch)
        tensors = {part.record for value in values for part in value}
        if self.elementwise == "layers" and len(set(sizes)) == 1 and len(tensors) > 1:
            fields = {
                "N": self.builder.batch,
                "P": shape[0],
                "Q": shape[1],
                "K": shape[2],
                "C": shape[2] * len(values),
                "groups": shape[2],
                "kind": "elementwise",
            }
            hint = Hint(scope, frozenset(), equation.primitive.name)
            return self._layer(Found(fields, shape), values, hint)
        return Activation(self.builder.join(values, sizes, shape))

    def _slice(self, equation: Any, operand: Activation) -> Activation:
        params, shape = equation.params, equation.invars[0].aval.shape
        kept = [(0, size) for size in shape[:-1]]
        bounds = list(zip(params["start_indices"], params["limit_indices"], strict=True))
        strides = params["strides"] or (1,) * len(shape)
        if bounds[:-1] != kept or any(stride != 1 for stride in strides):
            return Activation(operand.value)
        return Activation(self.builder.channels(operand.value, *bounds[-1], shape[-1]))

    def _split(self, equation: Any, operand: Activation) -> list[Activation]:
        shape, sizes = equation.invars[0].aval.shape, equation.params["sizes"]
        if equation.params["axis"] != len(shape) - 1:
            return [Activation(operand.value)] * len(sizes)
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return [
            Activation(self.builder.channels(operand.value, start, start + size, shape[-1]))
            for start, size in zip(starts, sizes, strict=True)
        ]

    def _reduce(self, equation: Any, operand: Activation, scope: Scope) -> Activation:
        found = calc_reduction(equation, self.builder.batch)
        return Activation(operand.value) if found is None else self._pool(found, operand, scope)

    def _window(self, equation: Any, operand: Activation, scope: Scope) -> Activation:
        try:
            found = calc_window(equation, operand.padding)
        except UnsupportedError as error:
            raise self._refused(str(error), scope, equation.primitive.name) from error
        return operand if found is None else self._pool(found, operand, scope)

    def _pool(self, found: Found, operand: Activation, scope: Scope) -> Activation:
        if self.pooling == "fused":
            return Activation(self.builder.resized(operand.value, *found.shape[:2]))
        return self._layer(found, [operand.value], Hint(scope, frozenset(), "pool"))

    def _convolution(self, equation: Any, operands: list, scope: Scope) -> Activation:
        data, kernel = operands
        if isinstance(data, Known):
            reason = "a convolution of known data with an activation as its kernel"
            raise self._refused(reason, scope, equation.primitive.name)
        try:
            found = calc_convolution(equation, data.padding)
        except UnsupportedError as error:
            raise self._refused(str(error), scope, equation.primitive.name) from error
        if isinstance(kernel, Known):
            return self._layer(found, [data.value], Hint(scope, kernel.leaves, "conv"))
        return self._layer(found, [data.value, kernel.value], Hint(scope, frozenset(), "conv"))

    def _product(self, equation: Any, operands: list, scope: Scope) -> Activation:
        left, right = operands
        if isinstance(left, Activation) and isinstance(right, Activation):
            found = calc_activation_product(equation, self.builder.batch)
            hint = Hint(scope, frozenset(), "matmul")
            return self._layer(found, [left.value, right.value], hint)
        data, weights = (0, right) if isinstance(left, Activation) else (1, left)
        found = calc_product(equation, self.builder.batch, data)
        return self._layer(found, [operands[data].value], Hint(scope, weights.leaves, "linear"))

    def _layer(self, found: Found, reads: list[Value], hint: Hint) -> Activation:
        layer = Layer(
            name=f"layer {len(self.hints)}",
            bits_w=self.builder.bits if hint.kind == "matmul" else self.weight_bits,
            bits_i=self.builder.bits,
            bits_o=self.builder.bits,
            bits_psum=self.psum_bits,
            **found.fields,
        )
        self.hints.append(hint)
        dynamic = layer.kind == "conv" and len(reads) > 1
        return Activation(self.builder.layer(layer, reads, found.shape, dynamic_weights=dynamic))

    def _refused(self, reason: str, scope: Scope, primitive: str) -> InputError:
        return InputError(
            reason,
            key=f"{self.network}: module {scope.path}" if scope.path else self.network,
            value=primitive,
            allowed="convolutions, products, pooling, elementwise operations, reshapes, slices"
            " and concatenations",
        )


def _union(items: Sequence[Known | Activation]) -> Known:
    leaves = [item.leaves for item in items if isinstance(item, Known)]
    return Known(frozenset[int]().union(*leaves))


def _padded(equation: Any, operand: Activation) -> Activation:
    """A padding: remembered for the layer that follows if it only adds positions."""
    config = equation.params["padding_config"]
    if any(low < 0 or high < 0 or interior for low, high, interior in config):
        return Activation(operand.value)
    before = operand.padding or ((0, 0),) * len(config)
    padding = tuple(
        (int(low) + old[0], int(high) + old[1])
        for (low, high, _), old in zip(config, before, strict=True)
    )
    return Activation(operand.value, padding)


def _scope(equation: Any, outer: Scope) -> Scope:
    """The innermost module an equation was written in, and the named scopes inside that."""
    found = outer
    for entry in equation.source_info.name_stack.stack:
        name = getattr(entry, "name", "")
        if name.startswith(SCOPE):
            found = Scope(name.removeprefix(SCOPE))
        elif type(entry).__name__ == "Scope" and _IDENTIFIER.fullmatch(name):
            # not a transformation such as vmap, nor an einsum, whose name is its formula
            found = Scope(f"{found.path}.{name}" if found.path else name, named=True)
    return found
