"""`method: joint`: weights, widths, assignment and hardware by one backward pass.

The network runs one integer design per step, drawn from the relaxed one; its widths and crossings
carry straight-through gradients, and the costs those of the multilinear extension, so that one
gradient of task loss + costs reaches everything. Widths, then hardware and assignment, are frozen
for the last part. A budget is a penalty that grows as training goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.errors import InputError
from dse.assignment_relaxations import Draw, make_relaxation
from dse.augment import prepare_pictures
from dse.context import Context
from dse.design_objective import DesignObjective
from dse.handover import ROUNDINGS, objective_of
from dse.objective import calc_excess, calc_terms, scalarise
from dse.policy import decode_ordinals, initial_raw
from dse.relaxed import extend_objective, sample_ordinals
from dse.requests import preference_vector
from dse.search import Polished, polish
from dse.training import (
    batch_indices,
    calc_learning_rate,
    cross_entropy,
    make_optimizer,
)

Array = jax.Array


class JointPhase:
    """Trains weights and one design together. State: both, and their optimizers' leaves."""

    name = "joint"

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        if context.config.objective.scalarisation != "linear":
            raise InputError(
                key="objective.scalarisation",
                value=context.config.objective.scalarisation,
                allowed="linear with method: joint",
            )
        self.context = context
        self.settings = context.config.joint
        self.preference = preference_vector(context.config.joint.preference)
        self.steps = self.settings.steps
        self.weight_optimizer = make_optimizer(context.config.training)
        self.design_optimizer = optax.scale_by_adam()

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the tables and make the step."""
        self.objective = objective_of(self.context, outputs)
        self.table = jnp.asarray(self.objective.finite_table())
        self.reference = outputs["tables"]["reference"]
        shape = self.objective.shape
        name = self.context.config.assignment.relaxation
        self.relaxation = make_relaxation(name, shape.layers, shape.cores)
        self.joint_step = self._make_step()

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Fresh weights and a middling design."""
        params, stats = self.context.net.init(jax.random.key(self.context.config.seed))
        ordinals, assignment = self.reference
        shape = self.objective.shape
        start = initial_raw(shape, ordinals[len(shape.max_widths) :], assignment)
        start = start[: len(shape.ordinal_high)]
        raw = jnp.concatenate([start, self.relaxation.start(assignment)], dtype=jnp.float32)
        return {
            "params": params,
            "stats": stats,
            "raw": raw,
            "optimizer": jax.tree.leaves(self.weight_optimizer.init(params)),
            "design_optimizer": jax.tree.leaves(self.design_optimizer.init(raw)),
            "frozen": np.full(len(shape.ordinal_high), -1.0, np.float32),
            "frozen_assignment": np.full(shape.layers, -1, np.int32),
            "relaxed": np.zeros(len(shape.ordinal_high)),
            "drawn": np.zeros((shape.layers, ROUNDINGS), np.int32),
            "gaps": np.zeros(3),
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch on one rounding of the relaxed design."""
        config, train = self.context.config, self.context.data.train
        part = (index + 1) / self.steps  # so that the last step is frozen whatever the shares
        state = self._freeze(state, part)
        first, last = self.settings.temperature
        chosen = batch_indices(config.seed, index, config.training.batch, len(train))
        params, leaves, raw, design_leaves, metrics = self.joint_step(
            state["params"],
            state["optimizer"],
            state["raw"],
            state["design_optimizer"],
            state["stats"],
            self.table,
            self.preference,
            config.seed,
            index,
            calc_learning_rate(config.training, index, self.steps),
            self.settings.design_learning_rate,
            first * (last / first) ** part,
            part,
            state["frozen"],
            state["frozen_assignment"],
            train.pictures[chosen],
            train.labels[chosen],
        )
        state = {
            **state,
            "params": params,
            "optimizer": leaves,
            "raw": raw,
            "design_optimizer": design_leaves,
        }
        return state, metrics

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Weights and the design, in the form in which `selection` hands designs on."""
        chosen = {
            "preference": self.preference[:, None],
            "ordinals": state["frozen"].astype(int)[:, None],
            "assignment": state["frozen_assignment"].astype(int)[:, None],
            "relaxed": state["relaxed"][:, None],
            "drawn": state["drawn"][:, :, None],
            "gaps": state["gaps"][:, None],
        }
        return {"params": state["params"], "stats": state["stats"], "chosen": chosen}

    def _freeze(self, state: dict[str, Any], part: float) -> dict[str, Any]:
        """Round the widths when they are due; later polish hardware and assignment and keep them.

        What is left of the training then adapts the weights to the very design that is reported.
        """
        shape = self.objective.shape
        widths_due = part >= self.settings.freeze_widths and state["frozen"][0] < 0
        all_due = part >= self.settings.freeze_assignment and state["frozen_assignment"][0] < 0
        if not (widths_due or all_due):
            return state
        raw = np.asarray(state["raw"])[:, None]
        ordinals = decode_ordinals(shape, raw[: len(shape.ordinal_high)], np)
        is_width = np.arange(len(shape.ordinal_high)) < len(shape.max_widths)
        open_ = state["frozen"] < 0
        relaxed = np.where(open_, ordinals[:, 0], state["relaxed"])
        nearest = np.clip(np.round(relaxed), shape.ordinal_low, shape.ordinal_high)
        frozen = np.where(is_width & open_, nearest, state["frozen"]).astype(np.float32)
        if not all_due:
            relaxed = np.where(is_width, relaxed, state["relaxed"])
            return {**state, "frozen": frozen, "relaxed": relaxed}
        parameters = raw[len(shape.ordinal_high) :]
        # as it is drawn last: the relaxed assignment before it is rounded
        first, last = self.settings.temperature
        drawn = self.relaxation.draw(
            jax.random.fold_in(jax.random.key(self.context.config.seed), 7),
            jnp.repeat(jnp.asarray(parameters), ROUNDINGS, axis=1),
            first * (last / first) ** part,
        ).assignment
        # shared hardware too: a single design has a chip of its own
        free = ~is_width & (self.context.config.hardware.mode != "fixed")
        found = polish(
            self.objective,
            self.preference,
            nearest.astype(int),
            self.relaxation.round(parameters)[:, 0],
            free,
        )
        found = self._from_reference(found, free)
        return {
            **state,
            "frozen": found.ordinals.astype(np.float32),
            "frozen_assignment": found.assignment.astype(np.int32),
            "relaxed": relaxed,
            "drawn": np.asarray(drawn, np.int32),
            "gaps": np.array([found.gap_before, found.gap_after, found.hardware_gap]),
        }

    def _from_reference(self, found: Polished, free: np.ndarray) -> Polished:
        """The better of a polished design and of what the search makes of the reference's
        assignment and hardware with the same widths: single steps do not lead from every
        assignment to the best.
        """
        ordinals, assignment = self.reference
        start = np.where(free, ordinals, found.ordinals).astype(int)
        other = polish(self.objective, self.preference, start, assignment, free)
        ordinals = np.stack([found.ordinals, other.ordinals], axis=1)
        assignment = np.stack([found.assignment, other.assignment], axis=1)
        if np.argmin(self.objective.value(self.preference[:, None], ordinals, assignment)) == 0:
            return found
        return replace(other, gap_before=found.gap_before, hardware_gap=found.hardware_gap)

    def _make_step(self) -> Any:
        context, shape = self.context, self.objective.shape
        net, training = context.net, context.config.training
        params_shape = jax.eval_shape(net.init, jax.random.key(0))[0]
        weight_tree = jax.tree.structure(jax.eval_shape(self.weight_optimizer.init, params_shape))
        relaxation, count = self.relaxation, len(shape.ordinal_high)
        start = jnp.zeros(count + relaxation.size)
        design_tree = jax.tree.structure(self.design_optimizer.init(start))
        ends = edge_ends(context)
        task_scale = context.config.objective.task_scale

        def cost_value(objective: DesignObjective, preference: Array, part: Array) -> Any:
            def value(ordinals: Array, assignment: Array, which: Array) -> Array:
                costs = objective.costs(ordinals, assignment, jnp)
                terms = calc_terms(0.0, costs, objective.reference, task_scale, jnp)
                weighted = scalarise(
                    preference[:, None],
                    [0.0 * terms[1], *terms[1:]],
                    "linear",
                    objective.settings.smoothness,
                    jnp,
                )
                rising = 1.0 + 19.0 * part  # to `EXCESS_WEIGHT` of the search that follows
                return weighted + rising * calc_excess(costs, objective.budgets, jnp)

            return value

        def step(
            params: Any,
            leaves: Any,
            raw: Array,
            design_leaves: Any,
            stats: Any,
            table: Array,
            preference: Array,
            seed: Any,
            index: Any,
            learning_rate: Any,
            design_learning_rate: Any,
            temperature: Any,
            part: Any,
            frozen: Array,
            frozen_assignment: Array,
            pictures: Array,
            labels: Array,
        ) -> Any:
            corner_key, picture_key = jax.random.split(
                jax.random.fold_in(jax.random.key(seed + 2), index)
            )
            pictures = prepare_pictures(picture_key, pictures, training, context.data.scaling)
            objective = self.objective.for_jax(table)

            def loss_fn(params: Any, raw: Array) -> Any:
                ordinals = decode_ordinals(shape, raw[:count, None])
                ordinals = jnp.where(frozen[:, None] >= 0, frozen[:, None], ordinals)
                round_key, core_key = jax.random.split(corner_key)
                hard = jax.lax.stop_gradient(sample_ordinals(round_key, shape, ordinals))
                draw = relaxation.draw(core_key, raw[count:, None], temperature)
                draw = _hold(draw, frozen_assignment)
                value = cost_value(objective, preference, part)
                cost = extend_objective(value, shape, hard, draw, ordinals)[0]
                relaxed = ordinals[: len(shape.max_widths), 0]
                widths = shape.widths(hard)[:, 0] + relaxed - jax.lax.stop_gradient(relaxed)
                crossing = crossing_flags(ends, draw)
                widths, crossing = (_materialised(x) for x in (widths, crossing))
                logits_out, _ = net.apply(params, stats, pictures, widths, crossing, "batch")
                task = cross_entropy(logits_out, labels, training.label_smoothing)
                correct = jnp.mean(jnp.argmax(logits_out, -1) == labels)
                total = preference[0] * task_scale * task + cost
                return total, {"task": task, "cost": cost, "accuracy": correct}

            (loss, metrics), (grad, design_grad) = jax.value_and_grad(
                loss_fn, argnums=(0, 1), has_aux=True
            )(params, raw)
            updates, state = self.weight_optimizer.update(
                grad, jax.tree.unflatten(weight_tree, leaves), params
            )
            params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
            moves, design_state = self.design_optimizer.update(
                design_grad, jax.tree.unflatten(design_tree, design_leaves)
            )
            return (
                params,
                jax.tree.leaves(state),
                raw - design_learning_rate * moves,
                jax.tree.leaves(design_state),
                {**metrics, "loss": loss},
            )

        return jax.jit(step, donate_argnums=(0, 1, 2, 3))


def edge_ends(context: Context) -> np.ndarray:
    """[network edges, 2] producing and consuming layer of each edge."""
    ends = []
    for edge in context.net.edges:
        tensor = context.boundaries[edge.boundary].tensor
        producer = context.workload.tensors[tensor].producer
        ends.append((producer, context.workload.index(edge.consumer)))
    return np.array(ends)


def _materialised(numbers: Array) -> Array:
    """f32[n] the same numbers, computed once.

    XLA would compute them, draws included, anew for every element of the tensors that they scale;
    a product with the identity it does not take apart.
    """
    return jnp.dot(numbers, jnp.eye(len(numbers)), precision="highest")


def _hold(draw: Draw, frozen: Array) -> Draw:
    """The draw, or without any gradient the assignment that is kept once it is there."""
    held = frozen[0] >= 0
    return Draw(
        jnp.where(held, frozen[:, None], draw.assignment),
        jnp.where(held, frozen[:, None, None], draw.neighbours),
        jnp.where(held, 0.0, draw.weights),
    )


def crossing_flags(ends: np.ndarray, draw: Draw) -> Array:
    """[network edges] hard 0/1 gates with the gradient of the probability of crossing.

    Args:
        ends: producing and consuming layer of each edge.
        draw: of one design.
    """
    here, there = ends[:, 0], ends[:, 1]
    hard = (draw.assignment[here, 0] != draw.assignment[there, 0]).astype(jnp.float32)
    crosses = (draw.neighbours[here, :, 0] != draw.neighbours[there, :, 0]).astype(jnp.float32)
    return hard + draw.estimate(crosses.T)  # one design: weights [columns, 1]
