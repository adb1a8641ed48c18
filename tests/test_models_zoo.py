"""The zoo: parameter counts as published, MACs by hand, boundaries, outputs, own networks."""

import functools
import itertools
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from costs.errors import InputError
from models.mobilenet_v2 import calc_channels
from models.registry import (
    NETWORKS,
    abstract_network,
    build_network,
    count_parameters,
    network_entry,
)
from models.trace import workload_of

PARAMETERS = {
    # reference folder, papers.md B
    ("resnet18", 10): 11_173_952,
    ("resnet18", 100): 11_220_032,
    ("densenet121", 10): 6_956_298,
    ("densenet121", 100): 7_048_548,
    ("mobilenet_v2", 10): 2_236_682,
    ("mobilenet_v2", 100): 2_351_972,
    # torchvision's model cards
    ("resnet18_imagenet", 1000): 11_689_512,
    ("resnet34_imagenet", 1000): 21_797_672,
    ("resnet50_imagenet", 1000): 25_557_032,
    ("vgg16", 1000): 138_357_544,
    ("densenet121_imagenet", 1000): 7_978_856,
    ("mobilenet_v2_imagenet", 1000): 3_504_872,
    ("mobilenet_v3_large", 1000): 5_483_032,
    ("mobilenet_v3_small", 1000): 2_542_856,
    # sums of the layers, by hand
    ("mlp", 10): 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10,
    ("small_cnn", 10): 9 * 32 + 32 + 9 * 32 * 64 + 64 + 3136 * 256 + 256 + 256 * 10 + 10,
    ("vgg16_cifar", 10): 14_714_688 + 2 * 4224 + 512 * 10 + 10,
}


@pytest.mark.parametrize(("name", "classes"), PARAMETERS)
def test_parameters_are_those_published(name, classes):
    default = NETWORKS[name].options["classes"] == classes
    net = _network(name) if default else abstract_network(name, classes=classes)
    assert count_parameters(net) == PARAMETERS[name, classes]


def _conv(size, kernel, channels, out, groups=1):
    """MACs of a convolution with a square output and kernel [MAC]."""
    return size**2 * kernel**2 * (channels // groups) * out


def _cifar_resnet(depth):
    blocks = (depth - 2) // 6
    stages = (
        2 * blocks * _conv(32, 3, 16, 16)
        + _conv(16, 3, 16, 32)
        + (2 * blocks - 1) * _conv(16, 3, 32, 32)
        + _conv(8, 3, 32, 64)
        + (2 * blocks - 1) * _conv(8, 3, 64, 64)
    )
    return _conv(32, 3, 3, 16) + stages + 640


def _resnet(size, stem, classes, blocks=(2, 2, 2, 2), bottleneck=False):
    total, channels = stem, 64
    for number, (count, inner) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True)):
        out = 4 * inner if bottleneck else inner
        for index in range(count):
            before, size = size, size // 2 if number and not index else size
            total += 0 if channels == out else _conv(size, 1, channels, out)
            if bottleneck:
                total += _conv(before, 1, channels, inner) + _conv(size, 3, inner, inner)
                total += _conv(size, 1, inner, out)
            else:
                total += _conv(size, 3, channels, out) + _conv(size, 3, out, out)
            channels = out
    return total + channels * classes


def _vgg16(size, classifier):
    convolutions = [(3, 64), (64, 64), None, (64, 128), (128, 128), None, (128, 256)]
    convolutions += [(256, 256)] * 2 + [None, (256, 512)] + [(512, 512)] * 2 + [None]
    total = 0
    for step in convolutions + [(512, 512)] * 3:
        size = size // 2 if step is None else size
        total += 0 if step is None else _conv(size, 3, *step)
    return total + classifier


def _densenet121(size, stem, classes):
    total, channels = stem, 64
    for number, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            total += _conv(size, 1, channels, 128) + _conv(size, 3, 128, 32)
            channels += 32
        if number < 3:
            total += _conv(size, 1, channels, channels // 2)
            channels, size = channels // 2, size // 2
    return total + channels * classes


# channels, blocks, stride; table 2 of the paper, where all but the first expand sixfold
V2 = [(16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]


def _mobilenet_v2(size, early, classes):
    size //= early
    total, channels = _conv(size, 3, 3, 32), 32
    for number, (out, count, stride) in enumerate(V2):
        for index in range(count):
            inner = channels if number == 0 else 6 * channels
            total += 0 if number == 0 else _conv(size, 1, channels, inner)
            if index == 0:
                size //= early if number == 1 else stride
            total += _conv(size, 3, inner, inner, inner) + _conv(size, 1, inner, out)
            channels = out
    return total + _conv(size, 1, 320, 1280) + 1280 * classes


# kernel, expanded, out, excited, stride; tables 1 and 2 of the paper
V3_LARGE = [(3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2)]
V3_LARGE += [(5, 120, 40, 1, 1)] * 2 + [(3, 240, 80, 0, 2), (3, 200, 80, 0, 1)]
V3_LARGE += [(3, 184, 80, 0, 1)] * 2 + [(3, 480, 112, 1, 1), (3, 672, 112, 1, 1)]
V3_LARGE += [(5, 672, 160, 1, 2)] + [(5, 960, 160, 1, 1)] * 2
V3_SMALL = [(3, 16, 16, 1, 2), (3, 72, 24, 0, 2), (3, 88, 24, 0, 1), (5, 96, 40, 1, 2)]
V3_SMALL += [(5, 240, 40, 1, 1)] * 2 + [(5, 120, 48, 1, 1), (5, 144, 48, 1, 1)]
V3_SMALL += [(5, 288, 96, 1, 2)] + [(5, 576, 96, 1, 1)] * 2


def _mobilenet_v3(rows, last, hidden):
    size, channels = 112, 16
    total = _conv(size, 3, 3, 16)
    for kernel, inner, out, excited, stride in rows:
        total += _conv(size, 1, channels, inner) if inner != channels else 0
        size //= stride
        total += _conv(size, kernel, inner, inner, inner) + _conv(size, 1, inner, out)
        squeezed = {16: 8, 72: 24, 96: 24, 120: 32, 144: 40, 240: 64, 288: 72, 480: 120}
        squeezed |= {576: 144, 672: 168, 960: 240}
        total += 2 * inner * squeezed[inner] if excited else 0
        channels = out
    return total + _conv(7, 1, channels, last) + last * hidden + hidden * 1000


DEEP = (3, 4, 6, 3)
DIGITS_RESNET = _conv(8, 3, 1, 16) + 2 * _conv(8, 3, 16, 16) + 48 * 10
DIGITS_RESNET += _conv(4, 1, 16, 32) + _conv(4, 3, 16, 32) + 3 * _conv(4, 3, 32, 32)
DIGITS_RESNET += _conv(2, 1, 32, 48) + _conv(2, 3, 32, 48) + _conv(2, 3, 48, 48)
CIFAR_RESNET8_WIDE = _conv(32, 3, 3, 16) + _conv(16, 3, 16, 32) + _conv(16, 3, 32, 32)
CIFAR_RESNET8_WIDE += _conv(8, 3, 32, 64) + _conv(8, 3, 64, 64) + 128 * 10
CIFAR_RESNET8_WIDE += _conv(4, 3, 64, 128) + _conv(4, 3, 128, 128)

MACS = {
    "mlp": 784 * 300 + 300 * 100 + 100 * 10,
    "small_cnn": 28**2 * 9 * 32 + 14**2 * 9 * 32 * 64 + 3136 * 256 + 2560,
    "digits_resnet": DIGITS_RESNET,
    "cifar_resnet8_wide": CIFAR_RESNET8_WIDE,
    **{f"cifar_resnet{d}": _cifar_resnet(d) for d in (8, 14, 20, 32, 44, 56, 110)},
    "resnet18": _resnet(32, _conv(32, 3, 3, 64), 10),
    "resnet34": _resnet(32, _conv(32, 3, 3, 64), 10, DEEP),
    "resnet50": _resnet(32, _conv(32, 3, 3, 64), 10, DEEP, bottleneck=True),
    "resnet18_imagenet": _resnet(56, _conv(112, 7, 3, 64), 1000),
    "resnet34_imagenet": _resnet(56, _conv(112, 7, 3, 64), 1000, DEEP),
    "resnet50_imagenet": _resnet(56, _conv(112, 7, 3, 64), 1000, DEEP, bottleneck=True),
    "vgg16": _vgg16(224, 25088 * 4096 + 4096 * 4096 + 4096 * 1000),
    "vgg16_cifar": _vgg16(32, 5120),
    "densenet121": _densenet121(32, _conv(32, 3, 3, 64), 10),
    "densenet121_imagenet": _densenet121(56, _conv(112, 7, 3, 64), 1000),
    "mobilenet_v2": _mobilenet_v2(32, 1, 10),
    "mobilenet_v2_imagenet": _mobilenet_v2(224, 2, 1000),
    "mobilenet_v3_large": _mobilenet_v3(V3_LARGE, 960, 1280),
    "mobilenet_v3_small": _mobilenet_v3(V3_SMALL, 576, 1024),
}


@functools.cache
def _network(name):
    return abstract_network(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_listed_are_those_of_the_network(name):
    assert NETWORKS[name].parameters == count_parameters(_network(name))


@functools.cache
def _workload(name, batch=1):
    shape = NETWORKS[name].input_shape
    assert shape is not None
    return workload_of(_network(name), shape, batch=batch)


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_those_counted_by_hand(name):
    assert _workload(name).macs == MACS[name]


def test_vgg16_convolutions_at_batch_3_are_46_040_gmac():
    workload = _workload("vgg16", batch=3)
    macs = sum(layer.macs for layer in workload.layers if layer.name.startswith("conv"))
    assert round(macs / 1e9, 3) == 46.040
    assert [layer.name for layer in workload.layers if layer.kind == "conv"][-4:] == [
        "conv5_3", "fc6", "fc7", "fc8",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_of_the_network_is_in_its_workload(name):
    leaves = jax.tree.leaves(nnx.state(_network(name), nnx.Param))
    kernels = [leaf.size for leaf in leaves if leaf.ndim > 1]
    workload = _workload(name)
    assert sum(workload.weight_bytes) == sum(kernels)
    for index, layer in enumerate(workload.layers):
        read = [t for t in workload.tensors if index in t.consumers and index not in t.fused]
        channels = [t.shape[2] for t in read]
        # channels side by side, a map and its gate, or a map made flat
        assert layer.C in (sum(channels), channels[0], sum(t.elements for t in read))


def test_dense_connections_of_densenet_are_edges():
    workload = _workload("densenet121")
    by_name = {layer.name: index for index, layer in enumerate(workload.layers)}
    stem = next(t for t in workload.tensors if t.producer == by_name["stem"])
    first_block = [by_name[f"block.0.{i}.conv1"] for i in range(6)]
    assert stem.consumers == (*first_block, by_name["transition.0.conv"])
    assert stem.boundary == "stem"
    last = by_name["block.0.5.conv1"]
    assert len(workload.inputs_of(last)) == 6


def test_boundaries_of_each_network_are_on_its_tensors():
    expected = {
        "mlp": 2,
        "small_cnn": 2,
        "vgg16": 5,
        "densenet121": 4,
        "mobilenet_v2": 18,
        "mobilenet_v3_large": 16,
        "mobilenet_v3_small": 12,
    }
    for name, count in expected.items():
        assert len({t.boundary for t in _workload(name).tensors} - {None}) == count, name


SMALL = {"input_shape": (32, 32, 3), "width_multiplier": 0.25}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {}),
        ("small_cnn", {}),
        pytest.param("vgg16_cifar", SMALL, marks=pytest.mark.slow),
        pytest.param("vgg16", SMALL, marks=pytest.mark.slow),
        pytest.param("densenet121", SMALL, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", SMALL, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", SMALL | {"resolution": "cifar"}, marks=pytest.mark.slow),
    ],
)
def test_networks_compute_finite_logits(name, options):
    options = {"classes": 7} | options
    net = build_network(name, rngs=nnx.Rngs(0), **options)
    net.eval()
    shape = options.get("input_shape", NETWORKS[name].input_shape)
    logits = nnx.jit(lambda m, x: m(x))(net, jnp.ones((2, *shape)))
    assert logits.shape == (2, 7)
    assert bool(jnp.isfinite(logits).all())


def test_channels_are_rounded_as_the_papers_do():
    assert [calc_channels(n) for n in (3, 12, 18, 30, 32, 67)] == [8, 16, 24, 32, 32, 64]
    for width in range(8, 400):
        assert calc_channels(width) % 8 == 0
        assert calc_channels(width) >= 0.9 * width


OWN = """
import jax.numpy as jnp
from flax import nnx

class MyNet(nnx.Module):
    def __init__(self, *, classes, channels=5, rngs):
        self.conv = nnx.Conv(3, channels, (3, 3), rngs=rngs)
        self.head = nnx.Linear(channels, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.mean(nnx.relu(self.conv(x)), (1, 2)))

def without_keys(classes):
    return None
"""


def test_a_users_own_network_is_built_and_traced(tmp_path):
    file = tmp_path / "my_file.py"
    file.write_text(OWN)
    name = f"{file}:MyNet"
    net = abstract_network(name, input_shape=(8, 8, 3), classes=4, channels=6)
    workload = workload_of(net, (8, 8, 3))
    assert [layer.name for layer in workload.layers] == ["conv", "pool1", "head"]
    assert workload.macs == 64 * 9 * 3 * 6 + 24
    assert network_entry(name).input_shape is None
    with pytest.raises(InputError, match=r"width: no such option .*allowed: channels, classes"):
        build_network(name, rngs=nnx.Rngs(0), classes=4, width=3)
    with pytest.raises(InputError, match="allowed: MyNet"):
        build_network(f"{file}:YourNet", rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="rngs"):
        build_network(f"{file}:without_keys", rngs=nnx.Rngs(0), classes=4)


def test_files_that_are_no_networks_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        build_network(f"{tmp_path}/none.py:Net", rngs=nnx.Rngs(0))
    for text in ("def (", "import narrows_has_no_such_module"):
        file = tmp_path / "wrong.py"
        file.write_text(text)
        with pytest.raises(InputError, match="cannot be imported"):
            build_network(f"{file}:Net", rngs=nnx.Rngs(0))


def test_wrong_names_and_options_are_refused():
    with pytest.raises(InputError, match=r"densenet121\?"):
        network_entry("densenet112")
    for name, options in (
        ("vgg16", {"input_shape": (31, 224, 3)}),
        ("small_cnn", {"input_shape": (3, 28, 1)}),
        ("vgg16", {"head": "none"}),
        ("densenet121", {"stem": "none"}),
        ("mobilenet_v2", {"resolution": "none"}),
        ("mobilenet_v3_small", {"size": "medium"}),
        ("mlp", {"depth": 3}),
    ):
        with pytest.raises(InputError):
            abstract_network(name, **options)


def test_listing_networks_imports_no_jax():
    code = (
        "import sys, models.registry as r; assert len(r.NETWORKS) > 20 and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_examples_of_the_guide_print_what_it_says(tmp_path, monkeypatch, capsys):
    guide = Path(__file__).parents[1] / "docs" / "networks.md"
    blocks = re.findall(r"```(python|text)\n(.*?)```", guide.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    checked = 0
    for (kind, code), (following, printed) in itertools.pairwise(blocks):
        if kind == "python" and "class MyNet" in code:
            Path("my_file.py").write_text(code)
        elif kind == "python" and following == "text":
            exec(code, {})
            assert capsys.readouterr().out == printed
            checked += 1
    assert checked == 2
