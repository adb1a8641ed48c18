"""The communication bounds: laws, a brute-force search, and the table of HPCA 2020 for VGG-16."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs.bounds import (
    best_output_block,
    calc_bounds_table,
    calc_compulsory_words,
    calc_formula_words,
    calc_layer_bounds,
)
from costs.layer import Layer

KILOBYTE = 1024
CAPACITIES = (66.5 * KILOBYTE, 131.625 * KILOBYTE, 173.5 * KILOBYTE)


def vgg(name, c, k, size):
    return Layer(name, N=3, K=k, C=c, P=size, Q=size, R=3, S=3, padding=((1, 1), (1, 1)))


VGG16 = [
    vgg("conv1_1", 3, 64, 224),
    vgg("conv1_2", 64, 64, 224),
    vgg("conv2_1", 64, 128, 112),
    vgg("conv2_2", 128, 128, 112),
    vgg("conv3_1", 128, 256, 56),
    vgg("conv3_2", 256, 256, 56),
    vgg("conv3_3", 256, 256, 56),
    vgg("conv4_1", 256, 512, 28),
    vgg("conv4_2", 512, 512, 28),
    vgg("conv4_3", 512, 512, 28),
    vgg("conv5_1", 512, 512, 14),
    vgg("conv5_2", 512, 512, 14),
    vgg("conv5_3", 512, 512, 14),
]

# Chen, Han, Wang, HPCA 2020 (arXiv 1911.05662), recomputed from the shapes: 16-bit words, batch 3,
# MB = 1e6 bytes; columns formula and tiled at 66.5, 131.625 and 173.5 KB, and compulsory
PRINTED = {
    "conv1_1": (21.15, 21.35, 20.60, 20.78, 20.43, 20.68, 20.17),
    "conv1_2": (59.36, 63.60, 47.77, 51.49, 44.09, 49.32, 38.61),
    "conv2_1": (29.68, 32.98, 23.88, 26.68, 22.05, 23.89, 14.60),
    "conv2_2": (49.73, 56.33, 38.13, 43.73, 34.46, 38.15, 19.56),
    "conv3_1": (24.87, 28.80, 19.07, 21.92, 17.23, 19.13, 7.82),
    "conv3_2": (44.91, 52.78, 33.32, 39.03, 29.64, 33.45, 10.81),
    "conv4_1": (22.46, 25.14, 16.66, 17.92, 14.82, 15.51, 5.97),
    "conv4_2": (42.51, 47.87, 30.91, 33.42, 27.23, 28.61, 9.54),
    "conv5_1": (10.63, 11.34, 7.73, 8.33, 6.81, 7.73, 5.92),
}
TOTALS = (414.0, 463.5, 317.8, 352.4, 287.2, 314.0, 165.2)


@st.composite
def layers(draw):
    """Small layers, padded or not."""
    r, s = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 3]))
    p, q, pad = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 1))
    if p == 1 or q == 1:
        pad = 0
    top, left = min(pad, r - 1), min(pad, s - 1)
    return Layer(
        "small",
        N=draw(st.integers(1, 2)),
        K=draw(st.integers(1, 5)),
        C=draw(st.integers(1, 4)),
        P=p,
        Q=q,
        R=r,
        S=s,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=((top, top), (left, left)),
    )


def walk_block(layer, b, y, x, z):
    """Traffic and memory of one block size, walked block by block over sets of addresses."""
    traffic, memory = 0, 0
    for n0, p0, q0, k0 in itertools.product(
        range(0, layer.N, b), range(0, layer.P, y), range(0, layer.Q, x), range(0, layer.K, z)
    ):
        images = range(n0, min(n0 + b, layer.N))
        outputs = list(
            itertools.product(range(p0, min(p0 + y, layer.P)), range(q0, min(q0 + x, layer.Q)))
        )
        channels = min(z, layer.K - k0)
        touched = {
            (p * layer.stride[0] + r - layer.padding[0][0],
             q * layer.stride[1] + s - layer.padding[1][0])
            for p, q in outputs for r in range(layer.R) for s in range(layer.S)
        }  # fmt: skip
        inside = sum(0 <= h < layer.input_height and 0 <= w < layer.input_width for h, w in touched)
        traffic += layer.C * (channels * layer.R * layer.S + len(images) * inside)
        outputs_held = len(images) * len(outputs) * channels
        memory = max(memory, outputs_held + len(images) * inside + channels)
    return traffic + layer.words("O"), memory


@given(layers(), st.integers(3, 120))
def test_block_is_the_optimum_of_a_brute_force_walk(layer, onchip_words):
    sizes = itertools.product(
        range(1, layer.N + 1), range(1, layer.P + 1), range(1, layer.Q + 1), range(1, layer.K + 1)
    )
    walked = [walk_block(layer, *size) for size in sizes]
    fitting = [traffic for traffic, memory in walked if memory <= onchip_words]
    block = best_output_block(layer, onchip_words)
    assert (block is None) == (not fitting)
    if block is not None:
        assert block.traffic_words == min(fitting)
        assert block.onchip_words <= onchip_words
        walked_block = walk_block(layer, block.images, block.height, block.width, block.channels)
        assert walked_block == (block.traffic_words, block.onchip_words)


@given(layers(), st.integers(3, 200))
def test_compulsory_bounds_every_block_and_memory_only_helps(layer, onchip_words):
    block = best_output_block(layer, onchip_words)
    larger = best_output_block(layer, onchip_words + 1)
    if block is None:
        return
    assert block.traffic_words >= sum(calc_compulsory_words(layer).values())
    assert larger is not None
    assert larger.traffic_words <= block.traffic_words


def test_everything_on_chip_reaches_compulsory_traffic():
    layer = Layer("conv", N=3, K=7, C=3, P=11, Q=5, R=3, S=3, padding=((1, 1), (1, 1)))
    block = best_output_block(layer, 1e9)
    assert block is not None
    assert block.traffic_words == sum(calc_compulsory_words(layer).values())


def test_a_memory_one_word_short_of_a_block():
    layer = Layer("conv", K=4, C=3, P=4, Q=4, R=3, S=3)
    # one output, nine inputs, one weight
    just_fits = best_output_block(layer, 11)
    assert just_fits is not None
    assert just_fits.onchip_words == 11
    assert best_output_block(layer, 10) is None
    assert math.isinf(calc_layer_bounds(layer, [20]).tiled_bytes[0])


def test_stride_larger_than_the_kernel_leaves_rows_untouched():
    layer = Layer("downsample", K=8, C=4, P=4, Q=4, stride=(2, 2))
    assert calc_compulsory_words(layer)["I"] == 4 * 4 * 4


def test_grouped_layers_count_weights_per_group():
    layer = Layer("depthwise", K=8, C=8, P=6, Q=6, R=3, S=3, groups=8)
    words = calc_compulsory_words(layer)
    assert words == {"W": 8 * 9, "I": 8 * 64, "O": 8 * 36}
    block = best_output_block(layer, 1e6)
    assert block is not None
    assert block.traffic_words == sum(words.values())


@pytest.fixture(scope="module")
def vgg_table():
    return calc_bounds_table(VGG16, CAPACITIES)


def test_vgg16_formula_and_compulsory_to_the_printed_digit(vgg_table):
    assert vgg_table[-1].macs == pytest.approx(46.040e9, rel=1e-4)
    rows = {row.name: row for row in vgg_table}
    for name, printed in PRINTED.items():
        for i in range(3):
            assert f"{rows[name].formula_bytes[i] / 1e6:.2f}" == f"{printed[2 * i]:.2f}", name
        assert f"{rows[name].compulsory_bytes / 1e6:.2f}" == f"{printed[6]:.2f}", name
    for i in range(3):
        assert f"{vgg_table[-1].formula_bytes[i] / 1e6:.1f}" == f"{TOTALS[2 * i]:.1f}"
    assert f"{vgg_table[-1].compulsory_bytes / 1e6:.1f}" == f"{TOTALS[6]:.1f}"


def test_vgg16_blocks_are_as_good_as_the_printed_ones(vgg_table):
    rows = {row.name: row for row in vgg_table}
    for name, printed in PRINTED.items():
        for i in range(3):
            assert round(rows[name].tiled_bytes[i] / 1e6, 2) <= printed[2 * i + 1], (name, i)
    for i in range(3):
        assert round(vgg_table[-1].tiled_bytes[i] / 1e6, 1) <= TOTALS[2 * i + 1]


def test_the_formula_is_not_a_bound():
    # at 173.5 KB all weights of conv1_2 stay on chip: compulsory traffic beats the formula
    layer = VGG16[1]
    assert layer.words("W") * 2 < CAPACITIES[2]
    compulsory = sum(calc_compulsory_words(layer).values())
    assert compulsory < calc_formula_words(layer, CAPACITIES[2] / 2)
