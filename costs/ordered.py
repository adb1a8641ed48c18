"""Sums whose order does not depend on how many designs are evaluated together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Array = Any
"""A numpy or jax array, by the caller's choice of namespace."""


def ordered_sum(terms: Iterable[Array]) -> Array:
    """Sum in the order given: no pairwise summation, so that batching changes no bit."""
    total = 0.0
    for term in terms:
        total = total + term
    return total
