"""What rounding costs under each relaxation of widths; the assignment is held, all crosses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.handover import ROUNDINGS
from dse.relaxed import split_ordinals
from dse.rounding_setting import Correct, Row, Setting, make_row
from dse.training import batch_indices, calc_learning_rate, make_optimizer
from dse.width_parameters import (
    Parameters,
    initial_parameters,
    mean_widths,
    project,
    rounded_masks,
    temperature_at,
)
from models.relax import get_relaxation, sample_masks

Array = jax.Array

RATE = 0.1  # of Adam on widths [channels] and log-odds alike


def draw_slopes(setting: Setting, widths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[boundaries] an unbiased gradient of the extended weighted log costs at real widths.

    As in `dse.relaxed`: the difference of the exact costs between two neighbours at one drawn
    corner, for all widths at once. Without jax: a handful of designs takes milliseconds.
    """
    objective, shape = setting.objective, setting.objective.shape
    lower, fraction = split_ordinals(shape, setting.ordinals(widths))
    up = rng.random(len(lower)) < fraction
    flips = np.eye(len(lower), len(widths), dtype=bool)
    above = np.concatenate([up[:, None], up[:, None] ^ flips], axis=1)
    tiled = np.repeat(setting.assignment[:, None], above.shape[1], axis=1)
    costs = objective.costs(lower[:, None] + above, tiled)
    values = setting.values(costs)
    return np.where(up[: len(widths)], 1.0, -1.0) * (values[0] - values[1:])


def make_widths(name: str, largest: tuple[int, ...]) -> tuple[Callable[..., Any], ...]:
    """The jitted parts of one relaxation.

    Returns:
        draw: (parameters, key, temperature) to masks and expected widths.
        move: (parameters, optimizer state, key, temperature, gradient in these masks, gradient in
            the expected widths) to parameters and optimizer state one step on.
    """
    optimizer = optax.adam(RATE)

    def draw(parameters: Parameters, key: Array, temperature: Any) -> Any:
        masks = sample_masks(name, parameters, largest, key, temperature)
        return masks, mean_widths(name, parameters, largest)

    def move(
        parameters: Parameters,
        state: Any,
        key: Array,
        temperature: Any,
        mask_slopes: tuple[Array, ...],
        width_slopes: Array,
    ) -> Any:
        _, pull = jax.vjp(lambda given: draw(given, key, temperature), parameters)
        updates, state = optimizer.update(pull((mask_slopes, width_slopes))[0], state)
        return project(name, jax.tree.map(jnp.add, parameters, updates), largest), state

    return jax.jit(draw), jax.jit(move)


def train_widths(
    setting: Setting, name: str, step: Callable[..., Any], seed: int, steps: int
) -> tuple[dict[str, Array], Parameters]:
    """Weights and relaxed widths after so many steps, `step` being that of `make_step`."""
    context, training = setting.context, setting.context.config.training
    pictures = context.data.train
    draw, move = make_widths(name, setting.largest)
    params, stats = context.net.init(jax.random.key(seed))
    leaves = jax.tree.leaves(make_optimizer(training).init(params))
    parameters = initial_parameters(name, setting.largest)
    state = optax.adam(RATE).init(parameters)
    rng = np.random.default_rng([seed, 9])
    for index in range(steps):
        key = jax.random.fold_in(jax.random.key(seed + 2), index)
        picture_key, mask_key = jax.random.split(key)
        temperature = temperature_at(name, (index + 1) / steps)
        chosen = batch_indices(seed, index, training.batch, len(pictures))
        masks, means = draw(parameters, mask_key, temperature)
        slopes = draw_slopes(setting, np.asarray(means, float), rng)
        params, leaves, (mask_slopes, _) = step(
            params,
            leaves,
            stats,
            masks,
            setting.crossing,
            picture_key,
            calc_learning_rate(training, index, steps),
            pictures.pictures[chosen],
            pictures.labels[chosen],
        )
        parameters, state = move(
            parameters, state, mask_key, temperature, mask_slopes, slopes.astype(np.float32)
        )
    return params, parameters


def measure_widths(
    setting: Setting,
    name: str,
    correct: Correct,
    params: Any,
    parameters: Parameters,
    seed: int,
) -> Row:
    """Accuracy, costs and total width before and after rounding.

    Before: mean accuracy over draws of the masks as in the last step, and the extended costs of
    the expected widths. After: the integer design itself.
    """
    kept: dict[bytes, np.ndarray] = {}

    def score(masks: tuple[Array, ...]) -> np.ndarray:
        known = b"".join(np.asarray(mask).tobytes() for mask in masks)  # many draws are alike
        if known not in kept:
            kept[known] = correct(params, masks, setting.crossing)
        return kept[known]

    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 7), ROUNDINGS)
    last = temperature_at(name, 1.0)
    before = [score(sample_masks(name, parameters, setting.largest, key, last)) for key in keys]
    means = np.asarray(
        [get_relaxation(name).mean_width(parameter) for parameter in parameters], float
    )
    means = np.clip(means, 1.0, setting.largest)
    widths, masks = rounded_masks(name, parameters, setting.largest)
    costs = setting.extended_costs(means), setting.exact_costs(widths)
    return make_row("widths", name, seed, before, score(masks), costs) | {
        "width_before": float(means.sum()),
        "width_after": int(widths.sum()),
        "rounded": " ".join(str(width) for width in widths),
    }
