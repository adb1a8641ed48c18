"""A Flax NNX network as pure functions of plain dictionaries: the only place with NNX plumbing.

Parameters and statistics are flat dictionaries from module path to array, with keys such as
``stage1.block0.conv1.kernel``, which orbax and safetensors take as they are and plain ``jax.jit``
carries cheaply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
from flax import nnx
from jax.core import Tracer

from costs.errors import InputError
from models.architecture import Architecture
from models.bottleneck import Boundary, Edge
from models.crossing_network import STATISTICS, Widths
from models.network import Network
from models.norm import Mode
from models.traced_network import TracedArchitecture, TracedNetwork

Flat = dict[str, jax.Array]
AnyArchitecture = Architecture | TracedArchitecture
AnyNetwork = Network | TracedNetwork


@dataclass(frozen=True)
class Functional:
    """``init`` and ``apply`` of a network.

    Attributes:
        make: Makes the network from random keys.
    """

    make: Callable[[nnx.Rngs], AnyNetwork]

    @classmethod
    def from_architecture(cls, architecture: AnyArchitecture) -> Functional:
        """The functions of an architecture's network."""
        if isinstance(architecture, Architecture):
            return cls(lambda rngs: Network(architecture, rngs=rngs))
        return cls(lambda rngs: TracedNetwork(architecture, rngs=rngs))

    @cached_property
    def abstract(self) -> AnyNetwork:
        """The network with shapes in place of arrays."""
        return nnx.eval_shape(lambda: self.make(nnx.Rngs(0)))

    @cached_property
    def _parts(self) -> tuple[Any, ...]:
        """Graph definition, parameters, statistics and the rest (random keys), abstract."""
        return nnx.split(self.abstract, nnx.Param, STATISTICS, ...)

    @cached_property
    def architecture(self) -> AnyArchitecture:
        """The network's architecture."""
        return self.abstract.architecture

    @property
    def operations(self) -> Architecture:
        """The same of a network that is a list of operations; a traced one is none."""
        architecture = self.architecture
        if isinstance(architecture, Architecture):
            return architecture
        raise InputError("is not a list of operations", key=architecture.name)

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Tensors that may cross cores."""
        return self.abstract.boundaries

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Readers of those tensors."""
        return self.abstract.edges

    def init(self, key: jax.Array) -> tuple[Flat, Flat]:
        """Fresh (parameters, statistics)."""
        if isinstance(key, Tracer):  # asked for shapes only
            return split_flat(self.make(nnx.Rngs(key)))
        return self._jitted_init(key)

    @cached_property
    def _jitted_init(self) -> Callable[[jax.Array], tuple[Flat, Flat]]:
        # a user's initializers compile one draw for each shape, for seconds each when optimized
        traced = isinstance(self.architecture, TracedArchitecture)
        options = {"xla_backend_optimization_level": 0} if traced else None
        return jax.jit(lambda key: split_flat(self.make(nnx.Rngs(key))), compiler_options=options)

    def apply(
        self,
        params: Flat,
        stats: Flat,
        x: jax.Array,
        widths: Widths | None = None,
        crossing: jax.Array | None = None,
        mode: Mode = "stored",
    ) -> tuple[jax.Array, Flat]:
        """(logits f32[batch, classes], statistics), as ``Network.__call__``.

        In mode "batch" the returned statistics are those of this batch alone (where a tensor was
        not computed, as before); averaging them is the caller's business.
        """
        net = self.network(params, stats)
        logits = net(x, widths, crossing, mode=mode)
        return logits, _flat(nnx.state(net, STATISTICS))

    @cached_property
    def _jitted_measure(self) -> Callable[..., Flat]:
        def measure(*arguments: Any) -> Flat:
            return self.apply(*arguments, mode="batch")[1]

        return jax.jit(measure)

    def measure(
        self,
        params: Flat,
        stats: Flat,
        x: jax.Array,
        widths: Widths | None = None,
        crossing: jax.Array | None = None,
    ) -> Flat:
        """The statistics of one batch for one design, compiled once per shape."""
        return self._jitted_measure(params, stats, x, widths, crossing)

    def network(self, params: Flat, stats: Flat) -> AnyNetwork:
        """The Flax network that holds these arrays; the rest of its state has shapes only."""
        graphdef, abstract_params, abstract_stats, rest = self._parts
        return nnx.merge(
            graphdef, _filled(abstract_params, params), _filled(abstract_stats, stats), rest
        )


def split_flat(net: nnx.Module) -> tuple[Flat, Flat]:
    """(parameters, statistics) of a network."""
    return _flat(nnx.state(net, nnx.Param)), _flat(nnx.state(net, STATISTICS))


def count_parameters(params: Flat) -> int:
    """Number of trained scalars."""
    return sum(value.size for value in params.values())


def _flat(state: nnx.State) -> Flat:
    return {
        ".".join(str(part) for part in path): variable[...]
        for path, variable in nnx.to_flat_state(state)
    }


def _filled(state: nnx.State, flat: Flat) -> nnx.State:
    """An abstract state with these arrays in it."""
    arrays = []
    for path, variable in nnx.to_flat_state(state):
        name = ".".join(str(part) for part in path)
        arrays.append((path, variable.replace(flat[name])))
    return nnx.from_flat_state(arrays)
