"""What all networks with bottlenecks share: boundaries, their readers, and what a design means."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from models.bottleneck import Boundary, Edge
from models.norm import Modulation, calc_design_features
from models.relax import prefix_mask

Widths = jax.Array | Sequence[jax.Array]

STATISTICS = nnx.Not(nnx.Any(nnx.Param, nnx.RngState))
"""What a network measures, or holds beside its parameters."""


class CrossingNetwork(nnx.Module):
    """A network whose boundaries may cross cores."""

    boundaries: tuple[Boundary, ...]
    """Tensors that may cross cores."""
    edges: tuple[Edge, ...]
    """Readers of those tensors."""
    modulation: Modulation | None

    def make_modulation(self, norms: dict[str, int]) -> Modulation | None:
        """What lets the design change these norms, name -> channels, and those of the pairs."""
        features = 2 * len(self.boundaries) + len(self.edges)
        return Modulation(features, norms | pair_norms(self.boundaries)) if features else None

    def design(
        self, widths: Widths | None, crossing: jax.Array | None
    ) -> tuple[list[jax.Array] | None, dict[str, jax.Array]]:
        """Masks f32[C] of boundaries, or None, and changes f32[2, channels] of norms by name."""
        if crossing is None or not self.boundaries:
            return None, {}
        channels = [boundary.channels for boundary in self.boundaries]
        full = jnp.asarray(channels, jnp.float32)
        masks = None
        if widths is None:
            counts = full
        elif isinstance(widths, jax.Array):
            masks = [prefix_mask(widths[i], count) for i, count in enumerate(channels)]
            counts = widths
        else:
            masks = list(widths)
            counts = jnp.stack([jnp.sum(mask) for mask in masks])
        if self.modulation is None:
            return masks, {}
        features = calc_design_features(counts, full, self._active(crossing), crossing)
        return masks, self.modulation(features)

    def _active(self, crossing: jax.Array) -> jax.Array:
        """1 where any edge of a boundary crosses, f32[boundaries]."""
        readers = [
            [i for i, edge in enumerate(self.edges) if edge.boundary == index]
            for index in range(len(self.boundaries))
        ]
        return jnp.stack([jnp.max(crossing[jnp.asarray(edges)]) for edges in readers])


def pair_norms(boundaries: Sequence[Boundary]) -> dict[str, int]:
    """Channels of the norms of all pairs, by name."""
    channels: dict[str, int] = {}
    for boundary in boundaries:
        if boundary.channels > 1:
            channels[f"{boundary.name}.reduce_norm"] = boundary.channels - 1
            channels[f"{boundary.name}.expand_norm"] = boundary.channels
    return channels


class Group(nnx.Module):
    """A named part of the path, such as ``stage1`` or ``block0``."""


def attach(root: nnx.Module, path: list[str], module: nnx.Module) -> None:
    """Put a module at a path, with groups on the way."""
    for part in path[:-1]:
        if not hasattr(root, part):
            setattr(root, part, Group())
        root = getattr(root, part)
    setattr(root, path[-1], module)


def find(root: nnx.Module, name: str) -> nnx.Module:
    """The module at a dotted path."""
    for part in name.split("."):
        root = getattr(root, part)
    return root
