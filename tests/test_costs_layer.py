"""Layers: sizes of tensors, and one clear error for whatever is no layer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs.errors import InputError
from costs.layer import DIMS, Layer

sizes = st.integers(1, 12)


@given(sizes, sizes, sizes, sizes, sizes, st.integers(1, 3), st.integers(1, 4))
def test_macs_and_words_of_a_grouped_layer(n, k, c, p, r, stride, groups):
    layer = Layer(
        "l", N=n, K=k * groups, C=c * groups, P=p, Q=p, R=r, S=r, stride=(stride, 2), groups=groups
    )
    assert layer.macs == n * groups * k * c * p * p * r * r
    assert layer.words("W") == groups * k * c * r * r
    assert layer.words("O") == n * groups * k * p * p
    assert layer.input_height == (p - 1) * stride + r
    assert layer.words("I") == n * groups * c * layer.input_height * layer.input_width
    assert set(layer.bounds) == set(DIMS)


def test_input_size_follows_from_the_padding_or_is_given():
    """ResNet's first layer: a stride of two leaves the last padded row untouched."""
    stem: dict[str, Any] = {"K": 64, "C": 3, "P": 112, "Q": 112, "R": 7, "S": 7, "stride": (2, 2)}
    derived = Layer("stem", padding=((3, 2), (3, 2)), **stem)
    given_size = Layer("stem", padding=((3, 3), (3, 3)), input_size=(224, 224), **stem)
    assert derived.words("I") == given_size.words("I") == 3 * 224 * 224


def test_dilation_widens_the_window():
    assert Layer("l", R=3, S=3, dilation=(2, 4)).input_height == 5
    assert Layer("l", R=3, S=3, dilation=(2, 4)).input_width == 9


def test_pooling_and_addition_have_no_weights_and_no_macs():
    addition = Layer("add", K=16, C=32, P=8, Q=8, groups=16, kind="elementwise")
    assert addition.words("W") == addition.macs == 0
    assert addition.words("I") == 2 * addition.words("O")
    assert addition.operands == ("I", "O")


def test_bytes_follow_bits():
    layer = Layer("l", K=4, C=4, bits_w=4, bits_i=16)
    assert layer.bytes("W") == 8
    assert layer.bytes("I") == 8
    assert layer.bytes("O") == 4


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("l.K", {"K": 0}),
        ("l.C", {"C": -3}),
        ("l.P", {"P": 2.0}),
        ("l.N", {"N": True}),
        ("l.Q", {"Q": 2**40}),
        ("l.N", {"N": 2**30, "K": 2**30}),
        ("l.bits_w", {"bits_w": 0}),
        ("l.stride", {"stride": (0, 1)}),
        ("l.stride", {"stride": 2}),
        ("l.dilation", {"dilation": (1, 2, 3)}),
        ("l.groups", {"K": 6, "C": 6, "groups": 4}),
        ("l.padding", {"padding": ((1, 1), (0, 0))}),
        ("l.padding", {"padding": (1, 1)}),
        ("l.kind", {"kind": "attention"}),
        ("l.groups", {"K": 4, "C": 4, "kind": "pool"}),
        ("l.input_size", {"input_size": (0, 4)}),
    ],
)
def test_what_is_no_layer_is_refused_by_field(key, fields):
    with pytest.raises(InputError) as error:
        Layer("l", **fields)
    assert error.value.key == key
    assert "\n" not in str(error.value)


def test_unknown_operands_are_refused():
    for method in (Layer("l").words, Layer("l").bits):
        with pytest.raises(InputError):
            method("X")
