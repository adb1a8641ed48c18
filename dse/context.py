"""Everything an experiment's phases share, built from its configuration alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from flax import nnx

from costs import problem as cost_problem
from costs.chip import Chip
from costs.errors import InputError
from costs.library import load_chip
from costs.workload import Workload
from dse.data import DataSet, load_data
from dse.experiment_spec import Experiment
from dse.training import Evaluation, make_evaluate, make_train_step
from models.functional import Functional
from models.registry import RESNET, build_network, network_entry
from models.resnet import resnet_architecture
from models.trace import workload_of
from models.traced_network import trace_architecture


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
        return make_train_step(self.net, self.config.training, self.config.seed, self.data.scaling)

    @cached_property
    def evaluate(self) -> Callable[..., Evaluation]:
        """The compiled evaluation of one design on one split."""
        return make_evaluate(self.net)

    @property
    def calibration(self) -> np.ndarray:
        """The fixed training pictures on which norms take their statistics."""
        return self.data.train.inputs(stop=self.config.training.calibration_pictures)

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

    def active(self, crossing: np.ndarray) -> np.ndarray:
        """[boundaries, ...] whether any edge of a boundary crosses, from [network edges, ...]."""
        mine = self.boundary_of_edge == np.arange(len(self.boundaries))[:, None]
        return np.stack([crossing[edges].any(axis=0) for edges in mine])


def make_context(config: Experiment, load: Callable[[str], DataSet] = load_data) -> Context:
    """Data, network, workload and chip of an experiment.

    Args:
        config: the experiment.
        load: gives the data set of a name.

    Raises:
        InputError: naming the key that does not fit.
    """
    if config.chip is None:
        raise InputError(
            "missing",
            key="chip",
            allowed="a chip's name or YAML file; only method: train does without",
        )
    data = load(config.data.name)
    net, workload = _network(config, data, config.network.bottlenecks)
    chip = load_chip(config.chip)
    if config.hardware.mode == "fixed":
        chip = with_fixed_hardware(chip)
    _check_area(chip, config.hardware.area_budget_mm2)
    boundaries = cost_boundaries(net, workload, config.network.largest_width, config.network.ratio)
    return Context(config, data, net, workload, boundaries, chip)


def plain_network(config: Experiment, data: DataSet) -> Functional:
    """The network of an experiment without bottlenecks, as `method: train` trains it."""
    return _network(config, data, "none")[0]


def _network(
    config: Experiment, data: DataSet, bottlenecks: list[str] | Literal["all", "none"]
) -> tuple[Functional, Workload]:
    """The network and what is read off it; `all` means every tensor that is handed on as it is."""
    name = config.network.name
    entry = network_entry(name)
    shape, bits = data.input_shape, config.network.bits
    if entry.constructor == RESNET:
        where = tuple(bottlenecks) if isinstance(bottlenecks, list) else bottlenecks
        _refuse_options(config.network.options)
        architecture = resnet_architecture(
            name,
            input_shape=shape,
            classes=data.classes,
            bottlenecks=where,
            bits=bits,
            width_multiplier=config.network.width_multiplier,
        )
        net = Functional.from_architecture(architecture)
        workload = workload_of(net.abstract, shape, pooling="fused", name=name)
    else:

        def make(rngs: nnx.Rngs) -> nnx.Module:
            options: dict[str, Any] = dict(config.network.options)
            if config.network.width_multiplier != 1.0:
                options["width_multiplier"] = config.network.width_multiplier
            options = {"input_shape": shape, "classes": data.classes, **options}
            return build_network(name, rngs=rngs, **options)

        traced, workload = trace_architecture(
            make, name=name, input_shape=shape, bottlenecks=bottlenecks, bits=bits
        )
        net = Functional.from_architecture(traced)
    if bottlenecks == "all":
        shapes = {tensor.boundary: tensor.shape for tensor in workload.tensors}
        whole = [
            b.name for b in net.boundaries if shapes.get(b.name) == (b.height, b.width, b.channels)
        ]
        if len(whole) < len(net.boundaries):
            return _network(config, data, whole)
    if not net.boundaries and bottlenecks != "none":
        raise InputError(
            "the network has no boundary to narrow"
            if bottlenecks == "all"
            else "at least one boundary is needed",
            key="network.bottlenecks",
            value=bottlenecks,
            allowed="names of tensors that the network marks with mark_boundary(x, name)",
        )
    return net, workload


def _refuse_options(options: Mapping[str, Any]) -> None:
    """Residual networks are told apart by their names alone."""
    for key, value in options.items():
        raise InputError(
            "residual networks have no options", key=f"network.options.{key}", value=value
        )


def _check_area(chip: Chip, budget_mm2: float | None) -> None:
    """Raises InputError if even the smallest hardware of the grid is larger than the budget."""
    smallest = []
    for kind in chip.types:
        areas = [kind.area_mm2(point) for point in kind.points()]
        smallest.append(min((area for area in areas if area is not None), default=0.0))
    least_mm2 = sum(smallest[kind] for _, kind in chip.cores)
    if budget_mm2 is not None and least_mm2 > budget_mm2:
        raise InputError(
            "no hardware of the chip's grid is this small",
            key="hardware.area_budget_mm2",
            value=budget_mm2,
            allowed=f"at least {least_mm2:.6g}, or null for none",
        )


def with_fixed_hardware(chip: Chip) -> Chip:
    """The chip with every knob's grid reduced to its default."""
    types = tuple(
        replace(kind, knobs=tuple((name, (values[i],), 0) for name, values, i in kind.knobs))
        for kind in chip.types
    )
    return replace(chip, types=types)


def cost_boundaries(
    net: Functional,
    workload: Workload,
    largest_width: int | dict[str, int] | None = None,
    ratio: float | None = None,
) -> tuple[cost_problem.Boundary, ...]:
    """The network's bottlenecks with the layers of their pairs at every width.

    Args:
        net: the network.
        workload: layers and tensors read off it.
        largest_width: of a pair [channels], one or by boundary.
        ratio: every boundary has only the width ceil(channels / ratio); None: any.

    Raises:
        InputError: if what crosses is not the tensor that the boundary narrows, or a bottleneck
            would be wider than its boundary.
    """
    if isinstance(largest_width, dict):
        names = [boundary.name for boundary in net.boundaries]
        for name in sorted(set(largest_width) - set(names)):
            raise InputError("no such boundary", key=f"network.largest_width.{name}", allowed=names)
    tensor_of = {tensor.boundary: i for i, tensor in enumerate(workload.tensors)}
    found = []
    for boundary in net.boundaries:
        number = tensor_of.get(boundary.name)
        shape = (boundary.height, boundary.width, boundary.channels)
        if number is None or workload.tensors[number].shape != shape:
            handed_on = None if number is None else workload.tensors[number].shape
            raise InputError(
                "its tensor is not handed on from layer to layer as it is (a pooling follows it)",
                key=f"network.bottlenecks: {boundary.name}",
                value=handed_on,
                allowed=f"boundaries whose tensor {shape} another layer reads",
            )
        by_name = isinstance(largest_width, dict)
        cap = largest_width.get(boundary.name) if by_name else largest_width
        if cap is not None and cap > boundary.channels:
            raise InputError(
                f"a bottleneck wider than its boundary {boundary.name}",
                key="network.largest_width" + (f".{boundary.name}" if by_name else ""),
                value=cap,
                allowed=f"at most its {boundary.channels} channels",
            )
        only = None if ratio is None else math.ceil(boundary.channels / ratio)
        widths = range(1, min(boundary.channels - 1, only or cap or boundary.channels) + 1)
        found.append(
            cost_problem.Boundary(
                name=boundary.name,
                tensor=number,
                channels=boundary.channels,
                positions=boundary.height * boundary.width,
                bits=boundary.bits,
                reduce=tuple(boundary.reduce_layer(w) for w in widths),
                expand=tuple(boundary.expand_layer(w) for w in widths),
                width=only,
            )
        )
    return tuple(found)
