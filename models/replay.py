"""Replays a network's computation with crossings at its boundaries.

An equation that is part of a layer sees what that layer's core sees: the boundary's tensor itself
where it stays on a core, and what came out of the crossing elsewhere. An equation that is fused
into whichever layer reads its result (a norm before a convolution) is evaluated for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.core import eval_jaxpr
from jax.extend import core

from models.jaxpr_values import Instruction
from models.trace import Program


@dataclass
class Replay:
    """One evaluation of a program.

    Attributes:
        program: What is evaluated.
        boundaries: Index of each boundary that has a bottleneck, by name.
        edges: Index of each edge by its boundary and the name of the layer that reads it.
        far_side: (edge, tensor, its crossed form on demand) -> what the edge's reader sees.
        cross: (boundary, tensor) -> the tensor as it comes out of a crossing.
    """

    program: Program
    boundaries: Mapping[str, int]
    edges: Mapping[tuple[int, str], int]
    far_side: Callable[[int, jax.Array, Callable[[], jax.Array]], jax.Array]
    cross: Callable[[int, jax.Array], jax.Array]
    _values: dict[tuple[int, tuple[int, ...]], Any] = field(default_factory=dict)
    _reached: dict[int, frozenset[int]] = field(default_factory=dict)
    _makers: dict[int, Instruction] = field(default_factory=dict)
    _marked: dict[int, int] = field(default_factory=dict)
    _crossed: dict[int, jax.Array] = field(default_factory=dict)
    _viewers: dict[int, str | None] = field(default_factory=dict)

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The program's outputs for its variables and input.

        What a norm measures on the way to one layer is what that layer sees; of several readers the
        first one counts.
        """
        self._values |= {(slot, ()): value for slot, value in self.program.constants.items()}
        for slot, value in zip(self.program.inputs, values, strict=True):
            self._values[slot, ()] = value
        for instruction in self.program.instructions:
            self._follow(instruction)
        return [self._value(slot, self._viewer(slot)) for slot in self.program.outputs]

    def _follow(self, instruction: Instruction) -> None:
        reached = frozenset[int]().union(
            *(self._reached.get(slot, ()) for slot in instruction.inputs if isinstance(slot, int))
        )
        owner = instruction.owner
        index = self.boundaries.get(instruction.mark or "")
        if index is not None:
            (slot,) = instruction.outputs
            self._values[slot, ()] = self._value(instruction.inputs[0], None)
            self._reached[slot] = frozenset({index})
            self._marked[slot] = index
        elif owner is not None or not reached:
            name = self.program.layers[owner] if owner is not None and owner >= 0 else None
            self._evaluate(instruction, name, ())
        else:
            for slot in instruction.outputs:
                self._reached[slot] = reached
                self._makers[slot] = instruction

    def _value(self, slot: Any, reader: str | None) -> Any:
        """What a layer sees of a slot."""
        if isinstance(slot, core.Literal):
            return slot.val
        crossings = tuple(
            sorted(
                self.edges[index, reader]
                for index in self._reached.get(slot, ())
                if reader is not None and (index, reader) in self.edges
            )
        )
        if (slot, crossings) not in self._values:
            if slot in self._marked:
                (edge,), plain = crossings, self._values[slot, ()]
                index = self._marked[slot]
                self._values[slot, crossings] = self.far_side(
                    edge, plain, lambda: self._cross(index, plain)
                )
            else:
                self._evaluate(self._makers[slot], reader, crossings)
        return self._values[slot, crossings]

    def _evaluate(
        self, instruction: Instruction, reader: str | None, crossings: tuple[int, ...]
    ) -> None:
        equation = instruction.equation
        inputs = {
            atom: self._value(slot, reader)
            for atom, slot in zip(equation.invars, instruction.inputs, strict=True)
            if not isinstance(atom, core.Literal)
        }
        jaxpr = self.program.jaxpr.replace(
            constvars=[], invars=list(inputs), outvars=equation.outvars, eqns=[equation]
        )
        results = eval_jaxpr(jaxpr, (), *inputs.values())
        for slot, result in zip(instruction.outputs, results, strict=True):
            self._values[slot, crossings] = result
            self._viewers.setdefault(slot, reader)

    def _cross(self, index: int, plain: jax.Array) -> jax.Array:
        if index not in self._crossed:
            self._crossed[index] = self.cross(index, plain)
        return self._crossed[index]

    def _viewer(self, slot: Any) -> str | None:
        """The layer on whose way a slot, or what it is computed from, was evaluated first."""
        pending = [slot]
        while pending:
            slot = pending.pop(0)
            if slot in self._viewers or slot not in self._makers:
                if self._viewers.get(slot) is not None:
                    return self._viewers[slot]
            else:
                pending += [s for s in self._makers[slot].inputs if isinstance(s, int)]
        return None
