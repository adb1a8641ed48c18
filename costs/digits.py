"""Counting in a mixed radix: how many tiles, instances and iterations a clipped loop nest has.

The index of a dimension is written with one digit per temporal loop and spatial factor, outermost
first; an index at or beyond the bound is not executed. All functions are exact in floating point
as long as the numbers are (2**53 in float64, 2**24 in float32), and broadcast over leading axes.
Equations in docs/theory/access_counts.md.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from costs.encode import Array


def calc_weights(factor: Array, xp: ModuleType) -> Array:
    """Place value of every digit: the product of the radices inside it. [..., m] -> [..., m]."""
    inside = [xp.ones_like(factor[..., 0])]
    for m in range(factor.shape[-1] - 1, 0, -1):
        inside.append(inside[-1] * factor[..., m])
    return xp.stack(inside[::-1], axis=-1)


def calc_valid(factor: Array, weight: Array, free: Array, bound: Array, xp: ModuleType) -> Array:
    """Number of settings of the free digits, the others being 0, whose index is below the bound.

    Args:
        factor: [..., m] radix of each digit.
        weight: [..., m] its place value.
        free: [..., m] whether the digit runs.
        bound: [...] first index that is not executed, at least 1.
        xp: array namespace.

    Returns:
        [...] number of settings (eq. 2).
    """
    inner = xp.ones_like(bound)
    inners = [inner]
    for m in range(factor.shape[-1] - 1, 0, -1):
        inner = inner * xp.where(free[..., m], factor[..., m], 1.0)
        inners.append(inner)
    total = xp.ones_like(bound)
    rest = bound
    for m in range(factor.shape[-1]):
        place = weight[..., m]
        last = xp.floor((rest - 0.5) / place)
        total = total + xp.where(free[..., m], last * inners[-1 - m], 0.0)
        rest = xp.where(free[..., m], rest - last * place, xp.minimum(rest, place))
    return total


def calc_last(factor: Array, weight: Array, free: Array, bound: Array, xp: ModuleType) -> Array:
    """The largest valid setting of the free digits, the others being 0. [..., m] (eq. 3)."""
    digits = []
    rest = bound
    for m in range(factor.shape[-1]):
        place = weight[..., m]
        last = xp.floor((rest - 0.5) / place)
        digits.append(xp.where(free[..., m], last, 0.0))
        rest = xp.where(free[..., m], rest - last * place, xp.minimum(rest, place))
    return xp.stack(digits, axis=-1)


def sum_last(values: Array) -> Array:
    """Sum over the last axis, in order, so that a batch and a single case agree to the last bit."""
    total = values[..., 0]
    for index in range(1, values.shape[-1]):
        total = total + values[..., index]
    return total


def prod_last(values: Array) -> Array:
    """Product over the last axis, in order."""
    total = values[..., 0]
    for index in range(1, values.shape[-1]):
        total = total * values[..., index]
    return total


def max_last(values: Array, xp: ModuleType) -> Array:
    """Largest entry along the last axis."""
    total = values[..., 0]
    for index in range(1, values.shape[-1]):
        total = xp.maximum(total, values[..., index])
    return total


def as_rank(constant: np.ndarray, like: Array) -> np.ndarray:
    """The constant with leading axes of length 1, as many axes as `like` has."""
    return constant.reshape((1,) * (like.ndim - constant.ndim) + constant.shape)
