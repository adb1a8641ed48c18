"""What rounding costs under each relaxation of widths: accuracy and costs before and after it.

Every (relaxation, seed) trains one network together with its relaxed widths, on the same pictures
for the same number of steps at the same preference. Assignment and hardware are held, and every
boundary crosses, so that nothing but the relaxation differs. The result is evaluated as it was
trained, and once more after rounding to integer widths, without any training in between.

Each boundary always has its pair, of 1 to the largest width: a set of independent gates has no
single slot that would stand for "uncompressed".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.errors import InputError
from dse.augment import prepare_pictures
from dse.baselines import run_phases
from dse.context import Context, make_context
from dse.design_objective import DesignObjective
from dse.experiment_spec import Experiment
from dse.handover import ROUNDINGS, objective_of
from dse.joint import preference_vector
from dse.objective import calc_terms, scalarise
from dse.relaxed import extension_corners, split_ordinals
from dse.rundir import write_atomically
from dse.tables import TablesPhase
from dse.training import batch_indices, calc_learning_rate, cross_entropy, make_optimizer
from dse.width_parameters import (
    Parameters,
    initial_parameters,
    mean_widths,
    project,
    rounded_masks,
    temperature_at,
)
from models.relax import RELAXATIONS, get_relaxation, sample_masks

Array = jax.Array
Row = dict[str, Any]

COSTS = ("io_bytes", "energy_pj", "latency_s")
RATE = 0.1  # of Adam on widths [channels] and log-odds alike
NOISELESS = ("round", "clipped", "sigmoid")  # their draws are all alike


@dataclass(frozen=True)
class Setting:
    """What all cells share.

    Attributes:
        context: the experiment, its hardware fixed.
        objective: exact costs.
        knobs: [knobs] grid indices.
        assignment: [layers] layers dealt out to the cores in turn.
        crossing: [network edges] 1 where an edge crosses.
        largest: widest pair of each boundary [channels].
    """

    context: Context
    objective: DesignObjective
    knobs: np.ndarray
    assignment: np.ndarray
    crossing: Array
    largest: tuple[int, ...]

    def ordinals(self, widths: np.ndarray) -> np.ndarray:
        """[ordinals] widths [boundaries] and the fixed hardware."""
        return np.concatenate([widths, self.knobs])

    def exact_costs(self, widths: np.ndarray) -> dict[str, float]:
        """`COSTS` of integer widths [boundaries]."""
        ordinals = self.ordinals(widths)[:, None]
        costs = self.objective.costs(ordinals, self.assignment[:, None])
        return {name: float(costs[name][0]) for name in COSTS}

    def extended_costs(self, widths: np.ndarray) -> dict[str, float]:
        """`COSTS` of real widths [boundaries]: the multilinear extension, all corners of it."""
        corners, chances = extension_corners(self.objective.shape, self.ordinals(widths))
        tiled = np.repeat(self.assignment[:, None], len(chances), axis=1)
        costs = self.objective.costs(corners, tiled)
        return {name: float(costs[name] @ chances) for name in COSTS}

    def gates(self, masks: Sequence[Array]) -> tuple[Array, ...]:
        """Masks of the network, f32[channels] each, from masks of the pairs."""
        channels = self.objective.shape.max_widths
        return tuple(
            jnp.pad(mask, (0, count - mask.shape[0]))
            for mask, count in zip(masks, channels, strict=True)
        )


def make_setting(config: Experiment) -> Setting:
    """The shared part of all cells of an experiment.

    Raises:
        InputError: if a boundary stays on its core when layers are dealt out in turn.
    """
    hardware = config.hardware.model_copy(update={"mode": "fixed"})
    context = make_context(config.model_copy(update={"hardware": hardware}))
    outputs = run_phases([TablesPhase(context)], {})
    objective = objective_of(context, outputs)
    shape = objective.shape
    reference, _ = outputs["tables"]["reference"]
    assignment = np.arange(shape.layers) % shape.cores
    costs = objective.costs(reference[:, None], assignment[:, None])
    crossing = context.crossing(costs["crossing"])[:, 0]
    for number, boundary in enumerate(context.boundaries):
        if not crossing[context.boundary_of_edge == number].any():
            raise InputError(
                "does not cross when layers are dealt out to the cores in turn",
                key="network.bottlenecks",
                value=boundary.name,
            )
    knobs = reference[len(shape.max_widths) :]
    return Setting(
        context, objective, knobs, assignment, jnp.asarray(crossing, float), shape.largest_pairs
    )


def draw_slopes(
    setting: Setting, preference: np.ndarray, widths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
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
    terms = calc_terms(0.0, costs, objective.reference, 1.0)
    values = scalarise(preference[:, None], [0.0 * terms[1], *terms[1:]], "linear", 1.0)
    return np.where(up[: len(widths)], 1.0, -1.0) * (values[0] - values[1:])


def make_step(setting: Setting) -> Callable[..., Any]:
    """The jitted step of the weights, the same for every relaxation: masks are runtime values.

    A function (params, leaves, stats, masks of the pairs, key, learning rate, pictures, labels);
    the first two are donated and returned, with the gradient of the weighted task loss in the
    masks.
    """
    context = setting.context
    net, training = context.net, context.config.training
    weight = float(preference_vector(context)[0]) * context.config.objective.task_scale
    optimizer = make_optimizer(training)
    abstract = jax.eval_shape(net.init, jax.random.key(0))[0]
    tree = jax.tree.structure(jax.eval_shape(optimizer.init, abstract))

    def step(
        params: Any,
        leaves: Any,
        stats: Any,
        masks: tuple[Array, ...],
        key: Array,
        learning_rate: Any,
        pictures: Array,
        labels: Array,
    ) -> Any:
        pictures = prepare_pictures(key, pictures, training, context.data.scaling)

        def loss_fn(params: Any, masks: tuple[Array, ...]) -> Array:
            gates = setting.gates(masks)
            logits, _ = net.apply(params, stats, pictures, gates, setting.crossing, "batch")
            return weight * cross_entropy(logits, labels, training.label_smoothing)

        gradient, slopes = jax.grad(loss_fn, argnums=(0, 1))(params, masks)
        updates, state = optimizer.update(gradient, jax.tree.unflatten(tree, leaves), params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
        return params, jax.tree.leaves(state), slopes

    return jax.jit(step, donate_argnums=(0, 1))


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


def train(
    setting: Setting, name: str, step: Callable[..., Any], seed: int, steps: int
) -> tuple[dict[str, Array], Parameters]:
    """Weights and relaxed widths after so many steps, `step` being that of `make_step`."""
    context, training = setting.context, setting.context.config.training
    preference, pictures = preference_vector(context), context.data.train
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
        slopes = draw_slopes(setting, preference, np.asarray(means, float), rng)
        params, leaves, mask_slopes = step(
            params,
            leaves,
            stats,
            masks,
            picture_key,
            calc_learning_rate(training, index, steps),
            pictures.pictures[chosen],
            pictures.labels[chosen],
        )
        parameters, state = move(
            parameters, state, mask_key, temperature, mask_slopes, slopes.astype(np.float32)
        )
    return params, parameters


def make_accuracy(setting: Setting) -> Callable[..., float]:
    """A function (params, masks of the pairs) to the share of validation pictures it gets right.

    Norms take their statistics on the calibration pictures under these very masks.
    """
    context = setting.context
    fresh = context.net.init(jax.random.key(context.config.seed))[1]
    split, calibration = context.data.validation, jnp.asarray(context.calibration)
    inputs = jnp.asarray(split.inputs())

    @jax.jit
    def correct(params: Any, gates: tuple[Array, ...]) -> Array:
        _, stats = context.net.apply(params, fresh, calibration, gates, setting.crossing, "batch")
        logits, _ = context.net.apply(params, stats, inputs, gates, setting.crossing, "stored")
        return jnp.sum(jnp.argmax(logits, -1) == split.labels)

    def accuracy(params: Any, masks: Sequence[Array]) -> float:
        return int(correct(params, setting.gates(masks))) / len(split)

    return accuracy


def measure(
    setting: Setting,
    name: str,
    accuracy: Callable[..., float],
    params: Any,
    parameters: Parameters,
    seed: int,
) -> Row:
    """Accuracy, costs and total width before and after rounding.

    Before: mean accuracy over draws of the masks as in the last step, and the extended costs of
    the expected widths. After: the integer design itself.
    """
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 7), ROUNDINGS)
    keys = keys[:1] if name in NOISELESS else keys
    last = temperature_at(name, 1.0)
    before = [
        accuracy(params, sample_masks(name, parameters, setting.largest, key, last)) for key in keys
    ]
    means = np.asarray(
        [get_relaxation(name).mean_width(parameter) for parameter in parameters], float
    )
    means = np.clip(means, 1.0, setting.largest)
    widths, masks = rounded_masks(name, parameters, setting.largest)
    relaxed, exact = setting.extended_costs(means), setting.exact_costs(widths)
    row: Row = {
        "relaxation": name,
        "seed": seed,
        "accuracy_before": float(np.mean(before)),
        "accuracy_after": accuracy(params, masks),
    }
    for cost in COSTS:
        row |= {f"{cost}_before": relaxed[cost], f"{cost}_after": exact[cost]}
    return row | {
        "width_before": float(means.sum()),
        "width_after": int(widths.sum()),
        "widths": " ".join(str(width) for width in widths),
    }


def run_cells(
    config: Experiment,
    seeds: int,
    steps: int,
    folder: Path,
    progress: Callable[[str, int, int, int], None],
    names: Sequence[str] = tuple(RELAXATIONS),
) -> list[Row]:
    """All cells, seed by seed, those that stand in the folder taken from there.

    Args:
        config: an experiment whose boundaries are given; its assignment and hardware are not used.
        seeds: paired seeds, from the experiment's own on.
        steps: training steps of each.
        folder: where each cell is kept.
        progress: told (relaxation, seed, number, of) before each.
        names: of `RELAXATIONS`.

    Raises:
        InputError: if the folder holds cells of another experiment, or a relaxation is unknown.
    """
    for name in names:
        get_relaxation(name)
    folder.mkdir(parents=True, exist_ok=True)
    fixed = {"experiment": config.model_dump(mode="json", exclude={"seed"}), "steps": steps}
    setting = lru_cache(maxsize=1)(lambda: make_setting(config))
    accuracy = lru_cache(maxsize=1)(lambda: make_accuracy(setting()))
    step = lru_cache(maxsize=1)(lambda: make_step(setting()))  # compiled once for all
    cells = [(name, config.seed + s) for s in range(seeds) for name in names]
    rows = []
    for number, (name, seed) in enumerate(cells):
        file = folder / f"{name}-{seed}.json"
        if file.exists():
            cell = json.loads(file.read_text())
            if cell["config"] != fixed:
                raise InputError("made with another configuration", file=file)
        else:
            progress(name, seed, number + 1, len(cells))
            params, parameters = train(setting(), name, step(), seed, steps)
            row = measure(setting(), name, accuracy(), params, parameters, seed)
            cell = {"config": fixed, "row": row}
            write_atomically(file, (json.dumps(cell) + "\n").encode())
        rows.append(cell["row"])
    return rows
