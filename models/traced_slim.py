"""Slimming of a traced network: pairs are cut and their norms folded, the rest stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from models.norm import fold_affine
from models.traced_network import BODY, PAIRS, TracedArchitecture

if TYPE_CHECKING:
    from models.traced_network import TracedNetwork

Flat = dict[str, jax.Array]


def slim_traced(
    network: TracedNetwork,
    params: Flat,
    stats: Flat,
    widths: Sequence[int],
    crossing: Sequence[bool],
) -> tuple[TracedArchitecture, Flat, Flat]:
    """The network of one design; arguments and results as of ``models.slim.slim``."""
    old = network.architecture
    design = (tuple(int(w) for w in widths), tuple(bool(c) for c in crossing))
    architecture = replace(old, design=design, modulate=False)
    _, changes = network.design(jnp.asarray(widths, float), jnp.asarray(crossing, float))
    arrays = {name: np.asarray(value) for name, value in (params | stats).items()}
    for name, change in changes.items():
        path = name if name.startswith(f"{BODY}.") else f"{PAIRS}.{name}"
        for part, added in zip(("scale", "bias"), np.asarray(change), strict=True):
            arrays[f"{path}.{part}"] = arrays[f"{path}.{part}"] + added
    kept = {name: arrays[name] for name in params if name.startswith(f"{BODY}.")}
    measured = {name: arrays[name] for name in stats if name.startswith(f"{BODY}.")}
    for index in architecture.crossed():
        boundary, width = old.boundaries[index], int(widths[index])
        path = f"{PAIRS}.{boundary.name}"
        paired = width < boundary.channels
        if old.quantise:
            source = "code" if paired else "plain"
            measured[f"{path}.code.range"] = arrays[f"{path}.{source}.range"]
        if not paired:
            continue
        for part, last in (("reduce", width), ("expand", boundary.channels)):
            norm = [
                arrays[f"{path}.{part}_norm.{key}"][:last]
                for key in ("scale", "bias", "mean", "var")
            ]
            factor, offset = fold_affine(*norm)
            kernel = arrays[f"{path}.{part}.kernel"]
            kernel = kernel[..., :width] if part == "reduce" else kernel[..., :width, :]
            kept[f"{path}.{part}.kernel"] = kernel * factor
            kept[f"{path}.{part}.bias"] = offset
    return architecture, *_on_device(kept, measured)


def _on_device(kept: dict[str, np.ndarray], measured: dict[str, np.ndarray]) -> tuple[Flat, Flat]:
    return (
        {name: jnp.asarray(value) for name, value in kept.items()},
        {name: jnp.asarray(value) for name, value in measured.items()},
    )
