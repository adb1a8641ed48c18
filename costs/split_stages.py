"""Layers distributed over equal cores where a stage may be a team of cores that share each layer.

The dynamic program F[k, e] = min over s, team of max(F[k - team, s], time[team, s, e]) over
contiguous stages, each on a team of one or more cores. Its stage times are estimates (the largest
part of every layer in sequence, or what one core of the team receives over its port, if that takes
longer); what is reported is the evaluator's cost of the split workload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.errors import InputError
from costs.layer import Layer
from costs.random_instance import make_route
from costs.splitting import Axis, SplitWorkload, split_layer, split_workload
from costs.workload import Workload

AXES: tuple[Axis, ...] = ("rows", "channels")
Seconds = Callable[[Layer], float]
"""Time of a layer on one core [s]."""


@dataclass(frozen=True)
class TeamPlan:
    """A distribution of layers over teams of equal cores.

    Attributes:
        split: the workload with its parts.
        assignment: [parts] core of each.
        teams: (first layer, last layer + 1, first core, cores) of each stage.
        axis: [layers] along which each layer is split, where its team has several cores.
    """

    split: SplitWorkload
    assignment: np.ndarray
    teams: tuple[tuple[int, int, int, int], ...]
    axis: tuple[Axis | None, ...]


def plan_teams(
    workload: Workload,
    cores: int,
    seconds: Seconds,
    bandwidth_bytes_per_s: float,
    teams: Sequence[int],
    link_weight: float = 1.0,
) -> TeamPlan:
    """Stages on teams of equal cores, by estimated stage times.

    Args:
        workload: layers and tensors.
        cores: number of equal cores.
        seconds: time of a layer, or of a part of one, on a core.
        bandwidth_bytes_per_s: of each core's port, in and out [bytes/s].
        teams: sizes that a team may have; (1,) gives contiguous stages.
        link_weight: how much what a part receives counts in the choice of its axis.
    """
    layers = len(workload.layers)
    sizes = sorted({size for size in teams if size <= cores})
    stage = {
        size: _stage_times(workload, size, seconds, bandwidth_bytes_per_s, link_weight)
        for size in sizes
    }
    value = np.full((cores + 1, layers + 1), np.inf)
    value[:, 0] = 0.0
    choice: dict[tuple[int, int], tuple[int, int]] = {}
    for used in range(1, cores + 1):
        for size in (s for s in sizes if s <= used):
            time, _ = stage[size]
            grown = np.maximum(value[used - size][:, None], time)
            start = grown.argmin(axis=0)
            for end in range(1, layers + 1):
                if grown[start[end], end] < value[used, end]:
                    value[used, end] = grown[start[end], end]
                    choice[used, end] = (int(start[end]), size)
    found, used, end = [], cores, layers
    while end:
        start, size = choice[used, end]
        found.append((start, end, used - size, size))
        used, end = used - size, start
    return _build(workload, tuple(reversed(found)), {s: axes for s, (_, axes) in stage.items()})


def make_team_instance(
    plan: TeamPlan, cores: int, seconds: Seconds, bandwidth_bytes_per_s: float
) -> AssignmentInstance:
    """The assignment problem of a split workload on equal cores with a port each."""
    workload = plan.split.workload
    times = np.array([seconds(layer) for layer in workload.layers])
    inner = [t for t in workload.tensors if t.producer >= 0 and t.consumers]
    route = make_route("ports", cores)
    return AssignmentInstance(
        name=workload.name,
        layers=CoreCosts.of(np.repeat(times[:, None], cores, axis=1)),
        producer=np.array([t.producer for t in inner], int),
        consumers=tuple(t.consumers for t in inner),
        tensor_bytes=np.array([t.bytes for t in inner]),
        send=CoreCosts.free(len(inner), cores),
        receive=CoreCosts.free(len(inner), cores),
        route=route,
        bandwidth_bytes_per_s=np.full(route.shape[2], bandwidth_bytes_per_s),
        link_pj_per_byte=np.zeros(route.shape[2]),
        capacity_bytes=np.full(cores, np.inf),
    )


def _stage_times(
    workload: Workload, size: int, seconds: Seconds, rate: float, link_weight: float
) -> tuple[np.ndarray, tuple[Axis | None, ...]]:
    """[layers + 1, layers + 1] times of all stages on a team, infinite where empty, and axes."""
    layers = len(workload.layers)
    axes: list[Axis | None] = []
    busy = np.zeros(layers)
    for index, layer in enumerate(workload.layers):
        options: list[tuple[float, float, Axis | None]] = []
        if size == 1:
            options.append((seconds(layer), seconds(layer), None))
        for axis in AXES if size > 1 else ():
            try:
                part = split_layer(layer, axis, size)[0]
                split_workload(workload, {index: (axis, size)})
            except InputError:
                continue
            time = seconds(part)
            moved = sum(
                t.bytes * (1.0 if axis == "channels" else _halo(layer) / layer.P)
                for t in workload.tensors
                if index in t.consumers and t.producer >= 0
            )
            options.append((time + link_weight * moved / rate, time, axis))
        if not options:  # it has too few rows and channels: one core of the team runs it
            options.append((seconds(layer), seconds(layer), None))
        _, busy[index], axis = min(options, key=lambda option: option[0])
        axes.append(axis)
    received = np.zeros((layers + 1, layers + 1))
    for tensor in workload.tensors:
        if tensor.producer < 0:
            continue
        for start in range(layers):
            readers = [c for c in tensor.consumers if c >= start]
            if not readers:
                continue
            inside = tensor.producer >= start
            part = 0.0
            for reader in readers:  # the largest need of any reader so far, from here on
                layer = workload.layers[reader]
                if size == 1 or axes[reader] != "rows":
                    need = 1.0 - (inside / size if size > 1 else float(inside))
                else:
                    halo = _halo(layer) / layer.P
                    need = halo + (
                        0.0 if inside and axes[tensor.producer] == "rows" else 1.0 / size
                    )
                if need > part:
                    received[start, reader + 1 :] += (need - part) * tensor.bytes
                    part = need
    sums = np.concatenate([[0.0], np.cumsum(busy)])
    time = np.maximum(sums[None, :] - sums[:, None], received / rate)
    edge = np.arange(layers + 1)
    return np.where(edge[:, None] < edge[None, :], time, np.inf), tuple(axes)


def _halo(layer: Layer) -> int:
    """Input rows that neighbouring parts both read, in output rows."""
    return max(0, (layer.R - 1) * layer.dilation[0] + 1 - layer.stride[0]) // layer.stride[0]


def _build(
    workload: Workload,
    teams: tuple[tuple[int, int, int, int], ...],
    axes: dict[int, tuple[Axis | None, ...]],
) -> TeamPlan:
    plan: dict[int, tuple[Axis, int]] = {}
    first_core = np.zeros(len(workload.layers), int)
    chosen: list[Axis | None] = [None] * len(workload.layers)
    for start, end, core, size in teams:
        first_core[start:end] = core
        for index in range(start, end):
            axis = axes[size][index]
            chosen[index] = axis
            if axis is not None:
                plan[index] = (axis, size)
    split = split_workload(workload, plan)
    assignment = np.array([first_core[index] + part for index, part in split.origin])
    return TeamPlan(split, assignment, teams, tuple(chosen))
