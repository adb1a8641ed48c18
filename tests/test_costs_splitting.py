"""Splitting moves what it duplicates and computes nothing twice; teams beat single cores."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_problem import make_workload

from costs.distribution import solve_stages
from costs.errors import InputError
from costs.instance_cost import calc_instance_cost
from costs.layer import Layer
from costs.split_stages import make_team_instance, plan_teams
from costs.splitting import split_layer, split_workload
from costs.stages import calc_stage_costs

CONV = Layer("conv", K=8, C=4, P=10, Q=10, R=3, S=3, padding=((1, 1), (1, 1)))


@pytest.mark.parametrize("axis", ["rows", "channels"])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_compute_what_the_layer_computes(axis, parts):
    found = split_layer(CONV, axis, parts)
    assert sum(part.macs for part in found) == CONV.macs
    assert sum(part.words("O") for part in found) == CONV.words("O")
    copies = 1 if axis == "channels" else parts
    assert sum(part.bytes("W") for part in found) == copies * CONV.bytes("W")
    halo = 2 * (parts - 1) if axis == "rows" else 10 * (parts - 1)
    rows = sum(part.words("I") for part in found) / (10 * 4)
    assert rows == 10 + halo


def test_strided_rows_overlap_by_what_the_kernel_reaches():
    layer = Layer("conv", K=8, C=4, P=5, Q=5, R=3, S=3, stride=(2, 2), padding=((1, 0), (1, 0)))
    parts = split_layer(layer, "rows", 2)
    assert [part.P for part in parts] == [3, 2]
    assert [part.words("I") for part in parts] == [6 * 10 * 4, 5 * 10 * 4]  # one row is shared


def test_depthwise_channels_read_their_own_inputs():
    layer = replace(CONV, K=8, C=8, groups=8)
    assert sum(part.words("I") for part in split_layer(layer, "channels", 2)) == layer.words("I")


def test_workload_split_by_rows_moves_halos_alone():
    workload = make_workload(blocks=1, channels=8, size=8)
    whole = split_workload(workload, {i: ("rows", 2) for i in range(3)})
    assert len(whole.workload.layers) == 6
    part = np.array([number for _, number in whole.origin])
    row = 8 * 8  # bytes of a row of 8 columns and channels
    crossing = {
        t.name: t.bytes
        for t in whole.workload.tensors
        if t.producer >= 0 and any(part[c] != part[t.producer] for c in t.consumers)
    }
    assert sum(crossing.values()) == 4 * row  # a row each way, after the stem and within the block
    assert sum(t.bytes for t in whole.workload.outputs) == 8 * row


def test_workload_split_by_channels_sends_every_input_to_every_part():
    workload = make_workload(blocks=1, channels=8, size=8)
    whole = split_workload(workload, {1: ("channels", 2), 2: ("channels", 2)})
    part = np.array([number for _, number in whole.origin])
    inner = [t for t in whole.workload.tensors if t.producer >= 0 and t.consumers]
    moved = sum(t.bytes for t in inner if any(part[c] != part[t.producer] for c in t.consumers))
    tensor = 8 * 8 * 8
    assert moved == 2 * tensor  # the stem's output to the second part, and halves exchanged
    assert sum(t.bytes for t in inner) == 2 * tensor


def test_a_split_that_cannot_be():
    with pytest.raises(InputError, match=r"conv.rows: more parts than there are .*1 to 10"):
        split_layer(CONV, "rows", 11)
    with pytest.raises(InputError, match="grouped channels"):
        split_layer(replace(CONV, groups=2), "channels", 2)


def seconds(layer):
    return layer.macs / 1e9


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_teams_of_one_are_the_contiguous_optimum(cores):
    workload = make_workload(blocks=3, size=8)
    rate = 1e9
    plan = plan_teams(workload, cores, seconds, rate, (1,))
    instance = make_team_instance(plan, cores, seconds, rate)
    found = calc_instance_cost(instance, plan.assignment[:, None])["interval_s"][0]
    exact = solve_stages(calc_stage_costs(instance, ordered=True), ordered=True)
    assert found >= exact.interval_s * (1 - 1e-12)
    assert found == pytest.approx(exact.interval_s, rel=0.02)


def test_teams_lift_the_ceiling_of_the_largest_layer():
    workload = make_workload(blocks=1, size=16)
    rate = 1e12
    plan = plan_teams(workload, 8, seconds, rate, range(1, 9))
    instance = make_team_instance(plan, 8, seconds, rate)
    found = calc_instance_cost(instance, plan.assignment[:, None])["interval_s"][0]
    largest = max(seconds(layer) for layer in workload.layers)
    assert found < largest / 2
    assert instance.layers.time_s[:, 0].sum() == pytest.approx(
        sum(seconds(layer) for layer in workload.layers)
    )
