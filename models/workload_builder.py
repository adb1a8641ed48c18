"""Builds a workload: which tensor each layer hands on, through additions, views and joins.

Readers of networks (`models.trace`, `models.onnx_workload`) announce layers and elementwise
operations in execution order; the builder decides which tensors exist. The rules:

* an operation on one tensor (or on one concatenation of several) is fused and changes nothing;
* an operation on several tensors is fused into the layer that produced the latest of them, which
  thereby reads the others (as fused operands, unless it reads them anyway) and hands on the result
  instead;
* a smaller operand that comes last (the gate of squeeze-and-excitation) stays a tensor of its own,
  read with the map that it scales by whoever reads that;
* parts of a concatenation stay tensors of their own; disjoint channel slices of one tensor are
  tensors of their own, overlapping ones are one tensor.

Layers whose results never reach an output are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from costs.errors import InputError
from costs.layer import Layer
from costs.workload import NETWORK_INPUT, Tensor, Workload

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A tensor, or a range of its channels [start, stop)."""

    record: int
    channels: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Use:
    """Who reads a part (None: the outside), and whether as an operand fused after the layer."""

    part: Part
    reader: int | None
    fused: bool = False


Value = tuple[Part, ...]
"""What an activation consists of: the tensors, or channels of them, that hold its content."""


@dataclass
class _Record:
    """A tensor some layer may hand on; `sources` is what was fused into it after the layer."""

    producer: int
    shape: Shape
    sources: Value = ()
    boundary: str | None = None


@dataclass
class GraphBuilder:
    """Collects layers and tensors; `finish` returns the workload.

    Attributes:
        bits: Width of every activation [bit].
        batch: Inferences per execution.
    """

    bits: int = 8
    batch: int = 1
    layers: list[Layer] = field(default_factory=list)
    _reads: list[Value] = field(default_factory=list)
    _records: list[_Record] = field(default_factory=list)
    _outputs: list[Part] = field(default_factory=list)
    _dynamic: set[int] = field(default_factory=set)

    def input(self, shape: Shape) -> Value:
        """A tensor that enters the network; shape is height, width, channels."""
        return self._new(NETWORK_INPUT, shape)

    def layer(
        self, layer: Layer, reads: Sequence[Value], shape: Shape, *, dynamic_weights: bool = False
    ) -> Value:
        """Appends a layer that reads values and hands on one tensor of the given shape."""
        self.layers.append(layer)
        self._reads.append(_union(reads))
        if dynamic_weights:
            self._dynamic.add(len(self.layers) - 1)
        return self._new(len(self.layers) - 1, shape)

    def join(self, values: Sequence[Value], sizes: Sequence[int], shape: Shape) -> Value:
        """The elementwise combination of several values, fused where the rules above say.

        Args:
            values: The operands that are activations.
            sizes: Elements of each per inference.
            shape: Of the result.
        """
        parts = _union(values)
        last = max(self._records[part.record].producer for part in parts)
        if last == NETWORK_INPUT or len(set(values)) == 1 or len({p.record for p in parts}) == 1:
            return parts
        elements = math.prod(shape)
        holds_last = [any(self._records[p.record].producer == last for p in v) for v in values]
        if not any(held and size == elements for held, size in zip(holds_last, sizes, strict=True)):
            return parts
        newest = next(p for p in reversed(parts) if self._records[p.record].producer == last)
        known = self._records[newest.record].shape
        return self._new(last, known if math.prod(known) == elements else shape, parts)

    def concatenate(self, values: Sequence[Value]) -> Value:
        """All values side by side: nothing moves, each stays a tensor of its own."""
        return _union(values)

    def channels(self, value: Value, start: int, stop: int, total: int) -> Value:
        """A range of channels of a value that has `total` of them, where that can be followed."""
        if len(value) != 1:
            return value
        (part,) = value
        first, last = part.channels or (0, self._records[part.record].shape[2])
        if last - first != total:
            return value
        return (Part(part.record, (first + start, first + stop)),)

    def resized(self, value: Value, height: int, width: int) -> Value:
        """The tensors at another height and width (pooling fused into their producers).

        What is handed on is then no longer the tensor that was marked as a boundary.
        """
        return self._derived(value, size=(height, width))

    def marked(self, value: Value, boundary: str) -> Value:
        """The same tensors, crossing the named boundary from here on."""
        return self._derived(value, boundary=boundary)

    @property
    def count(self) -> int:
        """Tensors so far, those included that nobody may come to read."""
        return len(self._records)

    def producer(self, value: Value) -> int | None:
        """Number of the layer that hands on all of a value; None where there are several."""
        producers = {self._records[part.record].producer for part in value}
        return producers.pop() if len(producers) == 1 else None

    def output(self, value: Value) -> None:
        """Declares that a value leaves the network."""
        self._outputs.extend(value)

    def finish(self, name: str, names: Sequence[str]) -> Workload:
        """The workload of everything that reaches an output.

        Args:
            name: Of the network.
            names: Of the layers, in order.
        """
        uses, alive = self._live_uses()
        if not alive:
            raise InputError("the network's output passes through no layer", key=name)
        number = {old: new for new, old in enumerate(sorted(alive))}
        number[NETWORK_INPUT] = NETWORK_INPUT
        tensors: list[Tensor] = []
        taken: set[str] = set()
        order = sorted(uses, key=lambda record: (self._records[record].producer, record))
        for index in order:
            record = self._records[index]
            base = "input" if record.producer == NETWORK_INPUT else names[record.producer]
            for channels, users in _merged(uses[index], record.shape[2]):
                shape = (*record.shape[:2], channels)
                readers = {use.reader for use in users}
                whole = {use.reader for use in users if not use.fused}
                tensors.append(
                    Tensor(
                        name=unique(base, taken),
                        producer=number[record.producer],
                        consumers=tuple(sorted(number[r] for r in readers if r is not None)),
                        elements=math.prod(shape),
                        bits=self.bits,
                        shape=shape,
                        boundary=record.boundary,
                        output=None in readers,
                        fused=tuple(sorted(number[r] for r in readers - whole if r is not None)),
                    )
                )
        return Workload(
            name=name,
            layers=tuple(replace(self.layers[old], name=names[old]) for old in sorted(alive)),
            tensors=tuple(tensors),
            batch=self.batch,
            dynamic_weights=frozenset(number[old] for old in self._dynamic & alive),
        )

    def _new(
        self, producer: int, shape: Shape, sources: Value = (), boundary: str | None = None
    ) -> Value:
        self._records.append(_Record(producer, shape, sources, boundary))
        return (Part(len(self._records) - 1),)

    def _derived(
        self, value: Value, size: tuple[int, int] | None = None, boundary: str | None = None
    ) -> Value:
        parts: list[Part] = []
        for part in value:
            record = self._records[part.record]
            height, width = size or record.shape[:2]
            first, last = part.channels or (0, record.shape[2])
            shape = (height, width, last - first)
            kept = None if size else record.boundary
            parts += self._new(record.producer, shape, (part,), boundary or kept)
        return tuple(parts)

    def _live_uses(self) -> tuple[dict[int, list[_Use]], set[int]]:
        """The uses of each tensor that is handed on, and the layers that reach an output."""
        uses: dict[int, list[_Use]] = {}
        alive: set[int] = set()
        reached: set[int] = set()
        pending = [_Use(part, None) for part in self._outputs]
        seen: set[_Use] = set()
        while pending:
            use = pending.pop()
            if use in seen:
                continue
            seen.add(use)
            record = self._records[use.part.record]
            producer = record.producer
            if use.reader != producer:
                uses.setdefault(use.part.record, []).append(use)
            if use.part.record not in reached:
                reached.add(use.part.record)
                pending += [_Use(source, producer, fused=True) for source in record.sources]
            if producer != NETWORK_INPUT and producer not in alive:
                alive.add(producer)
                pending += [_Use(source, producer) for source in self._reads[producer]]
        return uses, alive


def unique(name: str, taken: set[str]) -> str:
    """The name, numbered from `_2` on where it is taken already; the result is then taken too."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def _union(values: Sequence[Value]) -> Value:
    return tuple(dict.fromkeys(part for value in values for part in value))


def _merged(uses: list[_Use], channels: int) -> list[tuple[int, list[_Use]]]:
    """Channel ranges in use, overlapping ones merged: (channels, uses) of each."""
    merged: list[tuple[int, int, list[_Use]]] = []
    for use in sorted(uses, key=lambda use: use.part.channels or (0, channels)):
        start, stop = use.part.channels or (0, channels)
        if merged and start < merged[-1][1]:
            first, last, users = merged.pop()
            merged.append((first, max(last, stop), [*users, use]))
        else:
            merged.append((start, stop, [use]))
    return [(stop - start, users) for start, stop, users in merged]
