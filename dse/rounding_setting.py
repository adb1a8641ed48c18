"""What all relaxations share when it is measured what rounding them costs.

One network and its relaxed choice are trained on the same pictures for the same number of steps at
the same preference, the hardware held, so that nothing but the relaxation differs: either widths,
with all boundaries crossing, or the assignment, with widths held. Accuracy and costs are measured
as relaxed and once more as rounded, without any training in between.

Each boundary that crosses always has its pair, of 1 to the largest width: a set of independent
gates has no single slot that would stand for "uncompressed".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from costs.errors import InputError
from dse.augment import prepare_pictures
from dse.baselines import run_phases
from dse.context import Context, make_context
from dse.design_objective import DesignObjective
from dse.experiment_spec import Experiment
from dse.handover import objective_of
from dse.objective import calc_terms, scalarise
from dse.relaxed import extension_corners
from dse.requests import preference_vector
from dse.tables import TablesPhase
from dse.training import EVALUATED_AT_ONCE, cross_entropy, make_optimizer

Array = jax.Array
Row = dict[str, Any]
Masks = Sequence[Array]
Part = Literal["validation", "test"]
Correct = Callable[[Any, Masks, Any], np.ndarray]
"""(params, masks of the pairs, crossing flags) to bool[pictures]: which it predicts right."""

COSTS = ("io_bytes", "energy_pj", "latency_s")
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Setting:
    """What all cells share.

    Attributes:
        context: the experiment, its hardware fixed.
        objective: exact costs.
        knobs: [knobs] grid indices.
        start: [layers] the exact assignment of the design without bottlenecks.
        assignment: [layers] layers dealt out to the cores in turn.
        crossing: [network edges] 1 where an edge then crosses.
        largest: widest pair of each boundary [channels].
    """

    context: Context
    objective: DesignObjective
    knobs: np.ndarray
    start: np.ndarray
    assignment: np.ndarray
    crossing: Array
    largest: tuple[int, ...]

    def ordinals(self, widths: np.ndarray) -> np.ndarray:
        """[ordinals] widths [boundaries] and the fixed hardware."""
        return np.concatenate([widths, self.knobs])

    def costs(self, widths: np.ndarray, assignments: np.ndarray) -> dict[str, np.ndarray]:
        """All costs of integer widths [boundaries] under assignments [layers, designs]."""
        tiled = np.repeat(self.ordinals(widths)[:, None], assignments.shape[1], axis=1)
        return self.objective.costs(tiled, assignments)

    def exact_costs(self, widths: np.ndarray) -> dict[str, float]:
        """`COSTS` of integer widths [boundaries]."""
        costs = self.costs(widths, self.assignment[:, None])
        return {name: float(costs[name][0]) for name in COSTS}

    def extended_costs(self, widths: np.ndarray) -> dict[str, float]:
        """`COSTS` of real widths [boundaries]: the multilinear extension, all corners of it."""
        corners, chances = extension_corners(self.objective.shape, self.ordinals(widths))
        tiled = np.repeat(self.assignment[:, None], len(chances), axis=1)
        costs = self.objective.costs(corners, tiled)
        return {name: float(costs[name] @ chances) for name in COSTS}

    def values(self, costs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[designs] weighted log costs: the objective without the task loss."""
        preference = preference_vector(self.context.config.joint.preference)
        terms = calc_terms(0.0, dict(costs), self.objective.reference, 1.0)
        return scalarise(preference[:, None], [0.0 * terms[1], *terms[1:]], "linear", 1.0)

    def gates(self, masks: Masks) -> tuple[Array, ...]:
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
    reference, start = outputs["tables"]["reference"]
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
        context,
        objective,
        knobs,
        start,
        assignment,
        jnp.asarray(crossing, float),
        shape.largest_pairs,
    )


def make_step(setting: Setting) -> Callable[..., Any]:
    """The jitted step of the weights, the same for every relaxation: designs are runtime values.

    A function (params, leaves, stats, masks of the pairs, crossing flags, key, learning rate,
    pictures, labels); the first two are donated and returned, with the gradients of the weighted
    task loss in masks and flags.
    """
    context = setting.context
    net, training = context.net, context.config.training
    weight = (
        float(preference_vector(context.config.joint.preference)[0])
        * context.config.objective.task_scale
    )
    optimizer = make_optimizer(training)
    abstract = jax.eval_shape(net.init, jax.random.key(0))[0]
    tree = jax.tree.structure(jax.eval_shape(optimizer.init, abstract))

    def step(
        params: Any,
        leaves: Any,
        stats: Any,
        masks: tuple[Array, ...],
        crossing: Array,
        key: Array,
        learning_rate: Any,
        pictures: Array,
        labels: Array,
    ) -> Any:
        pictures = prepare_pictures(key, pictures, training, context.data.scaling)

        def loss_fn(params: Any, masks: tuple[Array, ...], crossing: Array) -> Array:
            gates = setting.gates(masks)
            logits, _ = net.apply(params, stats, pictures, gates, crossing, "batch")
            return weight * cross_entropy(logits, labels, training.label_smoothing)

        gradient, *slopes = jax.grad(loss_fn, argnums=(0, 1, 2))(params, masks, crossing)
        updates, state = optimizer.update(gradient, jax.tree.unflatten(tree, leaves), params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
        return params, jax.tree.leaves(state), slopes

    return jax.jit(step, donate_argnums=(0, 1))


def make_correct(setting: Setting, part: Part = "validation") -> Correct:
    """Which pictures of a split a network predicts right under any design.

    Norms take their statistics on the calibration pictures under that very design.
    """
    context = setting.context
    fresh = context.net.init(jax.random.key(context.config.seed))[1]
    split, calibration = getattr(context.data, part), jnp.asarray(context.calibration)

    @jax.jit
    def predict(params: Any, stats: Any, inputs: Array, gates: Any, crossing: Any) -> Array:
        logits, _ = context.net.apply(params, stats, inputs, gates, crossing, "stored")
        return jnp.argmax(logits, -1)

    def correct(params: Any, masks: Masks, crossing: Any) -> np.ndarray:
        gates, crossing = setting.gates(masks), jnp.asarray(crossing, jnp.float32)
        stats = context.net.measure(params, fresh, calibration, gates, crossing)
        found = []
        for start in range(0, len(split), EVALUATED_AT_ONCE):
            inputs = split.inputs(start, start + EVALUATED_AT_ONCE)
            found.append(np.asarray(predict(params, stats, inputs, gates, crossing)))
        return np.concatenate(found) == split.labels

    return correct


def make_row(
    kind: str,
    name: str,
    seed: int,
    before: Sequence[np.ndarray],
    after: np.ndarray,
    costs: tuple[Mapping[str, float], Mapping[str, float]],
) -> Row:
    """The table's row of one cell.

    Args:
        kind: `widths` or `assignment`.
        name: of the relaxation.
        seed: of the cell.
        before: of each draw of the relaxed choice, bool[pictures] what is predicted right.
        after: the same of the rounded one.
        costs: expected ones as relaxed, exact ones as rounded.

    Returns:
        Accuracies and costs before and after, and the 95 % interval of the accuracy's gap over
        pictures, paired: the weights are the same.
    """
    relaxed = np.mean(before, axis=0)
    gap = after - relaxed
    half = NORMAL_95 * gap.std(ddof=1) / np.sqrt(len(gap))
    row: Row = {
        "kind": kind,
        "relaxation": name,
        "seed": seed,
        "accuracy_before": float(relaxed.mean()),
        "accuracy_after": float(after.mean()),
        "pictures": len(gap),
        "pictures_low": float(gap.mean() - half),
        "pictures_high": float(gap.mean() + half),
    }
    for cost in COSTS:
        row |= {
            f"{cost}_{when}": c[cost] for when, c in zip(("before", "after"), costs, strict=True)
        }
    return row
