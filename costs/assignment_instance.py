"""An assignment problem by itself: what each layer and each crossing tensor costs on each core.

It is the chip model (`costs.chip_cost`) of a workload at fixed widths and hardware where every
layer has one cost on a core: weights that are meant to stay do fit, activations stay on chip.
Then every cost is a sum of terms that depend on one layer or on one tensor, and the interval is
the largest of several such sums, which is what exact solvers and relaxations need.
`costs.instance_cost` evaluates assignments of it; `costs.problem_instance` makes one of a
`costs.problem.Problem`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from costs.errors import InputError


@dataclass(frozen=True, eq=False)
class CoreCosts:
    """What items (layers, or tensors sent or received) cost on each core. Static argument.

    Attributes:
        time_s: [items, cores] core time [s]; infinite where the item cannot run there.
        energy_pj: [items, cores] [pJ].
        dram_bytes: [items, cores] traffic with DRAM [bytes].
        weight_bytes: [items, cores] weights that stay in the core's memory [bytes].
    """

    time_s: np.ndarray
    energy_pj: np.ndarray
    dram_bytes: np.ndarray
    weight_bytes: np.ndarray

    @classmethod
    def of(
        cls,
        time_s: np.ndarray,
        energy_pj: np.ndarray | float = 0.0,
        dram_bytes: np.ndarray | float = 0.0,
        weight_bytes: np.ndarray | float = 0.0,
    ) -> CoreCosts:
        """From arrays or numbers that broadcast to those of `time_s`."""
        time_s = np.asarray(time_s, float)
        rest = (np.broadcast_to(x, time_s.shape) for x in (energy_pj, dram_bytes, weight_bytes))
        return cls(time_s, *(np.array(x, float) for x in rest))

    @classmethod
    def free(cls, items: int, cores: int) -> CoreCosts:
        """Items that cost nothing."""
        return cls.of(np.zeros((items, cores)))

    def is_free(self, item: int) -> bool:
        """Whether an item costs nothing on any core."""
        return not any(getattr(self, name)[item].any() for name in self.__dataclass_fields__)

    def permuted(self, order: np.ndarray) -> CoreCosts:
        """The same with core `order[k]` renamed to k."""
        return CoreCosts(*(getattr(self, name)[:, order] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class AssignmentInstance:
    """Layers to be put on cores. Static argument.

    A tensor whose consumers are not all on its producer's core *leaves*: it is sent once, crosses
    each link on the routes to its consumers' cores once (multicast) and is received once by each
    other core that has a consumer. A core's own port can be described as a link on all routes from
    or to it.

    Attributes:
        name: in reports.
        layers: costs of the layers, in program order.
        producer: [tensors] layer that makes each tensor.
        consumers: [tensors] layers that read it, ascending and after the producer.
        tensor_bytes: [tensors] what crosses [bytes].
        send: [tensors, cores] paid on the producer's core if the tensor leaves (a reduce
            convolution, reading the buffer).
        receive: [tensors, cores] paid on each other core that consumes it (an expand convolution,
            writing the buffer).
        route: [cores, cores, links] whether the way from the first core to the second uses a link.
        bandwidth_bytes_per_s: [links] [bytes/s].
        link_pj_per_byte: [links] [pJ/byte].
        capacity_bytes: [cores] room for weights that stay [bytes]; infinite where unlimited.
        dram_bandwidth_bytes_per_s: shared by all cores [bytes/s]; may be infinite.
        idle_power_w: static power of the chip, paid during the interval [W].
    """

    name: str
    layers: CoreCosts
    producer: np.ndarray
    consumers: tuple[tuple[int, ...], ...]
    tensor_bytes: np.ndarray
    send: CoreCosts
    receive: CoreCosts
    route: np.ndarray
    bandwidth_bytes_per_s: np.ndarray
    link_pj_per_byte: np.ndarray
    capacity_bytes: np.ndarray
    dram_bandwidth_bytes_per_s: float = np.inf
    idle_power_w: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a layer that no core can run.

        Raises:
            InputError: naming the layer.
        """
        possible = np.isfinite(self.layers.time_s)
        possible &= self.layers.weight_bytes <= self.capacity_bytes
        stuck = np.flatnonzero(~possible.any(axis=1))
        if len(stuck):
            layer = int(stuck[0])
            raise InputError(
                "fits no core: enlarge a core's memory, let its weights stream, or split the layer",
                key=f"{self.name}: layer {layer}",
                value=f"{self.layers.weight_bytes[layer].min():g} bytes of weights",
                allowed=f"at most {self.capacity_bytes.max():g} bytes",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers and of cores."""
        layers, cores = self.layers.time_s.shape
        return layers, cores

    @functools.cached_property
    def possible(self) -> np.ndarray:
        """[layers, cores] whether the core can run the layer and hold its weights."""
        room = self.layers.weight_bytes <= self.capacity_bytes
        return np.isfinite(self.layers.time_s) & room

    def with_bandwidth(self, factor: float) -> AssignmentInstance:
        """The same with every link so many times as fast."""
        return replace(self, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s * factor)

    def permuted(self, order: np.ndarray) -> AssignmentInstance:
        """The same with core `order[k]` renamed to k."""
        return replace(
            self,
            layers=self.layers.permuted(order),
            send=self.send.permuted(order),
            receive=self.receive.permuted(order),
            route=self.route[np.ix_(order, order)],
            capacity_bytes=self.capacity_bytes[order],
        )
