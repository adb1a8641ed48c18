"""Description of a chip: cores of several types, the links between them, shared DRAM.

Only the description and what follows from it alone (routes, hop latencies). What an assignment of
layers to cores costs on it is in `costs.chip_cost`.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np

from costs.core import Core
from costs.errors import InputError

KNOBS = ("array", "global_buffer", "weight_buffer")


@dataclass(frozen=True)
class Link:
    """A connection of two or more cores; more than two make a bus. Static argument.

    Attributes:
        name: unique name.
        cores: names of the cores it joins.
        bandwidth_bytes_per_s: what it carries [bytes/s].
        energy_pj_per_bit: energy of one bit crossing it [pJ/bit].
        hop_latency_s: time of flight of the first byte [s].
    """

    name: str
    cores: tuple[str, ...]
    bandwidth_bytes_per_s: float
    energy_pj_per_bit: float
    hop_latency_s: float = 0.0


@dataclass(frozen=True)
class CoreType:
    """One kind of core and the grid on which its hardware may vary. Static argument.

    Attributes:
        name: unique name.
        core: the core at its default sizes.
        knobs: (knob, values, default index) for each of `KNOBS`. `array` is the side of the PE
            array [PEs]; `global_buffer` and `weight_buffer` are capacities [bytes].
    """

    name: str
    core: Core
    knobs: tuple[tuple[str, tuple[int, ...], int], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of grid values of each knob."""
        return tuple(len(values) for _, values, _ in self.knobs)

    @property
    def default(self) -> tuple[int, ...]:
        """Grid index of each knob's default."""
        return tuple(index for _, _, index in self.knobs)

    def at(self, indices: tuple[int, ...]) -> Core:
        """The core at one point of the hardware grid, `indices` in the order of `knobs`."""
        sizes = {name: values[i] for (name, values, _), i in zip(self.knobs, indices, strict=True)}
        side = sizes.pop("array")
        axes = {axis.name: side for axis in self.core.axes}
        return self.core.scaled(axes=axes, capacity_bytes=sizes)

    def points(self) -> list[tuple[int, ...]]:
        """All points of the hardware grid, last knob fastest."""
        return list(itertools.product(*(range(n) for n in self.shape)))


@dataclass(frozen=True)
class Chip:
    """Cores joined by links, with one DRAM shared by all. Static argument.

    Attributes:
        name: name of the description.
        types: the kinds of cores.
        cores: (core name, index into `types`), in the order of a pipeline.
        links: connections.
        dram_bandwidth_bytes_per_s: shared by all cores [bytes/s].
        dram_energy_pj_per_bit: energy of one bit read or written [pJ/bit].
        idle_power_w: static power outside the cores [W]; each core adds its leakage.
    """

    name: str
    types: tuple[CoreType, ...]
    cores: tuple[tuple[str, int], ...]
    links: tuple[Link, ...]
    dram_bandwidth_bytes_per_s: float
    dram_energy_pj_per_bit: float
    idle_power_w: float = 0.0

    @property
    def core_names(self) -> tuple[str, ...]:
        """Names of the cores in order."""
        return tuple(name for name, _ in self.cores)

    def routes(self) -> tuple[np.ndarray, np.ndarray]:
        """Shortest routes between cores, by number of hops (ties: the first link described).

        Returns:
            route: [cores, cores, links] 1.0 where the route of the pair uses the link.
            latency_s: [cores, cores] sum of the hop latencies [s].

        Raises:
            InputError: if two cores are not joined by any path.
        """
        names = self.core_names
        index = {name: i for i, name in enumerate(names)}
        route = np.zeros((len(names), len(names), len(self.links)))
        for start in range(len(names)):
            reached = {start}
            queue = deque([start])
            while queue:
                here = queue.popleft()
                for number, link in enumerate(self.links):
                    members = [index[name] for name in link.cores]
                    if here not in members:
                        continue
                    for there in members:
                        if there not in reached:
                            reached.add(there)
                            route[start, there] = route[start, here]
                            route[start, there, number] = 1.0
                            queue.append(there)
            missing = [name for i, name in enumerate(names) if i not in reached]
            if missing:
                raise InputError(
                    key="links",
                    value=f"no path from {names[start]} to {missing[0]}",
                    allowed="links that join all cores",
                )
        hop = np.array([link.hop_latency_s for link in self.links])
        latency_s = sum(
            (route[:, :, n] * hop[n] for n in range(len(hop))), np.zeros(route.shape[:2])
        )
        return route, latency_s
