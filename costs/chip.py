"""Description of a chip: cores of several types, the links between them, shared DRAM.

Only the description and what follows from it alone (routes, hop latencies). What an assignment of
layers to cores costs on it is in `costs.chip_cost`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from costs.core import Core
from costs.errors import InputError

Paths = tuple[tuple[tuple[int, ...], ...], ...]
"""[from core][to core] numbers of the links that a route crosses, in order."""

KNOBS = ("array", "global_buffer", "weight_buffer")
SIDES = ("rows", "columns")  # on some chips in place of `array`
LINK_WIDTH = "link_width"  # on some chips the last knob
PORT_WORDS = 4  # registers of a port: two words in, two out, so that one moves every cycle


@dataclass(frozen=True)
class Link:
    """A physical connection of two or more nodes; more than two make a bus. Static argument.

    Attributes:
        name: unique name.
        cores: names of the nodes it joins: cores, or the port of a die, which is none.
        bandwidth_bytes_per_s: what it carries in both directions together [bytes/s].
        energy_pj_per_bit: energy of one bit crossing it [pJ/bit].
        hop_latency_s: time of flight of the first byte [s].
        rank: among equally short routes one over links of lower rank is taken.
    """

    name: str
    cores: tuple[str, ...]
    bandwidth_bytes_per_s: float
    energy_pj_per_bit: float
    hop_latency_s: float = 0.0
    rank: int = 0


@dataclass(frozen=True)
class CoreType:
    """One kind of core and the grid on which its hardware may vary. Static argument.

    Attributes:
        name: unique name.
        core: the core at its default sizes.
        knobs: (knob, values, default index) for each of `KNOBS`, the same for all types of a chip.
            `array` is the side of the PE array [PEs], or of its first axis if it is not square and
            thus stays as it is; `rows` and `columns`, in its place, are the sizes of the axes of
            these names; `global_buffer` and `weight_buffer` are capacities [bytes]; `link_width`,
            where the chip has it, is what each of the core's ports to links carries [bits/cycle].
        port_area_mm2_per_bit: area of one bit of a port's registers [mm2].
    """

    name: str
    core: Core
    knobs: tuple[tuple[str, tuple[int, ...], int], ...]
    port_area_mm2_per_bit: float = 0.0

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
        sizes = self.sizes(indices)
        sizes.pop(LINK_WIDTH, None)
        axes = {axis.name: sizes.pop(axis.name, axis.size) for axis in self.core.axes}
        if "array" in sizes:
            first, side = self.core.axes[0].size, sizes.pop("array")
            axes = {axis.name: axis.size * side // first for axis in self.core.axes}
        for side in SIDES:  # of a core that has no such axis
            sizes.pop(side, None)
        return self.core.scaled(axes=axes, capacity_bytes=sizes)

    def sizes(self, indices: tuple[int, ...]) -> dict[str, int]:
        """Size by knob at one point of the grid."""
        return {name: values[i] for (name, values, _), i in zip(self.knobs, indices, strict=True)}

    def area_mm2(self, indices: tuple[int, ...]) -> float | None:
        """Area of the core and the registers of one port [mm2]; None without a source."""
        area_mm2 = self.at(indices).area_mm2
        width = self.sizes(indices).get(LINK_WIDTH, 0)
        if area_mm2 is None:
            return None
        return area_mm2 + PORT_WORDS * width * self.port_area_mm2_per_bit

    def port_bytes_per_s(self, indices: tuple[int, ...]) -> float:
        """What each port of the core carries [bytes/s]; infinite without the knob."""
        width = self.sizes(indices).get(LINK_WIDTH, math.inf)
        return width / 8.0 * self.core.clock_hz

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

    def paths(self) -> Paths:
        """The links of the shortest route between every two cores, in the order they are crossed.

        By number of hops. Ties: lower rank first, then along the order in which a link names its
        nodes, then in the order of description. So a ring goes forward and a mesh first along
        rows, and equal cores stay equal where the topology treats them so.

        Raises:
            InputError: if two cores are not joined by any path.
        """
        return find_paths(self.core_names, tuple((k.cores, k.rank) for k in self.links))

    def routes(self) -> tuple[np.ndarray, np.ndarray]:
        """The shortest routes as arrays.

        Returns:
            route: [cores, cores, links] 1.0 where the route of the pair uses the link.
            latency_s: [cores, cores] sum of the hop latencies [s].

        Raises:
            InputError: if two cores are not joined by any path.
        """
        route = find_routes(self.core_names, tuple((k.cores, k.rank) for k in self.links))
        hop = np.array([link.hop_latency_s for link in self.links])
        latency_s = sum(
            (route[:, :, n] * hop[n] for n in range(len(hop))), np.zeros(route.shape[:2])
        )
        return route, latency_s


@functools.lru_cache(maxsize=64)
def find_routes(
    cores: tuple[str, ...], links: tuple[tuple[tuple[str, ...], int], ...]
) -> np.ndarray:
    """`Chip.routes` of cores and (nodes, rank) of links: [cores, cores, links], read-only."""
    count, paths = len(cores), find_paths(cores, links)
    route = np.zeros((count, count, len(links)))
    for start, there in itertools.product(range(count), repeat=2):
        route[start, there, list(paths[start][there])] = 1.0
    route.setflags(write=False)
    return route


@functools.lru_cache(maxsize=64)
def find_paths(cores: tuple[str, ...], links: tuple[tuple[tuple[str, ...], int], ...]) -> Paths:
    """`Chip.paths` of cores and (nodes, rank) of links."""
    found = []
    for start in cores:
        path: dict[str, tuple[int, ...]] = {start: ()}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            joined = [n for n, (nodes, _) in enumerate(links) if here in nodes]
            for n in sorted(joined, key=lambda n: (links[n][1], links[n][0][0] != here, n)):
                for there in links[n][0]:
                    if there not in path:
                        path[there] = (*path[here], n)
                        queue.append(there)
        missing = [name for name in cores if name not in path]
        if missing:
            raise InputError(
                "not all cores are joined",
                key="links",
                value=f"no path from {start} to {missing[0]}",
                allowed="links that join all cores",
            )
        found.append(tuple(path[name] for name in cores))
    return tuple(found)
