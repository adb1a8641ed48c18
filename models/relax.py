"""Relaxed widths: how many of a boundary's channels are open, with a gradient.

Every relaxation maps a parameter, a key and a temperature to a *mask*, f32[channels], whose sum is
the width. All but two have a discrete forward pass (the mask holds only 0 and 1) and put the
relaxation into the gradient alone. Slot ``channels - 1`` of a mask stands for "uncompressed": with
all slots open no bottleneck is needed. What a width costs is no business of this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from costs.errors import InputError

# Hard concrete stretch and slope as published (Louizos et al., ICLR 2018).
_STRETCH_LOW, _STRETCH_HIGH, _SLOPE = -0.1, 1.1, 2.0 / 3.0
# Log-odds of a gate taken for certainly open when a width is turned into gate parameters.
_OPEN_LOG_ODDS = 2.5


@jax.custom_jvp
def straight_through(hard: jax.Array, soft: jax.Array) -> jax.Array:
    """The value of ``hard``, exactly, with the gradient of ``soft``."""
    del soft
    return hard


@straight_through.defjvp
def _straight_through_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    hard, soft = primals
    return straight_through(hard, soft), tangents[1].astype(hard.dtype)


@jax.custom_vjp
def mix(share: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """share * first + (1 - share) * second, of a scalar share and two tensors of one shape.

    Its gradient in the share is one sum over the tensors, where the derivative of the formula as it
    stands takes one for each; over the channels first, which takes half of the time on a CPU.
    """
    share = share.astype(first.dtype)
    return share * first + (1.0 - share) * second


def _mix_forward(share: jax.Array, first: jax.Array, second: jax.Array) -> tuple:
    return mix(share, first, second), (share, first, second)


def _mix_backward(kept: tuple[jax.Array, ...], slope: jax.Array) -> tuple[jax.Array, ...]:
    share, first, second = kept
    weight = share.astype(first.dtype)
    by_place = jnp.sum(slope * (first - second), -1, dtype=share.dtype)
    # the barrier keeps XLA from making one sum of the two
    change = jnp.sum(jax.lax.optimization_barrier(by_place))
    slopes = (weight * slope).astype(first.dtype), ((1.0 - weight) * slope).astype(second.dtype)
    return change, *slopes


mix.defvjp(_mix_forward, _mix_backward)


def calc_clip_mask(width: jax.Array, channels: int) -> jax.Array:
    """The soft prefix mask clip(width - i, 0, 1), f32[channels]; its sum is the width."""
    return jnp.clip(width - jnp.arange(channels, dtype=jnp.float32), 0.0, 1.0)


def prefix_mask(width: jax.Array, channels: int) -> jax.Array:
    """The hard mask of the first ``width`` channels, with the gradient of the clip mask.

    At an integer width the clip mask has two one-sided derivatives; the gradient is their mean,
    that is half of adding a channel plus half of removing one.

    Args:
        width: Integer-valued width, f32 scalar in 1..channels.
        channels: Length of the mask.

    Returns:
        The mask, f32[channels].
    """
    hard = (jnp.arange(channels, dtype=jnp.float32) < jnp.round(width)).astype(jnp.float32)
    return straight_through(hard, calc_clip_mask(width, channels))


def _prefix(hard_width: jax.Array, soft_width: jax.Array, channels: int) -> jax.Array:
    hard_width = jnp.clip(hard_width, 1.0, channels)
    hard = (jnp.arange(channels, dtype=jnp.float32) < hard_width).astype(jnp.float32)
    return straight_through(hard, calc_clip_mask(soft_width, channels))


def sample_stochastic(
    width: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """k = floor(w) + Bernoulli(w - floor(w)): the mean of the mask is the clip mask (default)."""
    del temperature
    low = jnp.floor(width)
    up = jax.random.uniform(key) < width - low
    return _prefix(low + up, width, channels)


def sample_rounded(
    width: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """k = round(w), half up (Bengio et al., 2013, straight-through)."""
    del key, temperature
    return _prefix(jnp.floor(width + 0.5), width, channels)


def sample_jittered(
    width: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """k = round(w + temperature * normal noise): looks past plateaus of the cost."""
    moved = jnp.clip(
        jax.lax.stop_gradient(width) + temperature * jax.random.normal(key), 1.0, channels
    )
    moved = moved + (width - jax.lax.stop_gradient(width))
    return _prefix(jnp.floor(moved + 0.5), moved, channels)


def sample_clipped(
    width: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """The clip mask itself: relaxed in the forward pass too, kept for comparison."""
    del key, temperature
    return calc_clip_mask(width, channels)


def sample_sigmoid(
    width: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """sigmoid((w - i - 1/2) / temperature): the prefix mask of round(w) as temperature -> 0."""
    del key
    distance = width - jnp.arange(channels, dtype=jnp.float32) - 0.5
    return jax.nn.sigmoid(distance / temperature)


def sample_hard_concrete(
    log_odds: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Stretched and clipped binary concrete gates, one per channel (Louizos et al., 2018)."""
    noise = jax.random.logistic(key, (channels,))
    concrete = jax.nn.sigmoid((noise + log_odds) / (_SLOPE * temperature))
    return jnp.clip(concrete * (_STRETCH_HIGH - _STRETCH_LOW) + _STRETCH_LOW, 0.0, 1.0)


def sample_logistic_sigmoid(
    log_odds: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """FiGS gates: open where log-odds + logistic noise > 0, gradient of the tempered sigmoid."""
    noisy = log_odds + jax.random.logistic(key, (channels,))
    return straight_through((noisy > 0).astype(jnp.float32), jax.nn.sigmoid(noisy / temperature))


def sample_gumbel_widths(
    logits: jax.Array, channels: int, key: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """DMasking: prefix masks of every width, weighed by a Gumbel-softmax over the widths."""
    noisy = logits + jax.random.gumbel(key, (channels,))
    soft = jax.nn.softmax(noisy / temperature)
    hard = jax.nn.one_hot(jnp.argmax(noisy), channels)
    prefixes = jnp.tril(jnp.ones((channels, channels)))  # row k opens the first k + 1 channels
    return straight_through(hard @ prefixes, soft @ prefixes)


def _width_parameter(width: float, channels: int) -> jax.Array:
    del channels
    return jnp.asarray(width, jnp.float32)


def _gate_parameter(width: float, channels: int) -> jax.Array:
    distance = width - jnp.arange(channels, dtype=jnp.float32) - 0.5
    return _OPEN_LOG_ODDS * jnp.clip(distance, -1.0, 1.0)


def _logit_parameter(width: float, channels: int) -> jax.Array:
    widths = jnp.arange(1, channels + 1, dtype=jnp.float32)
    return -_OPEN_LOG_ODDS * jnp.clip(jnp.abs(widths - width), 0.0, 1.0)


def _mean_width(width: jax.Array) -> jax.Array:
    return width


def _mean_hard_concrete(log_odds: jax.Array) -> jax.Array:
    # P(gate > 0), the L0 norm of the paper, at temperature 1
    shift = _SLOPE * math.log(-_STRETCH_LOW / _STRETCH_HIGH)
    return jnp.sum(jax.nn.sigmoid(log_odds - shift))


def _mean_gates(log_odds: jax.Array) -> jax.Array:
    return jnp.sum(jax.nn.sigmoid(log_odds))


def _mean_gumbel(logits: jax.Array) -> jax.Array:
    widths = jnp.arange(1, logits.shape[-1] + 1, dtype=jnp.float32)
    return jnp.dot(jax.nn.softmax(logits), widths)


def _nearest_width(width: jax.Array, channels: int) -> jax.Array:
    return jnp.clip(jnp.floor(width + 0.5), 1, channels).astype(jnp.int32)


def _open_gates(log_odds: jax.Array, channels: int) -> jax.Array:
    return jnp.clip(jnp.sum(log_odds > 0), 1, channels).astype(jnp.int32)


def _likeliest_width(logits: jax.Array, channels: int) -> jax.Array:
    del channels
    return (jnp.argmax(logits) + 1).astype(jnp.int32)


Sampler = Callable[[jax.Array, int, jax.Array, "float | jax.Array"], jax.Array]


@dataclass(frozen=True)
class Relaxation:
    """One way of relaxing a width.

    Attributes:
        sample: (parameter, channels, key, temperature) -> mask, f32[channels].
        initial: (width, channels) -> the parameter that starts near this width.
        mean_width: parameter -> expected width [channels].
        discrete: parameter, channels -> the integer width it is rounded to.
        ordered: Whether open channels are always a prefix, so that an integer says all.
        hard: Whether the forward pass is discrete.
    """

    sample: Sampler
    initial: Callable[[float, int], jax.Array]
    mean_width: Callable[[jax.Array], jax.Array]
    discrete: Callable[[jax.Array, int], jax.Array]
    ordered: bool = True
    hard: bool = True


RELAXATIONS: dict[str, Relaxation] = {
    "stochastic": Relaxation(sample_stochastic, _width_parameter, _mean_width, _nearest_width),
    "round": Relaxation(sample_rounded, _width_parameter, _mean_width, _nearest_width),
    "jittered": Relaxation(sample_jittered, _width_parameter, _mean_width, _nearest_width),
    "clipped": Relaxation(
        sample_clipped, _width_parameter, _mean_width, _nearest_width, hard=False
    ),
    "sigmoid": Relaxation(
        sample_sigmoid, _width_parameter, _mean_width, _nearest_width, hard=False
    ),
    "hard_concrete": Relaxation(
        sample_hard_concrete,
        _gate_parameter,
        _mean_hard_concrete,
        _open_gates,
        ordered=False,
        hard=False,
    ),
    "logistic_sigmoid": Relaxation(
        sample_logistic_sigmoid, _gate_parameter, _mean_gates, _open_gates, ordered=False
    ),
    "gumbel": Relaxation(sample_gumbel_widths, _logit_parameter, _mean_gumbel, _likeliest_width),
}


def get_relaxation(name: str) -> Relaxation:
    """The relaxation of this name, or an input error that lists the names."""
    if name not in RELAXATIONS:
        raise InputError("unknown relaxation of widths", value=name, allowed=RELAXATIONS)
    return RELAXATIONS[name]


def sample_masks(
    name: str,
    parameters: Sequence[jax.Array] | jax.Array,
    channels: Sequence[int],
    key: jax.Array,
    temperature: float | jax.Array = 1.0,
) -> tuple[jax.Array, ...]:
    """One independent mask per boundary.

    Args:
        name: A key of ``RELAXATIONS``.
        parameters: One parameter per boundary (for the width-based ones f32[boundaries] will do).
        channels: Channels of each boundary.
        key: Random key, split over the boundaries.
        temperature: Width of noise or softness [channels, or log-odds]; ignored by some.

    Returns:
        Masks, f32[channels] each.
    """
    sample = get_relaxation(name).sample
    keys = jax.random.split(key, len(channels))
    return tuple(
        sample(parameters[i], count, keys[i], temperature) for i, count in enumerate(channels)
    )


def widths_of(masks: Sequence[jax.Array]) -> jax.Array:
    """The widths [channels] of masks, f32[boundaries], carrying the masks' gradients."""
    return jnp.stack([jnp.sum(mask) for mask in masks])
