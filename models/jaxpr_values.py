"""What a reader of a jaxpr knows of arrays, equations and layers (see `models.jaxpr`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.workload_builder import Value


@dataclass(frozen=True)
class Known:
    """An array known before inference.

    Attributes:
        leaves: Which of the network's variables it depends on.
        slot: Where a replay holds it, or the literal it is.
    """

    leaves: frozenset[int] = frozenset()
    slot: Any = None


@dataclass(frozen=True)
class Activation:
    """An array that depends on the network's input.

    Attributes:
        value: The tensors that hold it.
        padding: Rows of zeros per axis that a padding just before has added (before, after).
        slot: Where a replay holds it.
    """

    value: Value
    padding: tuple[tuple[int, int], ...] = ()
    slot: Any = None


@dataclass(frozen=True)
class Instruction:
    """One equation as it can be replayed, calls that hold layers or marks taken apart.

    Attributes:
        equation: The jaxpr's.
        inputs: Slots, or literals.
        outputs: Slots.
        owner: Number of the layer it is part of; None where it serves whichever layer reads it.
        mark: Name of the boundary that its result is marked as.
    """

    equation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[int, ...]
    owner: int | None = None
    mark: str | None = None


@dataclass(frozen=True)
class Scope:
    """Where an equation was written: a module's path, with `jax.named_scope`s inside it if any."""

    path: str = ""
    named: bool = False


@dataclass(frozen=True)
class Hint:
    """What names a layer: where it stands, the weights it uses, and what it does."""

    scope: Scope
    leaves: frozenset[int]
    kind: str
