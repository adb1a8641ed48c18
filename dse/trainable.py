"""Any Flax network, shipped or a user's own, as pure functions of plain arrays.

What `models.functional` is to networks with bottlenecks. Parameters are a flat dictionary by path;
all else a network keeps (statistics, random streams) is a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dse.data import Split
from dse.training import cross_entropy
from models.network import Network

Params = dict[str, jax.Array]
Prepare = Callable[[nnx.Module], Any]

EVALUATION_BATCH = 500  # pictures at once


class Trainable:
    """`init` and `apply` of a network."""

    def __init__(self, make: Callable[[nnx.Rngs], nnx.Module]) -> None:
        """Bind what makes the network from random keys."""
        self.make = make

    @cached_property
    def abstract(self) -> nnx.Module:
        """The network with shapes in place of arrays."""
        return nnx.eval_shape(lambda: self.make(nnx.Rngs(0)))

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any, list[str]]:
        """Graph, structures of parameters and of the rest, paths of the parameters."""
        graph, params, rest = nnx.split(self.abstract, nnx.Param, ...)
        leaves, structure = jax.tree_util.tree_flatten_with_path(nnx.as_pure(params))
        names = [".".join(str(entry.key) for entry in path) for path, _ in leaves]
        return graph, structure, jax.tree.structure(nnx.as_pure(rest)), names

    def init(self, key: jax.Array) -> tuple[Params, list[jax.Array]]:
        """Fresh (parameters, rest)."""
        return self._init(key)

    def init_rest(self, key: jax.Array) -> list[jax.Array]:
        """The fresh rest alone; no weights are drawn."""
        return jax.jit(lambda key: self._leaves(self.make(nnx.Rngs(key)))[1])(key)

    @cached_property
    def _init(self) -> Callable[[jax.Array], tuple[Params, list[jax.Array]]]:
        return jax.jit(lambda key: self._leaves(self.make(nnx.Rngs(key))))

    def network(self, params: Params, rest: Sequence[jax.Array]) -> Any:
        """The network that holds these arrays."""
        graph, structure, others, names = self._parts
        held = jax.tree.unflatten(structure, [params[name] for name in names])
        return nnx.merge(graph, held, jax.tree.unflatten(others, list(rest)))

    def apply(
        self,
        params: Params,
        rest: Sequence[jax.Array],
        x: jax.Array,
        *,
        train: bool,
        prepare: Prepare | None = None,
    ) -> tuple[jax.Array, list[jax.Array]]:
        """(logits f32[batch, classes], rest after it).

        Args:
            params: Parameters.
            rest: All else.
            x: Pictures f32[batch, height, width, channels].
            train: Whether norms use the batch's statistics and dropout drops.
            prepare: Is called with the network before.
        """
        net = self.network(params, rest)
        if prepare is not None:
            prepare(net)
        if isinstance(net, Network):
            logits = net(x, mode="batch" if train else "stored")
        else:
            net.train() if train else net.eval()
            logits = net(x)
        return logits, self._leaves(net)[1]

    def measure(
        self,
        params: Params,
        rest: Sequence[jax.Array],
        x: jax.Array,
        prepare: Prepare | None = None,
    ) -> list[jax.Array]:
        """The rest with statistics of these pictures where norms keep no running ones."""
        if not isinstance(self.abstract, Network):
            return list(rest)
        return self.apply(params, rest, x, train=True, prepare=prepare)[1]

    def flatten(self, params: Params, rest: Sequence[jax.Array]) -> dict[str, np.ndarray]:
        """Both as one dictionary; random streams, which inference does not need, are left out."""
        kept = {
            f"rest/{number:04d}": np.asarray(value)
            for number, value in enumerate(rest)
            if not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        }
        return {f"params/{name}": np.asarray(value) for name, value in params.items()} | kept

    def unflatten(self, arrays: Mapping[str, np.ndarray]) -> tuple[Params, list[jax.Array]]:
        """(parameters, rest) from what `flatten` gave."""
        params = {
            name.removeprefix("params/"): jnp.asarray(value)
            for name, value in arrays.items()
            if name.startswith("params/")
        }
        fresh = self.init_rest(jax.random.key(0))
        return params, [
            jnp.asarray(arrays[name]) if (name := f"rest/{number:04d}") in arrays else value
            for number, value in enumerate(fresh)
        ]

    def evaluate(
        self,
        params: Params,
        rest: Sequence[jax.Array],
        calibration: Any,
        split: Split,
    ) -> tuple[int, float]:
        """(correct predictions, mean cross-entropy [nat]) on a split.

        Args:
            params: Parameters.
            rest: All else.
            calibration: Training pictures on which norms take their statistics.
            split: Pictures and labels.
        """
        rest = self._measure(params, rest, calibration)
        correct, loss = 0, 0.0
        for start in range(0, len(split), EVALUATION_BATCH):
            stop = min(start + EVALUATION_BATCH, len(split))
            labels = split.labels[start:stop]
            found = self._predict(params, rest, split.inputs(start, stop), labels)
            correct += int(found[0])
            loss += float(found[1]) * len(labels)
        return correct, loss / len(split)

    @cached_property
    def _measure(self) -> Callable[..., list[jax.Array]]:
        return jax.jit(self.measure)

    @cached_property
    def _predict(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        def predict(params: Params, rest: Any, x: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
            logits, _ = self.apply(params, rest, x, train=False)
            return jnp.sum(jnp.argmax(logits, -1) == labels), cross_entropy(logits, labels)

        return jax.jit(predict)

    def _leaves(self, net: nnx.Module) -> tuple[Params, list[jax.Array]]:
        _, params, rest = nnx.split(net, nnx.Param, ...)
        leaves = jax.tree.leaves(nnx.as_pure(params))
        return dict(zip(self._parts[3], leaves, strict=True)), jax.tree.leaves(nnx.as_pure(rest))
