"""ONNX files as workloads: graphs in the style of the model zoo, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx_graph import Graph

from costs.errors import InputError
from models.onnx_workload import workload_of_onnx
from models.registry import abstract_network
from models.trace import workload_of


def _resnet18(shape=(1, 3, 224, 224)):
    """ResNet-18 as the model zoo stores it."""
    g = Graph(shape)
    x = g("Relu", g.norm(g.conv("data", 3, 64, 7, 2), 64))
    x = g("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, out in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = g("Relu", g.norm(g.conv(x, channels, out, 3, stride), out))
            y = g.norm(g.conv(y, out, out), out)
            if channels != out:
                x = g.norm(g.conv(x, channels, out, 1, stride), out)
            x = g("Relu", g("Add", y, x))
            channels = out
    x = g("Flatten", g("GlobalAveragePool", x))
    return g, g("Gemm", x, g.weight(1000, 512), g.weight(1000), transB=1)


def test_resnet18_from_onnx_is_resnet18_traced(tmp_path):
    g, output = _resnet18()
    read = workload_of_onnx(g.save(tmp_path, output))
    traced = workload_of(abstract_network("resnet18_imagenet"), (224, 224, 3))

    def described(workload):
        """Layers by what they do (stages' shortcuts come earlier or later), tensors by size."""
        layers = sorted(
            (la.kind, la.K, la.C, la.P, la.Q, la.R, la.S, la.stride, la.padding, la.groups)
            for la in workload.layers
        )
        tensors = sorted((t.shape, len(t.consumers)) for t in workload.tensors)
        return layers, tensors, workload.macs, sum(workload.weight_bytes)

    assert described(read) == described(traced)
    assert read.macs == 1_814_073_344
    assert read.layers[0].name == "Conv0"


def test_depthwise_concatenation_and_mean(tmp_path):
    g = Graph((2, 6, 9, 7))
    a = g("Clip", g.conv("data", 6, 6, 3, 2, group=6), g.weight(), g.weight())
    b = g("HardSwish", g.conv(a, 6, 4, 1))
    x = g("Concat", a, b, axis=1)
    x = g("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g("MatMul", x, g.weight(10, 5))
    workload = workload_of_onnx(g.save(tmp_path, x), weight_bits=4)
    depthwise, pointwise, pool, linear = workload.layers
    assert (depthwise.groups, depthwise.P, depthwise.Q, depthwise.N) == (6, 5, 4, 2)
    assert (pool.kind, pool.K, pool.R, pool.S) == ("pool", 10, 5, 4)
    assert (linear.K, linear.C, linear.bits_w) == (5, 10, 4)
    assert [t.consumers for t in workload.tensors] == [(0,), (1, 2), (2,), (3,), ()]
    assert workload.batch == 2
    assert workload.macs == 2 * (6 * 9 * 20 + 6 * 4 * 20 + 50)
    fused = workload_of_onnx(tmp_path / "net.onnx", pooling="fused")
    assert [layer.name for layer in fused.layers] == [depthwise.name, pointwise.name, linear.name]


@pytest.mark.parametrize(
    ("auto_pad", "padding"),
    [
        ("SAME_UPPER", ((1, 2), (2, 2))),
        ("SAME_LOWER", ((2, 1), (2, 2))),
        ("VALID", ((0, 0), (0, 0))),
    ],
)
def test_automatic_and_separate_padding(tmp_path, auto_pad, padding):
    g = Graph((1, 3, 8, 9))
    x = g.conv("data", 3, 4, 5, 2, auto_pad=auto_pad)
    (layer,) = workload_of_onnx(g.save(tmp_path, x)).layers
    assert layer.padding == padding
    assert layer.input_size == (8, 9)
    g = Graph((1, 3, 8, 9))
    x = g("Pad", "data", g.const([0, 0, 1, 2, 0, 0, 3, 4]))
    x = g.conv(x, 3, 4, 5, 2, auto_pad="VALID")
    (layer,) = workload_of_onnx(g.save(tmp_path, x)).layers
    assert layer.padding == ((1, 3), (2, 4))
    assert layer.input_size == (8, 9)


def test_attention_split_and_products(tmp_path):
    g = Graph((1, 5, 8))
    x = g("MatMul", "data", g.weight(8, 24))
    q, k, v = g("Split", x, outputs=["q", "k", "v"], axis=-1)
    scores = g("Softmax", g("MatMul", q, g("Transpose", k, perm=[0, 2, 1])))
    x = g("MatMul", scores, v)
    workload = workload_of_onnx(g.save(tmp_path, x))
    assert workload.macs == 5 * 8 * 24 + 2 * 5 * 5 * 8
    assert workload.dynamic_weights == {1, 2}
    assert [(t.elements, t.consumers) for t in workload.tensors] == [
        (40, (0,)),
        (40, (1,)),
        (40, (1,)),
        (40, (2,)),
        (25, (2,)),
        (40, ()),
    ]


def test_slices_known_shapes_and_weights_on_the_left(tmp_path):
    g = Graph((1, 6, 4, 4))
    half = g("Slice", "data", g.const([0]), g.const([3]), g.const([1]), g.const([1]))
    rest = g("Slice", "data", g.const([3]), g.const([6]), g.const([1]), g.const([1]))
    x = g("Add", g.conv(half, 3, 2), g.conv(rest, 3, 2))
    g("Gather", g("Shape", x), g.const([0]))
    x = g("Reshape", x, g.const([1, 2, 16]))
    x = g("MatMul", g.weight(7, 2), x)
    workload = workload_of_onnx(g.save(tmp_path, x))
    assert [t.shape for t in workload.tensors[:2]] == [(4, 4, 3), (4, 4, 3)]
    assert workload.layers[-1].macs == 7 * 2 * 16
    assert [t.fused for t in workload.tensors if t.producer == 0] == [(1,)]


def test_quantised_graphs_are_read_through(tmp_path):
    g = Graph((1, 3, 8, 8))
    scale, zero = g.weight(), g.weight(kind=np.uint8)
    x = g("DequantizeLinear", g("QuantizeLinear", "data", scale, zero), scale, zero)
    kernel = g("DequantizeLinear", g.weight(4, 3, 3, 3, kind=np.uint8), scale, zero)
    x = g("Conv", x, kernel, kernel_shape=[3, 3])
    assert workload_of_onnx(g.save(tmp_path, x)).macs == 36 * 27 * 4


def test_an_open_batch_is_refused_with_the_key_to_set(tmp_path):
    g, output = _resnet18(("N", 3, 64, 64))
    path = g.save(tmp_path, output)
    with pytest.raises(InputError, match=r"batch: the batch is left open .*--batch 1"):
        workload_of_onnx(path)
    assert workload_of_onnx(path, batch=2).batch == 2
    assert workload_of_onnx(path, batch=2).macs == 2 * workload_of_onnx(path, batch=1).macs
    g, output = _resnet18((3, 3, 64, 64))
    with pytest.raises(InputError, match="fixes the batch"):
        workload_of_onnx(g.save(tmp_path, output), batch=2)


def test_files_without_shapes_are_refused(tmp_path):
    g = Graph((1, 3, "height", 8))
    x = g.conv("data", 3, 4)
    with pytest.raises(InputError, match="axis 2: an axis of the input is left open"):
        workload_of_onnx(g.save(tmp_path, x))
    g = Graph((1, 3, 8, 8))
    x = g("Reshape", "data", g("NonZero", g.const([1, 2])))
    x = g("MatMul", x, g.weight(8, 4))
    with pytest.raises(InputError, match=r"onnx\.shape_inference\.infer_shapes"):
        workload_of_onnx(g.save(tmp_path, x))


def test_external_weights_are_not_opened(tmp_path):
    g, output = _resnet18((1, 3, 64, 64))
    model = g.model(output)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=16)
    (tmp_path / "w.bin").unlink()
    assert sum(workload_of_onnx(path).weight_bytes) == 11_678_912


def test_what_is_no_model_or_not_understood_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        workload_of_onnx(tmp_path / "none.onnx")
    path = tmp_path / "wrong.onnx"
    for content in (b"not a protocol buffer", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"is not an ONNX model|holds no graph"):
            workload_of_onnx(path)
    g, output = _resnet18()
    with pytest.raises(InputError, match="too large"):
        workload_of_onnx(g.save(tmp_path, output), max_bytes=1000)
    g = Graph((1, 3, 8, 8))
    x = g("NonMaxSuppression", "data", "data", name="detect")
    with pytest.raises(InputError, match="node detect: operator 'NonMaxSuppression'"):
        workload_of_onnx(g.save(tmp_path, x))
    g = Graph((1, 3, 4, 8, 8))
    x = g("Conv", "data", g.weight(2, 3, 1, 1, 1), kernel_shape=[1, 1, 1])
    with pytest.raises(InputError, match="3 axes"):
        workload_of_onnx(g.save(tmp_path, x))
    with pytest.raises(InputError, match="layers, fused"):
        workload_of_onnx(path, pooling="none")


def test_damaged_files_are_read_or_refused(tmp_path):
    """300 files with a few bytes changed: a workload or an InputError, nothing else."""
    g = Graph((1, 3, 8, 8))
    x = g("MaxPool", g("Relu", g.conv("data", 3, 4)), kernel_shape=[2, 2], strides=[2, 2])
    a, b = g("Split", x, g.const([2, 2]), outputs=["a", "b"], axis=1)
    x = g("Flatten", g("Concat", a, g("Add", b, a), axis=1))
    path = g.save(tmp_path, g("Gemm", x, g.weight(5, 64), transB=1))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[position] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            workload_of_onnx(path, batch=1)
        except InputError:
            refused += 1
    assert 0 < refused < 300
