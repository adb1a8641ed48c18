"""Several inputs one after another on a chip: when each layer of each of them runs."""

from __future__ import annotations

from dse.breakdown import Breakdown

Run = tuple[int, int, float]
"""Number of the input, of the layer, and when it starts [s]."""


def schedule_inputs(design: Breakdown, inputs: int) -> list[Run]:
    """Inputs one interval apart, each as one input alone runs, later where a core is taken.

    A layer waits for the first gap of its core that holds it, and what follows it in the same
    input is then as late as it: so everything that it depends on is done. Waiting for links and
    DRAM is that of one input alone.

    Args:
        design: its layers with start and duration for one input.
        inputs: how many.

    Returns:
        runs in the order in which they were placed.
    """
    interval_s = design.costs["interval_s"]
    taken: dict[str, list[tuple[float, float]]] = {core: [] for core in design.cores}
    order = sorted(range(len(design.layers)), key=lambda i: design.layers[i].start_s)
    runs = []
    for number in range(inputs):
        late_s = 0.0
        for i in order:
            layer = design.layers[i]
            planned_s = number * interval_s + layer.start_s
            start_s = _first_gap(taken[layer.core], planned_s + late_s, layer.time_s)
            late_s = max(late_s, start_s - planned_s)
            taken[layer.core].append((start_s, start_s + layer.time_s))
            taken[layer.core].sort()
            runs.append((number, i, start_s))
    return runs


def _first_gap(taken: list[tuple[float, float]], ready_s: float, time_s: float) -> float:
    """The first start not before `ready_s` at which a core is free for `time_s`."""
    tolerance_s = 1e-9 * (ready_s + time_s)  # neighbours share an end point up to rounding
    for begin_s, end_s in taken:
        if ready_s + time_s <= begin_s + tolerance_s:
            break
        if end_s > ready_s + tolerance_s:
            ready_s = end_s
    return ready_s
