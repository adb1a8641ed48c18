"""Everything an experiment's phases share, built from its configuration alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from costs import problem as cost_problem
from costs.chip import Chip
from costs.errors import InputError
from costs.workload import Workload
from dse.config import Experiment
from dse.data import DataSet
from dse.training import Evaluation, make_evaluate, make_train_step
from models.functional import Functional


@dataclass(frozen=True)
class Context:
    """What the phases of an experiment share.

    Attributes:
        config: the experiment.
        data: the data set.
        net: the network with bottlenecks.
        workload: layers and tensors read off the same network.
        boundaries: its bottlenecks as the cost model sees them.
        chip: the chip with its hardware grids.
    """

    config: Experiment
    data: DataSet
    net: Functional
    workload: Workload
    boundaries: tuple[cost_problem.Boundary, ...]
    chip: Chip

    @cached_property
    def train_step(self) -> Callable[..., Any]:
        """The compiled training step, of weights and fine-tuning alike."""
        return make_train_step(self.net, self.config.training, self.config.seed)

    @cached_property
    def evaluate(self) -> Callable[..., Evaluation]:
        """The compiled evaluation of one design on one split."""
        return make_evaluate(self.net)

    @property
    def calibration(self) -> np.ndarray:
        """The fixed training pictures on which norms take their statistics."""
        return self.data.train.pictures[: self.config.training.calibration_pictures]

    @cached_property
    def edge_index(self) -> np.ndarray:
        """[network edges] index of each among the edges of the cost model."""
        _, _, edges = cost_problem.layout(self.workload, self.boundaries)
        known = {(edge.tensor, edge.consumer): i for i, edge in enumerate(edges)}
        found = []
        for edge in self.net.edges:
            tensor = self.boundaries[edge.boundary].tensor
            found.append(known[tensor, self.workload.index(edge.consumer)])
        return np.array(found)

    @cached_property
    def boundary_of_edge(self) -> np.ndarray:
        """[network edges] boundary of each edge of the network."""
        return np.array([edge.boundary for edge in self.net.edges])

    def crossing(self, edges: np.ndarray) -> np.ndarray:
        """Gates of the network [network edges, ...] from `crossing` of the cost model."""
        return edges[self.edge_index]


def cost_boundaries(net: Functional, workload: Workload) -> tuple[cost_problem.Boundary, ...]:
    """The network's bottlenecks with the layers of their pairs at every width.

    Raises:
        InputError: if a boundary's tensor is not in the workload.
    """
    producer_of = {t.producer: i for i, t in enumerate(workload.tensors) if t.producer >= 0}
    found = []
    for boundary in net.boundaries:
        producer = workload.index(boundary.producer)
        if producer not in producer_of:
            raise InputError(key=f"network.bottlenecks.{boundary.name}", value=boundary.producer)
        widths = range(1, boundary.channels)
        found.append(
            cost_problem.Boundary(
                name=boundary.name,
                tensor=producer_of[producer],
                channels=boundary.channels,
                positions=boundary.height * boundary.width,
                bits=boundary.bits,
                reduce=tuple(boundary.reduce_layer(w) for w in widths),
                expand=tuple(boundary.expand_layer(w) for w in widths),
            )
        )
    return tuple(found)
