"""Bi and Bc as relaxed widths: prefix masks on the bases while training, fewer bases after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from costs.insitu import Factors
from models.insitu import Masks
from models.relax import get_relaxation


@dataclass(frozen=True)
class BaseWidths:
    """The two widths of one kernel's factors, each where its level exists.

    Attributes:
        factors: At the largest widths.
        relaxation: Name in `models.relax.RELAXATIONS`, one whose parameter is the width itself.
    """

    factors: Factors
    relaxation: str = "stochastic"

    @property
    def largest(self) -> tuple[int, int]:
        """Largest Bi and Bc; 1 where the level does not exist."""
        kernels, intra, _ = self.factors.basis
        return intra if self.factors.coefficients else 1, kernels if self.factors.mixing else 1

    def sample(self, widths: jax.Array, key: jax.Array) -> Masks:
        """Masks of the bases that are open in one step, with the gradient of the widths f32[2]."""
        sample = get_relaxation(self.relaxation).sample
        keys = jax.random.split(key)
        masks = [
            sample(jnp.clip(widths[i], 1.0, largest), largest, keys[i], 1.0)
            for i, largest in enumerate(self.largest)
        ]
        return self._where_present(masks[0], masks[1])

    def calc_bits(self, masks: Masks) -> jax.Array | float:
        """Stored bits of the open bases [bit], differentiable in the masks."""
        kernels, rows, taps = self.factors.basis
        bases = self.factors.bases
        intra = rows if masks[0] is None else jnp.sum(masks[0])
        cross = kernels if masks[1] is None else jnp.sum(masks[1])
        bits = cross * intra * taps * bases.bits_b
        if self.factors.coefficients:
            bits = bits + cross * self.factors.coefficients[1] * intra * bases.bits_u
        if self.factors.mixing:
            bits = bits + self.factors.mixing[0] * cross * bases.bits_v
        return bits

    def cut(
        self, arrays: Mapping[str, jax.Array], widths: tuple[int, int]
    ) -> tuple[Factors, dict[str, jax.Array]]:
        """The factors with the closed bases really removed; the same kernel."""
        intra, cross = widths
        kernels, rows, taps = self.factors.basis
        rows = intra if self.factors.coefficients else rows
        kernels = cross if self.factors.mixing else kernels
        coefficients, mixing = self.factors.coefficients, self.factors.mixing
        factors = replace(
            self.factors,
            basis=(kernels, rows, taps),
            coefficients=coefficients and (kernels, coefficients[1], rows),
            mixing=mixing and (mixing[0], kernels),
        )
        shapes = zip(("basis", "coefficients", "mixing"), factors.shapes, strict=True)
        return factors, {
            name: arrays[name][tuple(map(slice, shape))] for name, shape in shapes if shape
        }

    def _where_present(self, intra: jax.Array, cross: jax.Array) -> Masks:
        factors = self.factors
        return intra if factors.coefficients else None, cross if factors.mixing else None


def round_widths(widths: jax.Array) -> tuple[int, int]:
    """The integer widths of a relaxed pair, half up, at least 1."""
    intra, cross = (max(1, math.floor(float(width) + 0.5)) for width in widths)
    return intra, cross
