"""Sizes, energies and bandwidths of several cores of one structure, as arrays over the points.

What `costs.search` applies to all candidates at once, as matrix products and masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from costs.conventions import Conventions
from costs.core import Core, MemoryLevel
from costs.orders import Structure


@dataclass(frozen=True)
class Hardware:
    """The sizes, energies and bandwidths of the points of a grid of hardware.

    Attributes:
        axis_sizes: `(axes, points)` PEs along each axis.
        capacities: per capacity constraint, the anchors that share it and `(points,)` [bits].
        read_price, write_price: `(points, levels)` [pJ/bit].
        read_rate, write_rate, rate: `(points, levels)` of one instance [bits/cycle].
        mac_energy: `(points,)` energy of one MAC [pJ].
    """

    axis_sizes: np.ndarray
    capacities: tuple[tuple[tuple[int, ...], np.ndarray], ...]
    read_price: np.ndarray
    write_price: np.ndarray
    read_rate: np.ndarray
    write_rate: np.ndarray
    rate: np.ndarray
    mac_energy: np.ndarray

    @classmethod
    def of(
        cls, cores: Sequence[Core], structure: Structure, conventions: Conventions, bits: int
    ) -> Hardware:
        """The hardware of several cores of one structure, for factors of so many bits."""

        def gather(value: Callable[[Core, MemoryLevel], float]) -> np.ndarray:
            return np.array([[value(core, level) for level in core.levels] for core in cores])

        capacities = []
        for number, level in enumerate(cores[0].levels):
            held = tuple(i for i, (_, name) in enumerate(structure.anchors) if name == level.name)
            if isinstance(level.capacity_bytes, Dict):
                groups = [(i,) for i in held]
            else:
                groups = [held] if held else []
            for group in groups:
                shares = []
                for core in cores:
                    share = core.levels[number].capacity_bytes
                    operand = structure.anchors[group[0]][0]
                    total = share[operand] if isinstance(share, Dict) else share
                    shares.append(8 * total / conventions.buffering)
                if not all(map(math.isinf, shares)):
                    capacities.append((group, np.array(shares)))
        return cls(
            axis_sizes=np.array(
                [[axis.size for axis in core.axes] for core in cores], np.float64
            ).T.reshape(len(structure.axes), len(cores)),
            capacities=tuple(capacities),
            read_price=gather(lambda core, level: level.read_energy_pj / level.width_bits),
            write_price=gather(lambda core, level: level.write_energy_pj / level.width_bits),
            read_rate=8 * gather(lambda core, level: level.read_bandwidth),
            write_rate=8 * gather(lambda core, level: level.write_bandwidth),
            rate=8 * gather(lambda core, level: level.bandwidth),
            mac_energy=np.array([core.mac_energy(bits) for core in cores]),
        )

    @cached_property
    def _kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """One point of every set of prices and rates, and the set of every point."""
        prices = (self.read_price, self.write_price, self.read_rate, self.write_rate, self.rate)
        rows = np.concatenate([*prices, self.mac_energy[:, None]], axis=1)
        _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return first, kind.ravel()

    @property
    def kind(self) -> np.ndarray:
        """`(points,)` index into `distinct` of the prices of every point."""
        return self._kinds[1]

    @cached_property
    def distinct(self) -> Hardware:
        """One point for every set of prices and rates, whatever its sizes."""
        return self.take(self._kinds[0])

    def take(self, points: np.ndarray) -> Hardware:
        """Some of the points."""
        return Hardware(
            axis_sizes=self.axis_sizes[:, points],
            capacities=tuple((anchors, sizes[points]) for anchors, sizes in self.capacities),
            read_price=self.read_price[points],
            write_price=self.write_price[points],
            read_rate=self.read_rate[points],
            write_rate=self.write_rate[points],
            rate=self.rate[points],
            mac_energy=self.mac_energy[points],
        )

    @property
    def points(self) -> int:
        """Number of hardware points."""
        return len(self.mac_energy)


class Same:
    """A core compared by identity, so that what follows from a grid of them is worked out once."""

    def __init__(self, core: Core):
        """Hold the core, so that its identity stays its own."""
        self.core = core

    def __eq__(self, other: object) -> bool:
        """Whether both hold the very same core."""
        return isinstance(other, Same) and other.core is self.core

    def __hash__(self) -> int:
        """Hash of the identity."""
        return id(self.core)


@lru_cache(maxsize=16)
def hardware_of(
    cores: tuple[Same, ...], structure: Structure, conventions: Conventions, bits: int
) -> Hardware:
    """`Hardware.of`, once for the same cores."""
    return Hardware.of([item.core for item in cores], structure, conventions, bits)
