"""Convolutions whose kernels are generated from bases, for any network (Gu et al., ICCV 2021).

    make_in_situ(network, Bases.parse("2-44-3-6-3"), rngs=rngs)

puts an `InSituConv` in the place of every convolution that its bases make smaller. It is an
`nnx.Conv` whose kernel is computed: whoever calls it, masks it, traces it or reads its kernel need
not know. How its factors are trained: `models.insitu_projection`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from costs.insitu import DENSE_BITS, Bases, Factors, Storage, choose_factors
from models.convolutions import replace_convolutions, settings_of
from models.insitu_quantise import calc_dorefa

LINEAR_BITS = 8
"""Bits of a linear layer's weights beside quantised factors [bit] (Gu et al., table 2)."""

NAMES = ("basis", "coefficients", "mixing")
"""The factors B, U and V as a module's parameters."""

Masks = tuple[jax.Array | None, jax.Array | None]
"""Which of the Bi and of the Bc bases are open, f32[Bi] and f32[Bc]; None for all."""


class InSituConv(nnx.Conv):
    """A convolution with the kernel V {U_i B_i}.

    Attributes:
        factors: Shapes and bits of what is stored.
        basis: B, f32[kernels, Bi, taps].
        coefficients: U, f32[kernels, Ci, Bi]; None without intra-kernel generation.
        mixing: V, f32[Co, kernels]; None without cross-kernel generation.
    """

    def __init__(self, conv: nnx.Conv, factors: Factors, *, rngs: nnx.Rngs) -> None:  # pyright: ignore[reportMissingSuperCall]
        """Take a convolution's place with fresh factors.

        Args:
            conv: Gives all settings and the bias.
            factors: From `costs.insitu.choose_factors`.
            rngs: Random keys.
        """
        for name, value in settings_of(conv).items():
            setattr(self, name, value)
        self.factors = factors
        names = [name for name, shape in zip(NAMES, factors.shapes, strict=True) if shape]
        # the terms that each product sums over, so that the kernel is He-initialised
        terms = math.prod(shape[-1] for shape in factors.shapes[1:] if shape)
        fan_in = math.prod(conv.kernel_shape[:-1])
        scale = (2.0 / (fan_in * terms)) ** (0.5 / len(names))
        # one draw for all: the generator is compiled once per shape
        ends = list(itertools.accumulate(factors.words))
        parts = jnp.split(scale * jax.random.normal(rngs.params(), (ends[-1],)), ends[:-1])
        for name, shape, part in zip(NAMES, factors.shapes, parts, strict=True):
            setattr(self, name, nnx.Param(part.reshape(shape)) if shape else nnx.data(None))

    @property
    def kernel(self) -> jax.Array:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The generated kernel, f32[height, width, Ci per group, Co]."""
        arrays = {name: value[...] for name in NAMES if (value := getattr(self, name)) is not None}
        kernel = generate(self.factors, arrays, getattr(self, "_open", (None, None)))
        return kernel.reshape(self.kernel_shape)


def generate(
    factors: Factors, arrays: Mapping[str, jax.Array], masks: Masks = (None, None)
) -> jax.Array:
    """The kernel of quantised factors, f32[taps, Ci per group, Co].

    Args:
        factors: Shapes and bits.
        arrays: "basis", "coefficients", "mixing" as far as there are any, as trained.
        masks: Open bases; a closed one contributes nothing.
    """
    bases = factors.bases
    kernels, rows, _ = factors.basis
    intra = jnp.ones(rows) if masks[0] is None else masks[0]
    cross = jnp.ones(kernels) if masks[1] is None else masks[1]
    stored = cross[:, None, None] * intra[None, :, None]
    inside = calc_dorefa(arrays["basis"], bases.bits_b, stored)
    if factors.coefficients:
        stored = cross[:, None, None] * intra[None, None, :]
        coefficients = calc_dorefa(arrays["coefficients"], bases.bits_u, stored)
        inside = jnp.einsum("nci,nit->nct", coefficients * intra[None, None, :], inside)
    if factors.mixing:
        mixing = calc_dorefa(arrays["mixing"], bases.bits_v, cross[None, :])
        inside = jnp.einsum("on,nct->oct", mixing * cross[None, :], inside)
    if is_depthwise(factors):
        return jnp.transpose(inside, (2, 0, 1))
    return jnp.transpose(inside, (2, 1, 0))


def is_depthwise(factors: Factors) -> bool:
    """Whether one set of bases serves all channels, each of which is a kernel of its own."""
    return factors.basis[0] == 1 and factors.mixing is None and factors.coefficients is not None


def make_in_situ(
    network: nnx.Module,
    bases: Bases,
    *,
    rngs: nnx.Rngs,
    chosen: Mapping[str, Factors] | None = None,
) -> None:
    """Exchange all convolutions of a network that the bases make smaller.

    Args:
        network: Is changed; with shapes in place of arrays it keeps to shapes.
        bases: Counts and bits.
        rngs: Random keys.
        chosen: Factors by path, where they are not those that `bases` gives.
    """

    def make(path: str, conv: nnx.Conv) -> nnx.Module | None:
        factors = (chosen or {}).get(path) or factors_of(conv, bases)
        return None if factors is None else InSituConv(conv, factors, rngs=rngs)

    replace_convolutions(network, make)


def open_bases(network: nnx.Module, masks: Mapping[str, Masks]) -> None:
    """Say which bases of which convolution are open in the calls that follow.

    For a network that lives for one trace: what is said is not part of its state.
    """
    for path, module in list_in_situ(network):
        object.__setattr__(module, "_open", masks[path])


def factors_of(conv: nnx.Conv, bases: Bases) -> Factors | None:
    """The factors of a convolution's kernel, None where it stays dense."""
    *window, inputs, outputs = conv.kernel_shape
    return choose_factors(outputs, inputs, math.prod(window), conv.feature_group_count, bases)


def list_in_situ(network: nnx.Module) -> Iterator[tuple[str, InSituConv]]:
    """Paths and modules of the generated convolutions; paths are the names of their layers."""
    for path, module in nnx.iter_modules(network):
        if isinstance(module, InSituConv):
            yield ".".join(map(str, path)), module


def calc_storage(network: nnx.Module, bases: Bases) -> Storage:
    """What a network with generated kernels stores, by the counting rule of the paper.

    Norms, biases and convolutions that stay dense at 32 bits; linear layers at 8 bits beside
    quantised factors, else 32; the dense reference at 32 bits throughout.
    """
    linear_bits = LINEAR_BITS if bases.quantised else DENSE_BITS
    parts = ("B", "U", "V", "dense", "linear", "other")
    words: dict[str, int] = dict.fromkeys(parts, 0)
    bits: dict[str, int] = dict.fromkeys(parts, 0)
    dense = 0

    def add(part: str, count: int, width: int) -> None:
        words[part] += count
        bits[part] += count * width

    for _, module in nnx.iter_modules(network):
        own = {
            name: value.size for name, value in vars(module).items() if isinstance(value, nnx.Param)
        }
        if isinstance(module, InSituConv):
            widths = (bases.bits_b, bases.bits_u, bases.bits_v)
            for part, count, width in zip("BUV", module.factors.words, widths, strict=True):
                add(part, count, width)
            dense += math.prod(module.kernel_shape)
            for name in NAMES:
                own.pop(name, None)
        elif isinstance(module, nnx.Conv):
            dense += own["kernel"]
            add("dense", own.pop("kernel"), DENSE_BITS)
        elif isinstance(module, nnx.Linear):
            dense += sum(own.values())
            add("linear", sum(own.values()), linear_bits)
            own = {}
        dense += sum(own.values())
        add("other", sum(own.values()), DENSE_BITS)
    return Storage(words, bits, dense)
