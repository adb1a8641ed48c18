"""Random designs to train and to measure on: widths, and which boundaries cross.

Half of the designs tie the widths, half draw them independently, log-uniform both; a share is
overwritten by all-minimum. Crossings are drawn boundary by boundary or, for a share of the designs,
taken from partitions that are cheap on the chip: of all patterns of crossings few are ever asked
for, and weights that are trained on all of them equally are good at none.
"""

from __future__ import annotations

import numpy as np

from costs.problem import Boundary
from dse.surface_spec import Weights

UNCOMPRESSED_SHARE = 0.1  # of boundaries; log-uniform widths alone hardly ever reach the top
WHOLE_SHARE = 0.8  # of boundaries: all their consumers are on one side


def sample_design(
    rng: np.random.Generator,
    boundaries: tuple[Boundary, ...],
    boundary_of_edge: np.ndarray,
    settings: Weights,
    cheap: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A random design.

    Args:
        rng: random generator.
        boundaries: bottlenecks.
        boundary_of_edge: [edges] boundary of each edge of the network.
        settings: shares of tied, of all-minimum and of cheap designs.
        cheap: [edges, patterns] crossings of cheap partitions, of `dse.weights.cheap_crossings`;
            None or empty: crossings are drawn boundary by boundary only.

    Returns:
        [boundaries] integer widths and [edges] 0/1 crossing flags, float32.
    """
    widths = sample_widths(rng, boundaries, settings)
    if cheap is not None and cheap.size and rng.uniform() < settings.cheap_fraction:
        return widths, cheap[:, rng.integers(cheap.shape[1])].astype(np.float32)
    whole = rng.uniform(size=len(boundaries)) < WHOLE_SHARE
    together = (rng.uniform(size=len(boundaries)) < 0.5)[boundary_of_edge]
    apart = rng.uniform(size=len(boundary_of_edge)) < 0.5
    crossing = np.where(whole[boundary_of_edge], together, apart)
    return widths, crossing.astype(np.float32)


def sample_widths(
    rng: np.random.Generator, boundaries: tuple[Boundary, ...], settings: Weights
) -> np.ndarray:
    """[boundaries] integer widths, all channels meaning uncompressed, float32."""
    channels = np.array([b.channels for b in boundaries])
    top = np.array([len(b.reduce) for b in boundaries]) + 1.0  # the last stands for uncompressed
    exponent = rng.uniform(size=len(top))
    if rng.uniform() < settings.tied_fraction:
        exponent[:] = exponent[0]
    widths = np.clip(np.round(top**exponent), 1, top)
    widths = np.where(rng.uniform(size=len(top)) < UNCOMPRESSED_SHARE, top, widths)
    if rng.uniform() < settings.minimum_fraction:
        widths[:] = 1
    widths = np.where(widths == top, channels, widths)
    only = [b.width or 0 for b in boundaries]
    return np.where(only, only, widths).astype(np.float32)
