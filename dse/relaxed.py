"""Designs relaxed to continuous parameters, and the gradient of their multilinear extension.

A relaxed design is a real width for every boundary, a real grid position for every hardware knob
and logits over cores for every layer. It stands for independent rounding: widths and knobs go to
one of their two neighbours with the fraction as probability, layers to a core drawn from the
softmax. The expected objective of that rounding is the multilinear extension of the exact
objective, in every coordinate at once, so its derivative in one coordinate is the difference of
the exact objective between the two neighbours, averaged over the others. `extended_objective`
draws one corner and takes these differences there, all in one vectorised call: an unbiased
gradient that sees tail effects, capacity steps, maxima over cores and the assignment alike, while
the value that it returns is always the exact objective of an integer design.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from costs.problem import Problem
from dse.assignment_relaxations import Draw, layer_moves

Array = jax.Array


@dataclass(frozen=True)
class Shape:
    """Sizes of the design space. Static argument.

    Attributes:
        max_widths: [boundaries] channels of each boundary.
        largest_pairs: [boundaries] largest width of its pair; the next ordinal is "uncompressed".
        knob_sizes: [types, knobs] number of grid values.
        layers: number of layers.
        cores: number of cores.
        only_widths: [boundaries] the only width of each, or None where any will do; (): any.
    """

    max_widths: tuple[int, ...]
    largest_pairs: tuple[int, ...]
    knob_sizes: tuple[tuple[int, ...], ...]
    layers: int
    cores: int
    only_widths: tuple[int | None, ...] = ()

    @classmethod
    def of(cls, problem: Problem) -> Shape:
        """The design space of a problem."""
        return cls(
            problem.max_widths,
            problem.largest_pairs,
            tuple(t.shape for t in problem.chip.types),
            len(problem.workload.layers),
            len(problem.chip.cores),
            tuple(boundary.width for boundary in problem.boundaries),
        )

    @property
    def ordinal_low(self) -> np.ndarray:
        """[ordinals] smallest value: 1 for free widths, 0 for knobs; widths first."""
        widths = self._only(np.ones(len(self.max_widths)))
        return np.concatenate([widths, np.zeros(np.size(self.knob_sizes))])

    @property
    def ordinal_high(self) -> np.ndarray:
        """[ordinals] largest value."""
        widths = self._only(np.array(self.largest_pairs) + 1)
        return np.concatenate([widths, np.ravel(self.knob_sizes) - 1.0])

    def _only(self, ordinals: np.ndarray) -> np.ndarray:
        """Ordinals of widths [boundaries], those of only one width replaced by it."""
        given = zip(self.only_widths, self.largest_pairs, strict=True) if self.only_widths else ()
        for index, (width, largest) in enumerate(given):
            if width is not None:
                ordinals[index] = min(width, largest + 1)
        return ordinals

    def widths(self, ordinals: Any) -> Any:
        """Widths [boundaries, ...] of integer ordinals; uncompressed is all channels."""
        extra = (1,) * (ordinals.ndim - 1)
        largest = np.array(self.largest_pairs).reshape(-1, *extra)
        channels = np.array(self.max_widths).reshape(-1, *extra)
        given = ordinals[: len(self.max_widths)]
        return given + (given > largest) * (channels - given)

    def knobs(self, ordinals: Any) -> Any:
        """The knobs among the ordinals, [types, knobs, ...]."""
        return ordinals[len(self.max_widths) :].reshape(
            (len(self.knob_sizes), len(self.knob_sizes[0]), *ordinals.shape[1:])
        )


def split_ordinals(shape: Shape, ordinals: Any, xp: Any = np) -> tuple[Any, Any]:
    """Lower neighbour and fraction of real ordinals [ordinals, ...].

    The lower neighbour is never the last grid value, so that there is a difference to take there.
    A coordinate with a single grid value has fraction 0.
    """
    extra = (1,) * (ordinals.ndim - 1)
    low = shape.ordinal_low.reshape(-1, *extra)
    top = np.maximum(shape.ordinal_high - 1, shape.ordinal_low).reshape(-1, *extra)
    lower = xp.clip(xp.floor(ordinals), low, top)
    return lower, xp.clip(ordinals - lower, 0.0, 1.0)


def sample_corner(key: Array, shape: Shape, ordinals: Array, logits: Array) -> tuple[Array, Array]:
    """One independent rounding of each relaxed design.

    Args:
        key: random key.
        shape: design space.
        ordinals: [ordinals, designs] real.
        logits: [layers, cores, designs].

    Returns:
        [ordinals, designs] integer-valued floats and [layers, designs] core indices.
    """
    round_key, core_key = jax.random.split(key)
    noise = jax.random.gumbel(core_key, logits.shape)
    return sample_ordinals(round_key, shape, ordinals), jnp.argmax(logits + noise, axis=1)


def sample_ordinals(key: Array, shape: Shape, ordinals: Array) -> Array:
    """[ordinals, designs] one independent rounding of real ordinals [ordinals, designs]."""
    lower, fraction = split_ordinals(shape, ordinals, jnp)
    return lower + (jax.random.uniform(key, fraction.shape) < fraction)


def extended_objective(
    objective: Callable[[Array, Array, Array], Array],
    shape: Shape,
    corner: tuple[Array, Array],
    ordinals: Array,
    logits: Array,
) -> Array:
    """Exact objective at a corner, carrying the gradient of the multilinear extension.

    Args:
        objective: (ordinals [n, designs], assignment [layers, designs], which [designs]) to
            [designs]; `which` is the index of the relaxed design that a column belongs to.
        shape: design space.
        corner: of `sample_corner`.
        ordinals: [ordinals, designs] real.
        logits: [layers, cores, designs].

    Returns:
        [designs] values at the corner, differentiable in `ordinals` and `logits`.
    """
    hard, assignment = corner
    draw = layer_moves(assignment, jax.nn.softmax(logits, axis=1))
    return extend_objective(objective, shape, hard, draw, ordinals)


def extend_objective(
    objective: Callable[[Array, Array, Array], Array],
    shape: Shape,
    hard: Array,
    draw: Draw,
    ordinals: Array,
) -> Array:
    """Exact objective of drawn designs, carrying the gradient of its expectation.

    Args:
        objective: as for `extended_objective`.
        shape: design space.
        hard: [ordinals, designs] rounded ordinals.
        draw: assignments of any relaxation, with their neighbours.
        ordinals: [ordinals, designs] real.

    Returns:
        [designs] values at the drawn designs, differentiable in `ordinals` and `draw.weights`.
    """
    assignment, neighbours = draw.assignment, draw.neighbours
    count, designs = ordinals.shape
    layers, moves = neighbours.shape[:2]
    lower, _ = split_ordinals(shape, ordinals, jnp)
    flipped = jnp.where(hard > lower, lower, jnp.minimum(lower + 1, shape.ordinal_high[:, None]))

    # columns: the corner, one flip for each ordinal, the neighbours of the assignment
    eye = jnp.eye(count, dtype=bool)[:, :, None]
    flips = jnp.where(eye, flipped[:, None, :], hard[:, None, :])  # [n, flips, designs]
    stay = jnp.broadcast_to(hard[:, None, :], (count, 1 + moves, designs))
    same = jnp.broadcast_to(assignment[:, None, :], (layers, 1 + count, designs))
    all_ordinals = jnp.concatenate([stay[:, :1], flips, stay[:, 1:]], axis=1)
    all_assignments = jnp.concatenate([same, neighbours], axis=1)
    columns = 1 + count + moves
    which = jnp.tile(jnp.arange(designs), columns)
    values = jax.lax.stop_gradient(
        objective(
            all_ordinals.reshape(count, columns * designs),
            all_assignments.reshape(layers, columns * designs),
            which,
        ).reshape(columns, designs)
    )
    exact = values[0]
    sign = jnp.where(hard > lower, 1.0, -1.0)
    slope = sign * (exact[None] - values[1 : 1 + count])
    gradient_only = jnp.sum((ordinals - jax.lax.stop_gradient(ordinals)) * slope, axis=0)
    return exact + gradient_only + draw.estimate(values[1 + count :])


def extension_corners(shape: Shape, ordinals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All corners around real ordinals with their probabilities.

    Args:
        shape: design space.
        ordinals: [ordinals] real.

    Returns:
        [ordinals, corners] integers and [corners] probabilities that sum to one: the value of the
        extension is the sum of probability times exact value.
    """
    lower, fraction = split_ordinals(shape, ordinals)
    corners, chances = lower[:, None], np.ones(1)
    for i in np.flatnonzero(fraction > 0):
        upper = corners.copy()
        upper[i] += 1
        corners = np.concatenate([corners, upper], axis=1)
        chances = np.concatenate([chances * (1 - fraction[i]), chances * fraction[i]])
    return corners.astype(int), chances
