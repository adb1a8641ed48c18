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

from models.architecture import Architecture
from models.bottleneck import Boundary, Edge
from models.network import Network, Widths
from models.norm import Mode, Statistic

Flat = dict[str, jax.Array]


@dataclass(frozen=True)
class Functional:
    """``init`` and ``apply`` of a network.

    Attributes:
        make: Makes the network from random keys.
    """

    make: Callable[[nnx.Rngs], Network]

    @classmethod
    def from_architecture(cls, architecture: Architecture) -> Functional:
        """The functions of an architecture's network."""
        return cls(lambda rngs: Network(architecture, rngs=rngs))

    @cached_property
    def abstract(self) -> Network:
        """The network with shapes in place of arrays."""
        return nnx.eval_shape(lambda: self.make(nnx.Rngs(0)))

    @cached_property
    def _graphdef(self) -> nnx.GraphDef[Network]:
        return nnx.split(self.abstract, nnx.Param, Statistic)[0]

    @property
    def architecture(self) -> Architecture:
        """The network's architecture."""
        return self.abstract.architecture

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Tensors that may cross cores."""
        return self.architecture.boundaries

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Readers of those tensors."""
        return self.architecture.edges

    def init(self, key: jax.Array) -> tuple[Flat, Flat]:
        """Fresh (parameters, statistics)."""
        return self._jitted_init(key)

    @cached_property
    def _jitted_init(self) -> Callable[[jax.Array], tuple[Flat, Flat]]:
        return jax.jit(lambda key: split_flat(self.make(nnx.Rngs(key))))

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
        net = nnx.merge(self._graphdef, _nested(params), _nested(stats))
        logits = net(x, widths, crossing, mode=mode)
        return logits, _flat(nnx.state(net, Statistic))

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

    def network(self, params: Flat, stats: Flat) -> Network:
        """The Flax network that holds these arrays."""
        return nnx.merge(self._graphdef, _nested(params), _nested(stats))


def split_flat(net: nnx.Module) -> tuple[Flat, Flat]:
    """(parameters, statistics) of a network."""
    return _flat(nnx.state(net, nnx.Param)), _flat(nnx.state(net, Statistic))


def count_parameters(params: Flat) -> int:
    """Number of trained scalars."""
    return sum(value.size for value in params.values())


def _flat(state: nnx.State) -> Flat:
    return {
        ".".join(str(part) for part in path): variable[...]
        for path, variable in nnx.to_flat_state(state)
    }


def _nested(flat: Flat) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        branch = tree
        for part in parents:
            branch = branch.setdefault(part, {})
        branch[leaf] = value
    return tree
