"""A Flax network made from an architecture: a module for each node with weights, at its path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from models.architecture import Architecture, Node
from models.bottleneck import Bottleneck, Quantiser
from models.crossing_network import CrossingNetwork, Widths, attach, find
from models.norm import BatchNorm, Mode
from models.relax import mix


class KernelDraw:
    """Deals one normal draw out to all kernels, scaled by sqrt(2 / fan-in) (He et al., 2015).

    One draw per kernel would compile the generator once per shape: seconds for a small network.
    """

    def __init__(self, rngs: nnx.Rngs, count: int) -> None:
        """Draw ``count`` numbers."""
        self._draw = jax.random.normal(rngs.params(), (count,))
        self._used = 0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], *_: object) -> jax.Array:
        """The next kernel of this shape, its last axis the outputs."""
        del key
        size = math.prod(shape)
        part = self._draw[self._used : self._used + size]
        self._used += size
        return part.reshape(shape) * math.sqrt(2.0 * shape[-1] / size)


class Network(CrossingNetwork):
    """Runs an architecture. Its layers bear the names of their module paths, in name scopes too."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        """Make fresh weights for an architecture."""
        self.architecture = architecture
        kernels = KernelDraw(rngs, _count_kernel_weights(architecture))
        for node in architecture.nodes:
            module = _module(architecture, node, kernels, rngs)
            if module is not None:
                attach(self, node.name.split("."), module)
        self.boundaries, self.edges = architecture.boundaries, architecture.edges
        norms = {node.name: node.shape[2] for node in architecture.nodes if node.op == "norm"}
        self.modulation = self.make_modulation(norms) if architecture.modulate else None

    @property
    def traced(self) -> nnx.Module:
        """The module that a workload is read off."""
        return self

    def __call__(
        self,
        x: jax.Array,
        widths: Widths | None = None,
        crossing: jax.Array | None = None,
        *,
        mode: Mode = "stored",
    ) -> jax.Array:
        """Logits of a batch, for one design.

        Args:
            x: Images, f32[batch, height, width, channels].
            widths: Integer-valued widths [channels] in 1..C, f32[boundaries], or one mask
                f32[C] per boundary (see ``models.relax``); None where nothing is compressed.
            crossing: 1 where the edge crosses cores, f32[edges], 0 elsewhere; None for nowhere.
            mode: "batch" uses, and records, statistics of this batch; "stored" the recorded ones.

        Returns:
            Logits, f32[batch, classes].
        """
        masks, changes = self.design(widths, crossing)
        values: dict[str, jax.Array] = {}
        for node in self.architecture.nodes:
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                values[node.name] = x
            elif node.op == "bottleneck":
                if crossing is None:  # the mark is what `models.trace` finds boundaries by
                    values[node.name] = checkpoint_name(inputs[0], f"boundary:{node.name}")
                else:
                    module = find(self, node.name)
                    mask = None if masks is None else masks[node.index]
                    values[node.name] = module(inputs[0], mask, changes, mode=mode)
            elif node.op == "gate":
                if crossing is None:
                    values[node.name] = inputs[1]
                else:
                    gate = crossing[node.index]
                    with jax.named_scope(node.name):
                        values[node.name] = mix(gate, inputs[1], inputs[0])
            else:
                with jax.named_scope(node.name):
                    values[node.name] = self.run(node, inputs, changes, mode)
        return values[self.architecture.nodes[-1].name]

    def run(
        self, node: Node, inputs: list[jax.Array], changes: Mapping[str, jax.Array], mode: Mode
    ) -> jax.Array:
        """The output of one node other than the input, a bottleneck or a gate."""
        x = inputs[0]
        match node.op:
            case "conv" | "linear":
                return find(self, node.name)(x)
            case "norm":
                return find(self, node.name)(x, changes.get(node.name), mode=mode)
            case "quantise":
                return find(self, node.name)(x, mode=mode)
            case "relu":
                return jax.nn.relu(x)
            case "add":
                return x + inputs[1]
            case "max_pool":
                window, strides = (1, *node.kernel, 1), (1, *node.stride, 1)
                padding = ((0, 0), *node.padding, (0, 0))
                return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)
            case "subsample":
                x = x[:, :: node.stride[0], :: node.stride[1], :]
                return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, node.shape[2] - x.shape[3])))
            case "mean":
                return jnp.mean(x, (1, 2))
        raise AssertionError(node.op)


def named_modules(net: Network) -> Iterator[tuple[Node, nnx.Module]]:
    """Nodes with weights or statistics, and their modules."""
    for node in net.architecture.nodes:
        if node.op in ("conv", "linear", "norm", "bottleneck", "quantise"):
            yield node, find(net, node.name)


def _module(
    architecture: Architecture,
    node: Node,
    kernel_init: KernelDraw,
    rngs: nnx.Rngs,
) -> nnx.Module | None:
    """A fresh module for a node, None for an operation without state."""
    match node.op:
        case "conv":
            return nnx.Conv(
                architecture.shapes[node.inputs[0]][2],
                node.shape[2],
                node.kernel,
                strides=node.stride,
                padding=node.padding,
                feature_group_count=node.groups,
                use_bias=node.bias,
                kernel_init=kernel_init,
                rngs=rngs,
            )
        case "linear":
            inputs = architecture.shapes[node.inputs[0]][2]
            return nnx.Linear(
                inputs, node.shape[2], use_bias=node.bias, kernel_init=kernel_init, rngs=rngs
            )
        case "norm":
            return BatchNorm(node.shape[2])
        case "quantise":
            return Quantiser(node.bits)
        case "bottleneck":
            return Bottleneck(
                architecture.boundaries[node.index],
                quantise=architecture.quantise,
                kernel_init=kernel_init,
                rngs=rngs,
            )
    return None


def _count_kernel_weights(architecture: Architecture) -> int:
    shapes = architecture.shapes
    count = sum(2 * b.channels * (b.channels - 1) for b in architecture.boundaries)
    for node in architecture.nodes:
        if node.op in ("conv", "linear"):
            inputs = shapes[node.inputs[0]][2] // node.groups
            count += inputs * node.shape[2] * math.prod(node.kernel)
    return count
