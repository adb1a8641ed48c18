import jax
import jax.numpy as jnp
import numpy as np
import pytest

from costs.errors import InputError
from models.architecture import Node
from models.functional import Functional, count_parameters
from models.network import Network
from models.resnet import SPECS, ResNetSpec, Stage, resnet_architecture
from models.trace import workload_of

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


def _functional(name: str | ResNetSpec, shape: tuple[int, int, int], classes: int, **kwargs):
    return Functional.from_architecture(
        resnet_architecture(name, input_shape=shape, classes=classes, **kwargs)
    )


def _count(net: Functional) -> int:
    return count_parameters(jax.eval_shape(net.init, jax.random.key(0))[0])


@pytest.mark.parametrize(
    ("name", "shape", "classes", "published"),
    [
        # Gu et al. (ICCV 2021), Table 2: the linear layer has no bias
        ("resnet18", CIFAR, 10, 11_173_952),
        ("resnet18", CIFAR, 100, 11_220_032),
        # torchvision's model documentation
        ("resnet18_imagenet", IMAGENET, 1000, 11_689_512),
        ("resnet34_imagenet", IMAGENET, 1000, 21_797_672),
        ("resnet50_imagenet", IMAGENET, 1000, 25_557_032),
    ],
)
def test_published_parameter_counts(
    name: str, shape: tuple[int, int, int], classes: int, published: int
):
    assert _count(_functional(name, shape, classes)) == published


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_cifar_resnets_have_the_sizes_of_he_et_al_table_6(depth: int, millions: float):
    count = _count(_functional(f"cifar_resnet{depth}", CIFAR, 10))
    digits = 1 if depth == 110 else 2
    assert round(count / 1e6, digits) == millions
    # independent formula: 3x3 layers of three stages of 2n layers, norms, linear layer
    n = (depth - 2) // 6
    convs = 9 * (3 * 16 + 2 * n * 16**2 + (16 * 32 + (2 * n - 1) * 32**2))
    convs += 9 * (32 * 64 + (2 * n - 1) * 64**2)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    assert count == convs + norms + 64 * 10 + 10


def test_digits_network_has_its_documented_size():
    assert _count(_functional("digits_resnet", (8, 8, 1), 10)) == 74_810


def test_projection_shortcuts_add_their_weights():
    spec = ResNetSpec(SPECS["cifar_resnet20"].stages)
    extra = _count(_functional(spec, CIFAR, 10)) - _count(_functional("cifar_resnet20", CIFAR, 10))
    assert extra == 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_depth_counts_layers_with_weights():
    for depth in (8, 14, 20, 110):
        nodes = _functional(f"cifar_resnet{depth}", CIFAR, 10).operations.nodes
        assert sum(node.op in ("conv", "linear") for node in nodes) == depth


def test_stage_resolutions():
    shapes = _functional("resnet50_imagenet", IMAGENET, 1000).operations.shapes
    assert shapes["stem.relu"] == (112, 112, 64)
    assert [shapes[f"stage{s}.block0.relu"] for s in (1, 2, 3, 4)] == [
        (56, 56, 256),
        (28, 28, 512),
        (14, 14, 1024),
        (7, 7, 2048),
    ]


def test_width_multiplier():
    spec = SPECS["digits_resnet"].scaled(0.5)
    assert spec.stem == 8
    assert [stage.channels for stage in spec.stages] == [8, 16, 24]
    net = _functional("digits_resnet", (8, 8, 1), 10, width_multiplier=2.0)
    assert net.operations.shapes["stage3.block0.relu"] == (2, 2, 96)


DIGITS = _functional("digits_resnet", (8, 8, 1), 10, bottlenecks="blocks")
DIGITS_EDGES = [
    ("stem.out", "stage1.block0.conv1"),
    ("stem.out", "stage1.block0.conv2"),
    ("stage1.block0.out", "stage2.block0.shortcut"),
    ("stage1.block0.out", "stage2.block0.conv1"),
    ("stage2.block0.out", "stage2.block1.conv1"),
    ("stage2.block0.out", "stage2.block1.conv2"),
    ("stage2.block1.out", "stage3.block0.shortcut"),
    ("stage2.block1.out", "stage3.block0.conv1"),
    ("stage3.block0.out", "pool"),
]


def test_every_consumer_of_a_boundary_is_an_edge():
    edges = [(DIGITS.boundaries[edge.boundary].name, edge.consumer) for edge in DIGITS.edges]
    assert edges == DIGITS_EDGES
    assert [b.producer for b in DIGITS.boundaries] == [
        "stem.conv",
        "stage1.block0.conv2",
        "stage2.block0.conv2",
        "stage2.block1.conv2",
        "stage3.block0.conv2",
    ]
    assert [(b.channels, b.height, b.width) for b in DIGITS.boundaries] == [
        (16, 8, 8),
        (16, 8, 8),
        (32, 4, 4),
        (32, 4, 4),
        (48, 2, 2),
    ]


@pytest.mark.parametrize(
    "spec",
    [
        SPECS["digits_resnet"],
        SPECS["cifar_resnet8"],
        ResNetSpec((Stage(2, 2, 2),), stem=4, imagenet_stem=True, block="bottleneck"),
    ],
)
def test_boundaries_and_edges_are_those_the_traced_workload_has(spec: ResNetSpec):
    net = _functional(spec, (16, 16, 2), 5, bottlenecks="all")
    workload = workload_of(net.abstract, (16, 16, 2))
    names = [layer.name for layer in workload.layers]
    traced = {
        tensor.boundary: (names[tensor.producer], {names[i] for i in tensor.consumers})
        for tensor in workload.tensors
        if tensor.boundary
    }
    for index, boundary in enumerate(net.boundaries):
        consumers = {edge.consumer for edge in net.edges if edge.boundary == index}
        assert traced[boundary.name] == (boundary.producer, consumers)
    assert len(traced) == len(net.boundaries)
    convs = {node.name for node in net.operations.nodes if node.op in ("conv", "linear")}
    assert convs <= set(names)


def test_boundaries_by_name_and_all():
    names = ("stem.out", "stage2.block0.mid1")
    net = _functional("digits_resnet", (8, 8, 1), 10, bottlenecks=names, bits={"stem.out": 4})
    assert [(b.name, b.bits) for b in net.boundaries] == [(names[0], 4), (names[1], 8)]
    assert [edge.consumer for edge in net.edges] == [
        "stage1.block0.conv1",
        "stage1.block0.conv2",
        "stage2.block0.conv2",
    ]
    everything = _functional("digits_resnet", (8, 8, 1), 10, bottlenecks="all")
    assert len(everything.boundaries) == len(DIGITS.boundaries) + 4
    with pytest.raises(InputError, match="stage3"):
        _functional("digits_resnet", (8, 8, 1), 10, bottlenecks=("stage9.out",))
    with pytest.raises(InputError, match="digits_resnet"):
        _functional("resnet19", (8, 8, 1), 10)


SMALL = _functional(
    ResNetSpec((Stage(1, 4), Stage(1, 6, 2)), stem=4), (6, 6, 2), 3, bottlenecks="blocks"
)
PARAMS, STATS = SMALL.init(jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (4, 6, 6, 2))
FULL = jnp.asarray([b.channels for b in SMALL.boundaries], jnp.float32)
UNOPTIMISED = {"xla_backend_optimization_level": 0}  # compiled to run once
APPLY = jax.jit(SMALL.apply, static_argnames="mode", compiler_options=UNOPTIMISED)


def test_no_crossing_is_the_plain_network():
    plain = APPLY(PARAMS, STATS, X, mode="batch")[0]
    gated = APPLY(PARAMS, STATS, X, FULL - 1, jnp.zeros(len(SMALL.edges)), mode="batch")[0]
    np.testing.assert_allclose(gated, plain, atol=1e-5)


def test_each_width_and_each_crossing_matters():
    ones = jnp.ones(len(SMALL.edges))
    base = APPLY(PARAMS, STATS, X, FULL - 1, ones, mode="batch")[0]
    for i in range(len(FULL)):
        other = APPLY(PARAMS, STATS, X, (FULL - 1).at[i].add(-1), ones, mode="batch")[0]
        assert jnp.max(jnp.abs(other - base)) > 1e-3
    for i in range(len(SMALL.edges)):
        other = APPLY(PARAMS, STATS, X, FULL - 1, ones.at[i].set(0), mode="batch")[0]
        assert jnp.max(jnp.abs(other - base)) > 1e-3


def test_gradients_reach_widths_crossings_and_weights():
    def total(params: dict[str, jax.Array], w: jax.Array, c: jax.Array) -> jax.Array:
        return jnp.sum(SMALL.apply(params, STATS, X, w, c, "batch")[0] ** 2)

    grad = jax.jit(jax.grad(total, (0, 1, 2)), compiler_options=UNOPTIMISED)
    for crossing in (0.0, 1.0):
        weights, widths, gates = grad(PARAMS, FULL - 1, jnp.full(len(SMALL.edges), crossing))
        assert np.all(gates != 0)
        assert np.all((widths != 0) == (crossing == 1.0))
        moved = {name for name, value in weights.items() if np.any(value != 0)}
        assert ("stem.out.reduce.kernel" in moved) == (crossing == 1.0)
        assert "stem.conv.kernel" in moved


def test_masks_may_replace_widths():
    masks = tuple(jnp.arange(b.channels) < 2.0 for b in SMALL.boundaries)
    masks = tuple(mask.astype(jnp.float32) for mask in masks)
    c = jnp.ones(len(SMALL.edges))
    by_mask = APPLY(PARAMS, STATS, X, masks, c, mode="batch")[0]
    by_width = APPLY(PARAMS, STATS, X, jnp.full(len(FULL), 2.0), c, mode="batch")[0]
    np.testing.assert_allclose(by_mask, by_width, atol=1e-6)


def test_batch_statistics_are_returned_and_inputs_kept():
    before = {name: np.array(value) for name, value in STATS.items()}
    _, after = APPLY(PARAMS, STATS, X, mode="batch")
    assert after.keys() == STATS.keys()
    assert np.any(after["stem.norm.mean"] != before["stem.norm.mean"])
    for name, value in STATS.items():
        np.testing.assert_array_equal(value, before[name])
    _, unchanged = APPLY(PARAMS, after, X, mode="stored")
    for name, value in after.items():
        np.testing.assert_array_equal(value, unchanged[name])


def test_layers_run_in_name_scopes_of_their_module_paths():
    net = SMALL.network(PARAMS, STATS)
    jaxpr = jax.make_jaxpr(net)(X, FULL, jnp.ones(len(SMALL.edges)))
    convs = [e for e in jaxpr.eqns if e.primitive.name in ("conv_general_dilated", "dot_general")]
    names = [str(e.source_info.name_stack) for e in convs]
    expected = [n.name for n in SMALL.operations.nodes if n.op in ("conv", "linear")]
    pairs = [f"{b.name}.{part}" for b in SMALL.boundaries for part in ("reduce", "expand")]
    assert {*expected, *pairs} <= set(names)
    assert {f"{name}.kernel" for name in (*expected, *pairs)} <= PARAMS.keys()


def test_parameter_free_shortcut_strides_and_pads():
    node = Node("s", "subsample", ("input",), (3, 3, 5), stride=(2, 2))
    net = SMALL.network(PARAMS, STATS)
    assert isinstance(net, Network)
    y = net.run(node, [X], {}, "stored")
    np.testing.assert_array_equal(y[..., :2], X[:, ::2, ::2])
    assert np.all(y[..., 2:] == 0)
