"""Workloads: what is refused, and what edges, bytes and drawings say."""

from dataclasses import replace

import pytest

from costs.errors import InputError
from costs.layer import Layer
from costs.workload import NETWORK_INPUT, Tensor, Workload


def _residual() -> Workload:
    """conv1 -> conv2 -> conv3, whose output is added to conv1's."""
    layers = (
        Layer("conv1", K=4, C=3, P=8, Q=8, R=3, S=3, padding=((1, 1), (1, 1))),
        Layer("conv2", K=4, C=4, P=8, Q=8, bits_w=4),
        Layer("conv3", K=4, C=4, P=8, Q=8, R=3, S=3, padding=((1, 1), (1, 1))),
    )
    tensors = (
        Tensor("input", NETWORK_INPUT, (0,), 192, 8, (8, 8, 3)),
        Tensor("conv1", 0, (1, 2), 256, 8, (8, 8, 4)),
        Tensor("conv2", 1, (2,), 256, 4, (8, 8, 4)),
        Tensor("conv3", 2, (), 256, 8, (8, 8, 4)),
    )
    return Workload("residual", layers, tensors)


def test_edges_and_totals():
    workload = _residual()
    assert [(p, c, t.name) for p, c, t in workload.edges()] == [
        (-1, 0, "input"),
        (0, 1, "conv1"),
        (0, 2, "conv1"),
        (1, 2, "conv2"),
    ]
    assert workload.macs == 64 * (4 * 3 * 9 + 4 * 4 + 4 * 4 * 9)
    assert workload.weight_bytes == (108.0, 8.0, 144.0)
    assert [t.name for t in workload.outputs] == ["conv3"]
    assert workload.tensors[2].bytes == 128.0
    assert workload.inputs_of(2) == (1, 2)
    assert workload.outputs_of(0) == (1,)


def test_products_of_activations_store_no_weights():
    workload = replace(_residual(), dynamic_weights=frozenset({1}))
    assert workload.weight_bytes == (108.0, 0.0, 144.0)


def test_boundaries_are_put_on_tensors_by_name():
    workload = _residual().with_boundaries({"conv2": "middle"})
    assert [t.boundary for t in workload.tensors] == [None, None, "middle", None]
    with pytest.raises(InputError, match="no such tensor"):
        workload.with_boundaries({"conv9": "middle"})


def test_drawing_names_every_layer_and_every_edge():
    drawn = _residual().with_boundaries({"conv2": "middle"}).drawn()
    for layer in ("conv1", "conv2", "conv3", "middle"):
        assert layer in drawn
    assert drawn.count("->") == 4


def test_layers_are_found_by_name():
    assert _residual().index("conv2") == 1
    with pytest.raises(InputError, match="conv1, conv2, conv3"):
        _residual().index("conv9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": 255}, "height \\* width \\* channels"),
        ({"bits": 0}, "bits"),
        ({"consumers": (2, 1)}, "ascending"),
        ({"consumers": (0, 1)}, "before it is written"),
    ],
)
def test_wrong_tensors_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(_residual().tensors[1], **change)


def test_wrong_graphs_are_refused():
    workload = _residual()
    with pytest.raises(InputError, match="at least one layer"):
        replace(workload, layers=())
    with pytest.raises(InputError, match="same name"):
        replace(workload, layers=(workload.layers[0],) * 3)
    with pytest.raises(InputError, match="same name"):
        replace(workload, tensors=(*workload.tensors, workload.tensors[0]))
    late = replace(workload.tensors[3], consumers=(3,))
    with pytest.raises(InputError, match="no such layer"):
        replace(workload, tensors=(*workload.tensors[:3], late))
    with pytest.raises(InputError, match="reads no tensor"):
        replace(workload, tensors=workload.tensors[1:])
    with pytest.raises(InputError, match="writes no tensor"):
        replace(workload, tensors=workload.tensors[:3])
