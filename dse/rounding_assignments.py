"""What rounding costs under each relaxation of the assignment; the widths are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.assignment_relaxations import AssignmentRelaxation, make_relaxation
from dse.handover import ROUNDINGS
from dse.joint import crossing_flags, edge_ends
from dse.rounding_setting import COSTS, Correct, Row, Setting, make_row
from dse.training import batch_indices, calc_learning_rate, make_optimizer
from dse.width_parameters import START

Array = jax.Array

DRAWS = 1024  # over which costs before rounding are averaged; they need no network


def held_widths(setting: Setting) -> np.ndarray:
    """[boundaries] the integer widths at which relaxed ones begin."""
    return np.maximum(1, np.round(START * np.array(setting.largest))).astype(int)


def held_masks(setting: Setting) -> tuple[Array, ...]:
    """Masks of the pairs of these widths."""
    given = zip(held_widths(setting), setting.largest, strict=True)
    return tuple((jnp.arange(top) < width).astype(jnp.float32) for width, top in given)


def temperature_of(setting: Setting, part: float) -> float:
    """Temperature when this part of the steps is done, as in `method: joint`."""
    first, last = setting.context.config.joint.temperature
    return first * (last / first) ** part


def make_moves(setting: Setting, relaxation: AssignmentRelaxation) -> tuple[Callable, Callable]:
    """The jitted parts of one relaxation.

    Returns:
        draw: (parameters, key, temperature) to assignment [layers], its neighbours [layers,
            columns] and the crossing flags [network edges].
        move: (parameters, optimizer state, key, temperature, values [1 + columns] of assignment
            and neighbours, gradient in the flags) to parameters and state one step on.
    """
    optimizer = optax.adam(setting.context.config.joint.design_learning_rate)
    ends = edge_ends(setting.context)

    def draw(parameters: Array, key: Array, temperature: Any) -> Any:
        drawn = relaxation.draw(key, parameters[:, None], temperature)
        return drawn.assignment[:, 0], drawn.neighbours[:, :, 0], crossing_flags(ends, drawn)

    def move(
        parameters: Array, state: Any, key: Array, temperature: Any, values: Array, slopes: Array
    ) -> Any:
        def loss(parameters: Array) -> Array:
            drawn = relaxation.draw(key, parameters[:, None], temperature)
            cost = drawn.estimate(values[:, None])[0]
            return cost + slopes @ crossing_flags(ends, drawn)

        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    return jax.jit(draw), jax.jit(move)


def train_assignment(
    setting: Setting, name: str, step: Callable[..., Any], seed: int, steps: int
) -> tuple[dict[str, Array], Array]:
    """Weights and parameters of the assignment after so many steps of `make_step`."""
    context, training = setting.context, setting.context.config.training
    shape, pictures = setting.objective.shape, context.data.train
    relaxation = make_relaxation(name, shape.layers, shape.cores)
    draw, move = make_moves(setting, relaxation)
    params, stats = context.net.init(jax.random.key(seed))
    leaves = jax.tree.leaves(make_optimizer(training).init(params))
    parameters = jnp.asarray(relaxation.start(setting.start), jnp.float32)
    state = optax.adam(context.config.joint.design_learning_rate).init(parameters)
    widths, masks = held_widths(setting), held_masks(setting)
    for index in range(steps):
        key = jax.random.fold_in(jax.random.key(seed + 2), index)
        picture_key, core_key = jax.random.split(key)
        temperature = temperature_of(setting, (index + 1) / steps)
        chosen = batch_indices(seed, index, training.batch, len(pictures))
        _, neighbours, crossing = draw(parameters, core_key, temperature)
        values = setting.values(setting.costs(widths, np.asarray(neighbours)))
        params, leaves, (_, slopes) = step(
            params,
            leaves,
            stats,
            masks,
            crossing,
            picture_key,
            calc_learning_rate(training, index, steps),
            pictures.pictures[chosen],
            pictures.labels[chosen],
        )
        parameters, state = move(
            parameters, state, core_key, temperature, values.astype(np.float32), slopes
        )
    return params, parameters


def measure_assignment(
    setting: Setting, name: str, correct: Correct, params: Any, parameters: Array, seed: int
) -> Row:
    """Accuracy, costs and cores used before and after rounding.

    Before: means over assignments drawn as in the last step, which estimate the expectation that
    training descends. After: the assignment without noise, not polished.
    """
    shape, widths = setting.objective.shape, held_widths(setting)
    relaxation = make_relaxation(name, shape.layers, shape.cores)
    drawn = relaxation.draw(
        jax.random.fold_in(jax.random.key(seed), 7),
        jnp.repeat(parameters[:, None], DRAWS, axis=1),
        temperature_of(setting, 1.0),
    ).assignment
    relaxed = setting.costs(widths, np.asarray(drawn))
    rounded = relaxation.round(parameters[:, None])
    exact = setting.costs(widths, rounded)
    masks = held_masks(setting)
    kept: dict[bytes, np.ndarray] = {}

    def score(costs: dict[str, np.ndarray], number: int) -> np.ndarray:
        crossing = setting.context.crossing(costs["crossing"])[:, number]
        known = crossing.tobytes()
        if known not in kept:
            kept[known] = correct(params, masks, crossing)
        return kept[known]

    before = [score(relaxed, number) for number in range(ROUNDINGS)]
    costs = (
        {name: float(relaxed[name].mean()) for name in COSTS},
        {name: float(exact[name][0]) for name in COSTS},
    )
    return make_row("assignment", name, seed, before, score(exact, 0), costs) | {
        "width_before": float(widths.sum()),
        "width_after": int(widths.sum()),
        "rounded": " ".join(str(core) for core in rounded[:, 0]),
    }
