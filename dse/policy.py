"""Phase (c), policy: from preference to design, on extended costs and predicted accuracy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.context import Context
from dse.design_objective import DesignObjective
from dse.handover import objective_of
from dse.objective import TERMS, sample_preferences
from dse.relaxed import Shape, extended_objective, sample_corner

Array = jax.Array

REFERENCE_LOGIT = 1.0  # the assignment starts near that of the reference design
SHARED_GAIN = 10.0  # the parameters of one chip for all move so much faster than a weight


def decode(shape: Shape, raw: Any, xp: Any = jnp) -> tuple[Any, Any]:
    """Unbounded parameters to a relaxed design.

    Widths are geometric in their parameter, from the smallest to all channels; knobs are linear in
    the index of their (geometric) grid.

    Args:
        shape: design space.
        raw: [ordinals + layers * cores, designs].
        xp: numpy or jax.numpy.

    Returns:
        ordinals [ordinals, designs] and logits [layers, cores, designs].
    """
    count = len(shape.ordinal_high)
    logits = raw[count:].reshape(shape.layers, shape.cores, -1)
    return decode_ordinals(shape, raw[:count], xp), logits


def decode_ordinals(shape: Shape, raw: Any, xp: Any = jnp) -> Any:
    """Real ordinals [ordinals, designs] of unbounded parameters of the same shape."""
    part = 1.0 / (1.0 + xp.exp(-raw))
    low, top = (end[:, None].astype(np.float32) for end in (shape.ordinal_low, shape.ordinal_high))
    is_width = (np.arange(len(raw)) < len(shape.max_widths))[:, None]
    span = np.log(np.maximum(top, 1.0) / np.maximum(low, 1.0))
    return xp.where(is_width, low * xp.exp(part * span), part * top)


def initial_raw(shape: Shape, knobs: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Parameters of a middling start: half-way widths, near the given knobs and assignment.

    Args:
        shape: design space.
        knobs: [knobs] grid indices, flat.
        assignment: [layers].
    """
    top = shape.ordinal_high[len(shape.max_widths) :]
    part = np.clip((knobs + 0.5) / (top + 1.0), 0.05, 0.95)
    logits = REFERENCE_LOGIT * np.eye(shape.cores)[assignment]
    return np.concatenate(
        [np.zeros(len(shape.max_widths)), np.log(part / (1 - part)), logits.ravel()]
    ).astype(np.float32)


def init_policy(key: Array, hidden: int, start: np.ndarray) -> dict[str, Array]:
    """Parameters of a two-layer perceptron whose output begins at `start`."""
    first, second, third = jax.random.split(key, 3)
    inputs = 2 * len(TERMS)
    return {
        "w1": jax.random.normal(first, (inputs, hidden)) / np.sqrt(inputs),
        "b1": jnp.zeros(hidden),
        "w2": jax.random.normal(second, (hidden, hidden)) / np.sqrt(hidden),
        "b2": jnp.zeros(hidden),
        "w3": 0.1 * jax.random.normal(third, (hidden, len(start))) / np.sqrt(hidden),
        "b3": jnp.asarray(start),
    }


def apply_policy(params: dict[str, Any], preference: Any, xp: Any = jnp) -> Any:
    """[outputs, designs] unbounded parameters for preferences [5, designs]."""
    inputs = xp.concatenate([preference, xp.log(preference + 0.01)])
    hidden = xp.tanh(params["w1"].T @ inputs + params["b1"][:, None])
    hidden = xp.tanh(params["w2"].T @ hidden + params["b2"][:, None])
    return params["w3"].T @ hidden + params["b3"][:, None]


def propose(
    shape: Shape, params: dict[str, Any], preference: Any, xp: Any = jnp
) -> tuple[Any, Any]:
    """The policy's relaxed designs for preferences [5, designs]; returns as `decode`.

    With parameters `hardware` [knobs] the hardware is theirs, whatever the preference: the gradient
    of a mean over preferences then is that of the expected objective of one chip.
    """
    raw = apply_policy(params, preference, xp)
    if "hardware" in params:
        widths, count = len(shape.max_widths), len(shape.ordinal_high)
        shared = SHARED_GAIN * params["hardware"][:, None] + 0.0 * raw[:1]
        raw = xp.concatenate([raw[:widths], shared, raw[count:]])
    return decode(shape, raw, xp)


class PolicyPhase:
    """Trains the policy. State: parameters, optimizer leaves."""

    name = "policy"

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.surface.policy
        self.steps = self.settings.steps
        rate = optax.cosine_decay_schedule(self.settings.learning_rate, self.steps, 0.05)
        self.optimizer = optax.adam(rate)

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take tables and predictor, and make the step."""
        self.objective = objective_of(self.context, outputs)
        self.table = jnp.asarray(self.objective.finite_table())
        ordinals, assignment = outputs["tables"]["reference"]
        widths = len(self.objective.shape.max_widths)
        self.start = initial_raw(self.objective.shape, ordinals[widths:], assignment)
        self.policy_step = self._make_step()

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """A policy that proposes about the same for every preference."""
        params = self._fresh()
        return {"params": params, "optimizer": jax.tree.leaves(self.optimizer.init(params))}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch of preferences."""
        rng = np.random.default_rng([self.context.config.seed, 4, index])
        preference = sample_preferences(rng, self.settings.batch, list(self.settings.terms))
        first, last = self.settings.temperature
        temperature = first * (last / first) ** (index / max(1, self.steps - 1))
        params, leaves, metrics = self.policy_step(
            state["params"],
            state["optimizer"],
            self.table,
            self.objective.finite_model(),
            preference,
            temperature,
            self.context.config.seed,
            index,
        )
        return {"params": params, "optimizer": leaves}, metrics

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The trained policy, and the temperature at which it is read."""
        return {"params": state["params"]}

    def _fresh(self) -> dict[str, Array]:
        key = jax.random.fold_in(jax.random.key(self.context.config.seed), 3)
        params = init_policy(key, self.settings.hidden, self.start)
        if self.context.config.hardware.mode == "shared":
            shape = self.objective.shape
            hardware = self.start[len(shape.max_widths) : len(shape.ordinal_high)]
            params["hardware"] = jnp.asarray(hardware / SHARED_GAIN)
        return params

    def _make_step(self) -> Any:
        objective, optimizer, shape = self.objective, self.optimizer, self.objective.shape
        treedef = jax.tree.structure(jax.eval_shape(optimizer.init, jax.eval_shape(self._fresh)))

        def step(
            params: Any,
            leaves: Any,
            table: Array,
            model: Any,
            preference: Array,
            temperature: Any,
            seed: Any,
            index: Any,
        ) -> Any:
            key = jax.random.fold_in(jax.random.key(seed + 1), index)
            on_table: DesignObjective = objective.for_jax(table, model)

            def value(ordinals: Array, assignment: Array, which: Array) -> Array:
                return on_table.value(preference[:, which], ordinals, assignment, jnp)

            def loss_fn(params: Any) -> Array:
                ordinals, logits = propose(shape, params, preference)
                logits = logits / temperature
                corner = sample_corner(key, shape, ordinals, logits)
                corner = jax.lax.stop_gradient(corner)
                return jnp.mean(extended_objective(value, shape, corner, ordinals, logits))

            loss, gradient = jax.value_and_grad(loss_fn)(params)
            updates, state = optimizer.update(gradient, jax.tree.unflatten(treedef, leaves), params)
            return optax.apply_updates(params, updates), jax.tree.leaves(state), {"loss": loss}

        return jax.jit(step, donate_argnums=(0, 1))
