"""Core assignment relaxed to continuous parameters: four relaxations behind one protocol.

Each relaxation is a random assignment whose distribution follows from real parameters: noise is
added to them and the result is made discrete. What is costed is always the discrete assignment.
The gradient comes from its *neighbours*: the noise of one coordinate (a layer's core, a cut's
position, a core's place in the order) is integrated out with all others held, which leaves a few
discrete assignments and their probabilities, differentiable in that coordinate's parameter. The
sum of d(probability) x (exact cost of the neighbour) is an unbiased estimate of the gradient of the
expected cost, however rough the cost is. Equations are in docs/theory/relaxations.md.

    softmax    every layer by itself; probabilities annealed by the temperature
    gumbel     the same forward pass, straight-through gradient of a tempered softmax (biased)
    cuts       contiguous stages between noisy monotone cuts, on cores in a noisy order
    perturbed  the exact contiguous partition of noisy scores, on cores in a noisy order
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from costs.errors import InputError
from dse.best_stages import solve_ordered, solve_through

Array = jax.Array

START = 1.0  # score by which a start prefers what it is given
SMALLEST_STAGE = 0.5  # layers; so that a core that the start leaves out can be found


class Draw(NamedTuple):
    """One discrete assignment per design, and what the gradient needs.

    Attributes:
        assignment: [layers, designs] core of each layer.
        neighbours: [layers, columns, designs] the assignments that differ in one coordinate.
        weights: [columns, designs] their probabilities up to constants, differentiable.
    """

    assignment: Array
    neighbours: Array
    weights: Array

    def estimate(self, values: Array) -> Array:
        """[designs] zero, with the gradient of the expectation of what the neighbours give.

        Args:
            values: [columns, designs] of the neighbours.
        """
        change = self.weights - jax.lax.stop_gradient(self.weights)
        return jnp.sum(change * values, axis=0)


class AssignmentRelaxation(Protocol):
    """A distribution over the assignments of `layers` to `cores`."""

    @property
    def layers(self) -> int:
        """Number of layers."""
        ...

    @property
    def cores(self) -> int:
        """Number of cores."""
        ...

    @property
    def size(self) -> int:
        """Number of real parameters of one design."""
        ...

    def start(self, assignment: np.ndarray) -> np.ndarray:
        """[size] parameters that prefer an assignment [layers], without deciding for it."""
        ...

    def draw(self, key: Array, parameters: Array, temperature: Any) -> Draw:
        """One assignment for each design.

        Args:
            key: random key.
            parameters: [size, designs].
            temperature: above zero; the scale of the noise (of the gradient's softness alone with
                `gumbel`).
        """
        ...

    def round(self, parameters: Any) -> np.ndarray:
        """[layers, designs] the assignment without noise: the limit of zero temperature."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Layer l on core k with probability softmax(logits[l] / temperature)[k], independently."""

    layers: int
    cores: int

    @property
    def size(self) -> int:
        """A logit for each layer and core."""
        return self.layers * self.cores

    def start(self, assignment: np.ndarray) -> np.ndarray:
        """One-hot logits."""
        return (START * np.eye(self.cores)[assignment]).ravel()

    def draw(self, key: Array, parameters: Array, temperature: Any) -> Draw:
        """Exact gradient of the multilinear extension, given the other layers' cores."""
        logits = parameters.reshape(self.layers, self.cores, -1) / temperature
        noisy = jax.lax.stop_gradient(logits) + jax.random.gumbel(key, logits.shape)
        return layer_moves(jnp.argmax(noisy, axis=1), jax.nn.softmax(logits, axis=1))

    def round(self, parameters: Any) -> np.ndarray:
        """The likeliest core of each layer."""
        logits = np.asarray(parameters).reshape(self.layers, self.cores, -1)
        return np.argmax(logits, axis=1)


@dataclass(frozen=True)
class Gumbel(Softmax):
    """Gumbel straight-through (Jang et al., ICLR 2017): argmax forward, tempered softmax backward.

    The cost is multilinear in one-hot vectors, so its derivative in them, which the estimator
    multiplies with, is the exact cost of each single move.
    """

    def draw(self, key: Array, parameters: Array, temperature: Any) -> Draw:
        """Biased, less so at a low temperature, where its variance is high."""
        logits = parameters.reshape(self.layers, self.cores, -1)
        noisy = logits + jax.random.gumbel(key, logits.shape)
        return layer_moves(jnp.argmax(noisy, axis=1), jax.nn.softmax(noisy / temperature, axis=1))


def layer_moves(assignment: Array, chance: Array) -> Draw:
    """The neighbours that put one layer elsewhere; chance [layers, cores, designs]."""
    layers, cores, designs = chance.shape
    layer, core = np.divmod(np.arange(layers * cores), cores)
    moves = jnp.broadcast_to(assignment[:, None, :], (layers, layers * cores, designs))
    moves = moves.at[layer, np.arange(layers * cores), :].set(core[:, None])
    return Draw(assignment, moves, chance.reshape(layers * cores, designs))


@dataclass(frozen=True)
class Cuts:
    """Contiguous stages: cut k at round(layers * cumsum(softmax(x))[k] + logistic noise).

    A layer is in as many stages' wake as cuts lie before it; stages take the cores in the order of
    their noisy scores. Without the noise of the others, layer l lies between cuts k - 1 and k with
    probability sigmoid((l + 1/2 - b[k-1]) / T) - sigmoid((l + 1/2 - b[k]) / T).
    """

    layers: int
    cores: int

    @property
    def size(self) -> int:
        """Logarithms of the stages' lengths, scores of the cores."""
        return 2 * self.cores

    def start(self, assignment: np.ndarray) -> np.ndarray:
        """Stage lengths as given, cores by the mean position of their layers."""
        order, count = _order_of(assignment, self.cores)
        length = np.log(np.maximum(count[order], SMALLEST_STAGE))
        return np.concatenate([length, _scores_of(order)])

    def draw(self, key: Array, parameters: Array, temperature: Any) -> Draw:
        """Unbiased: all positions of one cut, all places of one core."""
        return _draw_each(self._draw, key, parameters, temperature)

    def round(self, parameters: Any) -> np.ndarray:
        """Cuts and order without noise."""
        return np.asarray(_round_each(self, jnp.asarray(parameters)))

    def _means(self, parameters: Array) -> Array:
        return self.layers * jnp.cumsum(jax.nn.softmax(parameters[: self.cores]))[:-1]

    def _stages(self, cuts: Array) -> Array:
        """[layers] number of cuts at or before each layer; their order does not matter."""
        return jnp.sum(cuts[:, None] <= jnp.arange(self.layers)[None], axis=0)

    def round_one(self, parameters: Array) -> Array:
        """[layers] of one design's parameters [size]."""
        cuts = jnp.round(self._means(parameters))
        return jnp.argsort(-parameters[self.cores :])[self._stages(cuts)]

    def _draw(self, key: Array, parameters: Array, temperature: Any) -> tuple[Array, ...]:
        layers, cores = self.layers, self.cores
        cut_key, order_key = jax.random.split(key)
        mean = self._means(parameters)
        noise = temperature * jax.random.logistic(cut_key, mean.shape)
        cuts = jnp.clip(jnp.round(mean + noise), 0, layers)
        order, orders, order_weights = _draw_order(order_key, parameters[cores:], temperature)

        below = jax.nn.sigmoid(((np.arange(layers) + 0.5)[None] - mean[:, None]) / temperature)
        below = jnp.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0.0, 1.0)))
        cut_weights = jnp.diff(below, axis=1)  # [cuts, positions 0 .. layers]
        moved = jnp.where(
            np.eye(cores - 1, dtype=bool)[:, None, :],
            np.arange(layers + 1.0)[None, :, None],
            cuts[None, None],
        ).reshape((cores - 1) * (layers + 1), cores - 1)
        stages = self._stages(cuts)
        neighbours = jnp.concatenate(
            [order[jax.vmap(self._stages)(moved)], orders[:, stages]], axis=0
        )
        weights = jnp.concatenate([cut_weights.ravel(), order_weights])
        return order[stages], neighbours.T, weights


@dataclass(frozen=True)
class Perturbed:
    """The contiguous partition of the largest total noisy score (Berthet et al., NeurIPS 2020).

    The solver is a dynamic program over layers and cores, the cores in the order of their noisy
    scores. As one score rises, the optimum changes once, from the best partition without (layer,
    core) to the best with it: the program gives both and the threshold for all pairs at once, so
    that the noise of one score is integrated out exactly instead of by sampling.
    """

    layers: int
    cores: int

    @property
    def size(self) -> int:
        """A score for each layer and core, scores of the cores' order."""
        return (self.layers + 1) * self.cores

    def start(self, assignment: np.ndarray) -> np.ndarray:
        """One-hot scores, cores by the mean position of their layers."""
        order, _ = _order_of(assignment, self.cores)
        score = START * np.eye(self.cores)[assignment]
        return np.concatenate([score.ravel(), _scores_of(order)])

    def draw(self, key: Array, parameters: Array, temperature: Any) -> Draw:
        """Unbiased: with and without each (layer, core), all places of one core."""
        return _draw_each(self._draw, key, parameters, temperature)

    def round(self, parameters: Any) -> np.ndarray:
        """The exact partition of the scores without noise."""
        return np.asarray(_round_each(self, jnp.asarray(parameters)))

    def _split(self, parameters: Array) -> tuple[Array, Array]:
        count = self.layers * self.cores
        return parameters[:count].reshape(self.layers, self.cores), parameters[count:]

    def round_one(self, parameters: Array) -> Array:
        """[layers] of one design's parameters [size]."""
        score, places = self._split(parameters)
        order = jnp.argsort(-places)
        return order[solve_ordered(score[:, order])]

    def _draw(self, key: Array, parameters: Array, temperature: Any) -> tuple[Array, ...]:
        cores = self.cores
        score_key, order_key = jax.random.split(key)
        mean, places = self._split(parameters)
        noisy = mean + temperature * jax.random.gumbel(score_key, mean.shape)
        noisy = jax.lax.stop_gradient(noisy)
        order, orders, order_weights = _draw_order(order_key, places, temperature)
        best, through = solve_through(noisy[:, order])  # cores by their place
        others = jnp.where(np.eye(cores, dtype=bool), -jnp.inf, best[:, None, :])
        second, without = jnp.max(others, axis=-1), jnp.argmax(others, axis=-1)
        threshold = jax.lax.stop_gradient(second - best + noisy[:, order])
        chance = _gumbel_above((threshold - mean[:, order]) / temperature)
        weights = chance - jnp.sum(
            chance[:, :, None] * jax.nn.one_hot(without, cores), axis=1
        )  # where the pair is left out, its place's second best is taken
        again = jax.vmap(lambda o: o[solve_ordered(noisy[:, o])])(orders)
        neighbours = jnp.concatenate([order[through], again], axis=0)
        assignment = order[through[jnp.argmax(best[0])]]
        return assignment, neighbours.T, jnp.concatenate([weights.ravel(), order_weights])


def _gumbel_above(threshold: Array) -> Array:
    """P(standard Gumbel noise > threshold)."""
    return -jnp.expm1(-jnp.exp(-threshold))


def _draw_order(key: Array, scores: Array, temperature: Any) -> tuple[Array, Array, Array]:
    """Cores by falling noisy score, and the orders in which one core takes another place.

    Args:
        key: random key.
        scores: [cores].
        temperature: scale of the Gumbel noise.

    Returns:
        [cores] the order, [cores * cores, cores] its neighbours (core, place) and their weights.
    """
    cores = len(scores)
    noisy = jax.lax.stop_gradient(scores + temperature * jax.random.gumbel(key, scores.shape))
    order = jnp.argsort(-noisy)
    place_of = jnp.argsort(order)
    index = np.arange(cores)
    rest_at = index[None, :-1] + (index[None, :-1] >= place_of[:, None])  # [core, others]
    rest = order[rest_at]
    into = np.clip(index[None, :] - (index[None, :] > index[:, None]), 0, max(cores - 2, 0))
    orders = (
        jnp.where(np.eye(cores, dtype=bool)[None], index[:, None, None], rest[:, into])
        if cores > 1
        else jnp.zeros((1, 1, 1), int)
    )
    below = 1.0 - _gumbel_above((noisy[rest] - scores[:, None]) / temperature)
    below = jnp.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (1.0, 0.0)))
    return order, orders.reshape(-1, cores), -jnp.diff(below, axis=1).ravel()


def _order_of(assignment: np.ndarray, cores: int) -> tuple[np.ndarray, np.ndarray]:
    """[cores] by mean position of their layers, unused ones last, and [cores] layers of each."""
    count = np.bincount(assignment, minlength=cores)
    position = np.bincount(assignment, np.arange(len(assignment)), minlength=cores)
    mean = np.where(count > 0, position / np.maximum(count, 1), np.inf)
    return np.argsort(mean, kind="stable"), count


def _scores_of(order: np.ndarray) -> np.ndarray:
    scores = np.empty(len(order))
    scores[order] = -START * np.arange(len(order))
    return scores


def _draw_each(draw: Any, key: Array, parameters: Array, temperature: Any) -> Draw:
    keys = jax.random.split(key, parameters.shape[1])
    return Draw(*jax.vmap(draw, in_axes=(0, 1, None), out_axes=-1)(keys, parameters, temperature))


@functools.partial(jax.jit, static_argnums=0)
def _round_each(relaxation: Any, parameters: Array) -> Array:
    return jax.vmap(relaxation.round_one, in_axes=1, out_axes=1)(parameters)


RELAXATIONS: dict[str, type] = {
    "softmax": Softmax,
    "gumbel": Gumbel,
    "cuts": Cuts,
    "perturbed": Perturbed,
}


def make_relaxation(name: str, layers: int, cores: int) -> AssignmentRelaxation:
    """The relaxation of this name.

    Raises:
        InputError: listing the names.
    """
    if name not in RELAXATIONS:
        raise InputError("no such relaxation of assignments", value=name, allowed=RELAXATIONS)
    return RELAXATIONS[name](layers, cores)
