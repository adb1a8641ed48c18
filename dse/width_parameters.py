"""Parameters of relaxed widths of pairs: where they start, their bounds, what they round to."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from models.relax import get_relaxation

Array = jax.Array
Parameters = list[Array]

START = 0.75  # of the largest width
LOG_ODDS = 4.6  # bound of gates, log 100 as published with the hard concrete gates
ALWAYS_OPEN = 20.0  # log-odds of the first gate: without any channel nothing would cross
TEMPERATURES = {
    "jittered": (3.0, 0.3),
    "sigmoid": (2.0, 0.1),
    "logistic_sigmoid": (0.3, 0.3),
    "gumbel": (5.0, 0.1),
}
"""First and last temperature, geometric between; 1 where none is given."""


def initial_parameters(name: str, largest: Sequence[int]) -> Parameters:
    """Parameters of each boundary, at `START` of the largest width."""
    start = get_relaxation(name).initial
    return project(name, [start(START * top, top) for top in largest], largest)


def project(name: str, parameters: Parameters, largest: Sequence[int]) -> Parameters:
    """The nearest parameters that stand for 1 to the largest width."""
    if not get_relaxation(name).ordered:
        held = [jnp.clip(p, -LOG_ODDS, LOG_ODDS) for p in parameters]
        return [p.at[0].set(ALWAYS_OPEN) for p in held]
    if parameters[0].ndim:  # logits over the widths
        return parameters
    return [jnp.clip(p, 1.0, top) for p, top in zip(parameters, largest, strict=True)]


def mean_widths(name: str, parameters: Parameters, largest: Sequence[int]) -> Array:
    """[boundaries] expected widths, just below the largest so that two-point slopes stay inside."""
    means = jnp.stack([get_relaxation(name).mean_width(p) for p in parameters])
    return jnp.clip(means, 1.0, np.array(largest, np.float32) * (1 - 1e-6))


def rounded_masks(
    name: str, parameters: Parameters, largest: Sequence[int]
) -> tuple[np.ndarray, tuple[Array, ...]]:
    """Integer widths [boundaries] and the hard masks with so many open channels."""
    relaxation, widths, masks = get_relaxation(name), [], []
    for parameter, top in zip(parameters, largest, strict=True):
        width = int(relaxation.discrete(parameter, top))
        order = jnp.arange(top) if relaxation.ordered else jnp.argsort(jnp.argsort(-parameter))
        widths.append(width)
        masks.append((order < width).astype(jnp.float32))
    return np.array(widths), tuple(masks)


def temperature_at(name: str, part: float) -> float:
    """Temperature when this part of the steps is done."""
    first, last = TEMPERATURES.get(name, (1.0, 1.0))
    return first * (last / first) ** part
