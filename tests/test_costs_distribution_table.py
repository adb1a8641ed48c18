"""Layers of the zoo distributed over equal cores, against the reference table, MACs as latency."""

import numpy as np
import pytest

from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.distribute import distribute
from costs.distribution import solve_stages
from costs.stages import calc_stage_costs
from models.registry import abstract_network, network_entry
from models.trace import workload_of

CORES = (2, 3, 4, 6, 8, 16)
SPEEDUPS = {  # recomputed from layer shapes in ../shared/reference/papers.md, C
    "alexnet": (1.83, 2.20, 2.95, 3.23, 3.23, 3.23),
    "vgg16": (1.94, 2.79, 3.35, 4.60, 5.58, 8.36),
    "resnet18_imagenet": (1.93, 2.82, 3.44, 5.14, 6.28, 10.46),
    "resnet50_imagenet": (1.99, 2.89, 3.97, 5.77, 7.58, 15.16),
}
ALEXNET = (
    105_415_200, 223_948_800, 149_520_384, 112_140_288, 74_760_192, 37_748_736, 16_777_216,
    4_096_000,
)  # fmt: skip


def list_macs(name):
    """MACs in the order of torchvision's modules: a block's shortcut after its convolutions."""
    if name == "alexnet":
        return np.array(ALEXNET, float)
    shape = network_entry(name).input_shape or ()
    layers = [k for k in workload_of(abstract_network(name), shape, name=name).layers if k.macs]
    layers = [layer for layer in layers if layer.kind == "conv"]
    blocks = {}
    for layer in layers:
        blocks.setdefault(layer.name.rpartition(".")[0] or layer.name, []).append(layer)
    ordered = [
        layer
        for block in blocks.values()
        for layer in sorted(block, key=lambda layer: layer.name.endswith("shortcut"))
    ]
    return np.array([layer.macs for layer in ordered], float)


@pytest.mark.parametrize("name", SPEEDUPS)
def test_reference_table(name):
    macs = list_macs(name)
    for cores, speedup in zip(CORES, SPEEDUPS[name], strict=True):
        nothing, free = np.zeros(0), CoreCosts.free(0, cores)
        instance = AssignmentInstance(
            name, CoreCosts.of(np.repeat(macs[:, None], cores, axis=1)), nothing.astype(int), (),
            nothing, free, free, np.zeros((cores, cores, 0), bool), nothing, nothing,
            np.full(cores, np.inf),
        )  # fmt: skip
        costs = calc_stage_costs(instance, ordered=True)
        exact = macs.sum() / solve_stages(costs, ordered=True).interval_s
        assert round(exact, 2) == speedup
        assert macs.sum() / distribute(costs, cores).interval_s == pytest.approx(exact, rel=0.02)
