"""Sums and choices over designs, in an order that does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Array = Any
"""A numpy or jax array, by the caller's choice of namespace."""


def ordered_sum(terms: Iterable[Array]) -> Array:
    """Sum in the order given: no pairwise summation, so that batching changes no bit."""
    total = 0.0
    for term in terms:
        total = total + term
    return total


def any_of(flags: Sequence[Array], nowhere: Array) -> Array:
    """Whether any of the flags [designs] holds; `nowhere` is false everywhere."""
    found = flags[0] if flags else nowhere
    for flag in flags[1:]:
        found = found | flag
    return found


def of_core(values: Sequence[Array], on_core: Sequence[Array], xp: Any) -> Array:
    """[designs] of the values [cores][designs] the one of the core where `on_core` holds."""
    found = values[0]
    for value, here in zip(values[1:], on_core[1:], strict=True):
        found = xp.where(here, value, found)
    return found
