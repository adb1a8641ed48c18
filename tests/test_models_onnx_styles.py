"""ONNX files as different exporters write them, opset 9 to 21, and those of the model zoo."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx_graph import Graph

from models.onnx_workload import workload_of_onnx

ZOO = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
"""Graphs of the ONNX model zoo without their weights, as the `onnx` package carries them."""


def constant(g, values, kind: type[np.generic] = np.int64):
    """A Constant node, as tracing exporters write shapes and small arrays."""
    return g("Constant", value=numpy_helper.from_array(np.array(values, kind)))


def padded(g, x, pads):
    if g.opset < 11:
        return g("Pad", x, pads=pads, mode="constant")
    return g("Pad", x, constant(g, pads), constant(g, 0, np.float32), mode="constant")


def clipped(g, x, low, high):
    if g.opset < 11:
        return g("Clip", x, min=low, max=high)
    return g("Clip", x, constant(g, low, np.float32), constant(g, high, np.float32))


def hard_swish(g, x):
    if g.opset >= 14:
        return g("HardSwish", x)
    gate = clipped(g, g("Add", x, constant(g, 3.0, np.float32)), 0.0, 6.0)
    return g("Div", g("Mul", x, gate), constant(g, 6.0, np.float32))


def with_axes(g, op, x, axes, since, **attributes):
    """An operator whose axes became an input."""
    if g.opset < since:
        return g(op, x, axes=axes, **attributes)
    return g(op, x, constant(g, axes), **attributes)


def halved(g, x, channels):
    half = channels // 2
    outputs = [f"{x}.a", f"{x}.b"]
    if g.opset < 13:
        return g("Split", x, outputs=outputs, axis=1, split=[half, half])
    if g.opset < 18:
        return g("Split", x, constant(g, [half, half]), outputs=outputs, axis=1)
    return g("Split", x, outputs=outputs, axis=1, num_outputs=2)


def cropped(g, x, size):
    if g.opset < 10:
        return g("Slice", x, axes=[2, 3], starts=[0, 0], ends=[size, size])
    return g("Slice", x, constant(g, [0, 0]), constant(g, [size, size]), constant(g, [2, 3]))


def enlarged(g, x):
    if g.opset < 10:
        return g("Upsample", x, constant(g, [1, 1, 2, 2], np.float32), mode="nearest")
    scales = constant(g, [1, 1, 2, 2], np.float32)
    if g.opset < 11:
        return g("Resize", x, scales, mode="nearest")
    region = g.weight(0) if g.opset < 13 else ""
    return g("Resize", x, region, scales, mode="nearest")


def viewed(g, x):
    """x.view(x.size(0), -1) as it is traced: the batch is read off the tensor itself."""
    size = g("Gather", g("Shape", x), constant(g, 0), axis=0)
    rows = with_axes(g, "Unsqueeze", size, [0], 13)
    return g("Reshape", x, g("Concat", rows, constant(g, [-1]), axis=0))


def make(opset, batch):
    """A network with what exporters of the time wrote; and its MACs, counted by hand."""
    g = Graph((batch, 3, 16, 16), opset)
    x = padded(g, "data", [0, 0, 1, 1, 0, 0, 1, 1])
    x = g("Conv", x, g.weight(8, 3, 3, 3), strides=[2, 2])  # no kernel_shape, no pads
    x = hard_swish(g, g.norm(x, 8))
    left, right = halved(g, x, 8)
    left = g("Conv", left, g("Identity", g.weight(4, 1, 3, 3)), group=4, pads=[1] * 4)
    x = g("Concat", clipped(g, left, 0.0, 6.0), right, axis=1)
    x = g("Dropout", x, ratio=0.5) if opset < 12 else g("Dropout", x, g.weight())
    x = g("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = cropped(g, enlarged(g, x), 6)
    x = g("Conv", x, g.weight(16, 8, 1, 1), g.weight(16))
    x = with_axes(g, "ReduceMean", x, [2, 3], 18, keepdims=1)
    x = viewed(g, x)
    x = g("Add", g("MatMul", x, g.weight(16, 10)), g.weight(10))
    return g, x, 8 * 8 * 8 * 27 + 8 * 8 * 4 * 9 + 6 * 6 * 16 * 8 + 160


@pytest.mark.parametrize("opset", range(9, 22))
def test_styles_of_every_opset(opset, tmp_path):
    g, output, macs = make(opset, 1)
    session = onnxruntime.InferenceSession(g.model(output).SerializeToString())
    (logits,) = session.run(None, {"data": np.zeros((1, 3, 16, 16), np.float32)})
    assert np.asarray(logits).shape == (1, 10)
    workload = workload_of_onnx(g.save(tmp_path, output))
    assert workload.macs == macs
    kinds = [layer.kind for layer in workload.layers]
    assert kinds == ["conv", "conv", "pool", "conv", "pool", "conv"]
    g, output, _ = make(opset, "batch_size")
    assert workload_of_onnx(g.save(tmp_path, output), batch=3).macs == 3 * macs


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("bvlc_alexnet", 654.56),
        ("densenet121", 2834.16),
        ("inception_v1", 1431.56),
        ("inception_v2", 2018.85),
        ("resnet50", 4089.18),
        ("shufflenet", 124.66),
        ("squeezenet", 349.15),
        ("vgg19", 19632.06),
        ("zfnet512", 1481.73),
    ],
)
def test_graphs_of_the_model_zoo(name, millions):
    """Independent count: outputs of every convolution and product times what each sums over."""
    path = ZOO / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip("this version of onnx does not carry it")
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    shapes |= {w.name: list(w.dims) for w in model.graph.initializer}
    expected = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            expected += np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:])
        elif node.op_type == "Gemm":
            expected += np.prod(shapes[node.input[1]]) * shapes[node.output[0]][0]
    assert workload_of_onnx(path).macs == expected
    assert expected / 1e6 == pytest.approx(millions, abs=0.005)
