"""Slimming: the network of one design with its closed channels really removed.

Pairs stand only where a boundary crosses narrower than its channels; modulation is frozen and
folded into scale and bias. The result is a network again, made of conv, norm, relu, quantise, add,
max_pool, subsample, mean and linear; ``fold_norms`` removes the norms too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from costs.errors import InputError
from models.architecture import Architecture, Node
from models.bottleneck import Boundary
from models.functional import AnyArchitecture, Flat, Functional
from models.norm import fold_affine
from models.traced_network import TracedNetwork
from models.traced_slim import slim_traced


def slim(
    net: Functional,
    params: Flat,
    stats: Flat,
    widths: Sequence[int],
    crossing: Sequence[bool],
) -> tuple[Functional, Flat, Flat]:
    """The network of one design.

    Args:
        net: A network with boundaries.
        params: Its parameters.
        stats: Its statistics, recalibrated for this design.
        widths: Integer width [channels] of each boundary.
        crossing: Whether each edge crosses cores.

    Returns:
        The slim network, its parameters and its statistics; outputs equal those of ``net`` for the
        design up to the order of summation.
    """
    architecture = net.architecture
    check_design(architecture, widths, crossing)
    if not isinstance(architecture, Architecture):
        network = net.network(params, stats)
        assert isinstance(network, TracedNetwork)
        traced, kept, measured = slim_traced(network, params, stats, widths, crossing)
        return Functional.from_architecture(traced), kept, measured
    slimmed = slim_architecture(architecture, widths, crossing)
    _, changes = net.network(params, stats).design(
        jnp.asarray(widths, jnp.float32), jnp.asarray(crossing, jnp.float32)
    )
    old_params, old_stats = _on_host(params), _on_host(stats)
    open_channels = {
        f"{boundary.name}.{part}": width
        for boundary, width in zip(architecture.boundaries, widths, strict=True)
        for part in ("reduce", "reduce_norm", "expand")
    }
    new_params: dict[str, np.ndarray] = {}
    new_stats: dict[str, np.ndarray] = {}
    for node in slimmed.nodes:
        width = open_channels.get(node.name)
        if node.op in ("conv", "linear"):
            kernel = old_params[f"{node.name}.kernel"]
            if width is not None:
                kernel = kernel[..., :width] if _ends(node, "reduce") else kernel[..., :width, :]
            new_params[f"{node.name}.kernel"] = kernel
            if node.bias:
                new_params[f"{node.name}.bias"] = old_params[f"{node.name}.bias"]
        elif node.op == "norm":
            change = np.asarray(changes.get(node.name, np.zeros((2, 1), np.float32)))
            for key, added in zip(("scale", "bias"), change, strict=True):
                new_params[f"{node.name}.{key}"] = (old_params[f"{node.name}.{key}"] + added)[
                    :width
                ]
            for key in ("mean", "var"):
                new_stats[f"{node.name}.{key}"] = old_stats[f"{node.name}.{key}"][:width]
        elif node.op == "quantise":
            new_stats[f"{node.name}.range"] = old_stats[f"{node.name}.range"]
    return Functional.from_architecture(slimmed), _on_device(new_params), _on_device(new_stats)


def slim_architecture(
    architecture: Architecture, widths: Sequence[int], crossing: Sequence[bool]
) -> Architecture:
    """The operations of one design: no gates, pairs only where they are needed."""
    crossed = {
        edge.boundary for edge, crosses in zip(architecture.edges, crossing, strict=True) if crosses
    }
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    for node in architecture.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if node.op == "gate":
            renamed[node.name] = inputs[1] if crossing[node.index] else inputs[0]
        elif node.op == "bottleneck":
            if node.index in crossed:
                boundary = architecture.boundaries[node.index]
                added = _crossing(boundary, inputs[0], widths[node.index], architecture.quantise)
                nodes += added
                renamed[node.name] = added[-1].name if added else inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    return Architecture(tuple(nodes), quantise=architecture.quantise, modulate=False)


def fold_norms(net: Functional, params: Flat, stats: Flat) -> tuple[Functional, Flat, Flat]:
    """The same function with every norm that follows a convolution folded into kernel and bias.

    Args:
        net: A slim network (no gates, no modulation).
        params: Its parameters.
        stats: Its statistics.

    Returns:
        The network without those norms, its parameters and the statistics that are left; a traced
        network's pairs have no norms when slim, and its own are not touched.
    """
    if not isinstance(net.architecture, Architecture):
        return net, params, stats
    nodes = {node.name: node for node in net.architecture.nodes}
    readers: dict[str, int] = {}
    for node in nodes.values():
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    folded: dict[str, str] = {}
    weights, measured = _on_host(params), _on_host(stats)
    for norm in net.architecture.nodes:
        if norm.op != "norm":
            continue
        conv = nodes[norm.inputs[0]]
        if conv.op != "conv" or readers[conv.name] > 1:
            continue
        factor, offset = fold_affine(
            weights.pop(f"{norm.name}.scale"),
            weights.pop(f"{norm.name}.bias"),
            measured.pop(f"{norm.name}.mean"),
            measured.pop(f"{norm.name}.var"),
        )
        weights[f"{conv.name}.kernel"] = weights[f"{conv.name}.kernel"] * factor
        if conv.bias:
            offset = offset + weights[f"{conv.name}.bias"] * factor
        weights[f"{conv.name}.bias"] = offset
        nodes[conv.name] = replace(conv, bias=True)
        folded[norm.name] = conv.name
    kept = tuple(
        replace(node, inputs=tuple(folded.get(name, name) for name in node.inputs))
        for node in nodes.values()
        if node.name not in folded
    )
    architecture = replace(net.architecture, nodes=kept)
    return Functional.from_architecture(architecture), _on_device(weights), _on_device(measured)


def recalibrate(
    net: Functional,
    params: Flat,
    stats: Flat,
    batches: Iterable[jax.Array],
    widths: jax.Array | None = None,
    crossing: jax.Array | None = None,
) -> Flat:
    """Statistics of one design on a fixed set of pictures.

    Each batch is normalised by its own statistics. Means and variances are those of the pooled
    batches (of equal size), ranges the largest seen.

    Args:
        net: The network.
        params: Its parameters.
        stats: Any statistics of the right shapes; those of tensors not computed are kept.
        batches: Pictures, f32[batch, height, width, channels] each.
        widths: Widths [channels], f32[boundaries].
        crossing: Crossing flags, f32[edges].

    Returns:
        The statistics.
    """
    measured = [net.measure(params, stats, batch, widths, crossing) for batch in batches]
    if not measured:
        raise InputError("no pictures to take the statistics of a design from")
    pooled: Flat = {}
    for name in measured[0]:
        last = measured[-1][name]
        if not jnp.issubdtype(last.dtype, jnp.floating):
            pooled[name] = last  # what a user's module counts
            continue
        values = np.stack([np.asarray(one[name], np.float64) for one in measured])
        if name.endswith(".range"):
            value = values.max(0)
        elif name.endswith(".var") and name.removesuffix("var") + "mean" in measured[0]:
            means = [np.asarray(one[name.removesuffix("var") + "mean"]) for one in measured]
            value = values.mean(0) + np.var(np.stack(means).astype(np.float64), 0)
        else:
            value = values.mean(0)
        pooled[name] = jnp.asarray(value, jnp.float32)
    return pooled


def check_design(
    architecture: AnyArchitecture, widths: Sequence[int], crossing: Sequence[bool]
) -> None:
    """Refuse widths outside 1..channels and lists of the wrong length."""
    boundaries, edges = architecture.boundaries, architecture.edges
    if len(widths) != len(boundaries):
        raise InputError("one width per boundary", value=len(widths), allowed=len(boundaries))
    if len(crossing) != len(edges):
        raise InputError("one flag per edge", value=len(crossing), allowed=len(edges))
    for boundary, width in zip(boundaries, widths, strict=True):
        if not 1 <= width <= boundary.channels or width != int(width):
            allowed = f"1..{boundary.channels}, integers"
            raise InputError(
                "width of a bottleneck", key=boundary.name, value=width, allowed=allowed
            )


def _crossing(boundary: Boundary, source: str, width: int, quantise: bool) -> list[Node]:
    """What a tensor goes through on its way to another core; the last node is the far side."""
    name, full = boundary.name, (boundary.height, boundary.width, boundary.channels)
    narrow = (boundary.height, boundary.width, int(width))
    if width >= boundary.channels:
        if quantise:
            return [Node(f"{name}.plain", "quantise", (source,), full, bits=boundary.bits)]
        return []
    nodes = [
        Node(f"{name}.reduce", "conv", (source,), narrow),
        Node(f"{name}.reduce_norm", "norm", (f"{name}.reduce",), narrow),
    ]
    if quantise:
        code = Node(f"{name}.code", "quantise", (nodes[-1].name,), narrow, bits=boundary.bits)
        nodes.append(code)
    nodes += [
        Node(f"{name}.expand", "conv", (nodes[-1].name,), full),
        Node(f"{name}.expand_norm", "norm", (f"{name}.expand",), full),
    ]
    if boundary.rectified:
        nodes.append(Node(f"{name}.relu", "relu", (f"{name}.expand_norm",), full))
    return nodes


def _ends(node: Node, part: str) -> bool:
    return node.name.rpartition(".")[2] == part


def _on_host(flat: Flat) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in flat.items()}


def _on_device(flat: dict[str, np.ndarray]) -> Flat:
    return {name: jnp.asarray(value) for name, value in flat.items()}
