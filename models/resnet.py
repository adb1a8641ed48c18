"""Residual networks (He et al., 2016): CIFAR ResNet-8 to -110, ResNet-18/34/50, one for digits.

Boundaries: ``stem.out`` and ``<stage>.<block>.out`` after each block's last relu, and within blocks
(``bottlenecks="all"``), ``.mid1`` (and ``.mid2``) after the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from flax import nnx

from costs.errors import InputError
from models.architecture import Architecture, Builder, Tensor, Where
from models.network import Network

BOTTLENECK_EXPANSION = 4
"""Output channels of a three-layer block over its inner ones."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution: how many, their channels, stride of the first."""

    blocks: int
    channels: int
    stride: int = 1


@dataclass(frozen=True)
class ResNetSpec:
    """What a residual network looks like.

    Attributes:
        stages: Its stages.
        stem: Channels of the first convolution.
        imagenet_stem: 7x7 stride 2 and max pooling in place of 3x3 stride 1.
        block: "basic" (two 3x3 layers) or "bottleneck" (1x1, 3x3, 1x1).
        shortcut: Where shapes change: "projection" (1x1) or "parameter_free" (stride, zero-pad).
        head_bias: Whether the linear layer has a bias.
    """

    stages: tuple[Stage, ...]
    stem: int = 16
    imagenet_stem: bool = False
    block: Literal["basic", "bottleneck"] = "basic"
    shortcut: Literal["projection", "parameter_free"] = "projection"
    head_bias: bool = True

    def scaled(self, multiplier: float) -> ResNetSpec:
        """The same network with all widths times ``multiplier``, rounded, at least one channel."""

        def scale(channels: int) -> int:
            return max(1, round(channels * multiplier))

        stages = tuple(replace(stage, channels=scale(stage.channels)) for stage in self.stages)
        return replace(self, stem=scale(self.stem), stages=stages)


def _cifar(depth: int) -> ResNetSpec:
    blocks = (depth - 2) // 6
    stages = (Stage(blocks, 16), Stage(blocks, 32, 2), Stage(blocks, 64, 2))
    return ResNetSpec(stages, shortcut="parameter_free")


def _wide(blocks: tuple[int, int, int, int], block: Literal["basic", "bottleneck"]) -> ResNetSpec:
    counts = zip(blocks, (64, 128, 256, 512), (1, 2, 2, 2), strict=True)
    stages = tuple(Stage(count, channels, stride) for count, channels, stride in counts)
    return ResNetSpec(stages, stem=64, block=block, head_bias=False)


def _imagenet(spec: ResNetSpec) -> ResNetSpec:
    return replace(spec, imagenet_stem=True, head_bias=True)


SPECS: dict[str, ResNetSpec] = {
    "digits_resnet": ResNetSpec((Stage(1, 16), Stage(2, 32, 2), Stage(1, 48, 2))),
    # as many MACs as ResNet-8 and four times its weights: every stage at half the resolution
    "cifar_resnet8_wide": ResNetSpec(
        (Stage(1, 32, 2), Stage(1, 64, 2), Stage(1, 128, 2)), shortcut="parameter_free"
    ),
    **{f"cifar_resnet{depth}": _cifar(depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
    "resnet18": _wide((2, 2, 2, 2), "basic"),
    "resnet34": _wide((3, 4, 6, 3), "basic"),
    "resnet50": _wide((3, 4, 6, 3), "bottleneck"),
    "resnet18_imagenet": _imagenet(_wide((2, 2, 2, 2), "basic")),
    "resnet34_imagenet": _imagenet(_wide((3, 4, 6, 3), "basic")),
    "resnet50_imagenet": _imagenet(_wide((3, 4, 6, 3), "bottleneck")),
}
"""Networks by name; resnet18/34/50 have the CIFAR stem, their linear layer no bias."""


def resnet_architecture(
    spec: ResNetSpec | str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    bottlenecks: Where = "none",
    bits: int | Mapping[str, int] = 8,
    quantise: bool = True,
    modulate: bool = True,
    width_multiplier: float = 1.0,
) -> Architecture:
    """The architecture of a residual network.

    Args:
        spec: Its stages, or a name of ``SPECS``.
        input_shape: (height, width, channels) of an image.
        classes: Number of logits.
        bottlenecks: "blocks", "all", "none" or names of boundaries.
        bits: Word length of crossings [bits], one or by boundary.
        quantise: Whether crossings are quantised.
        modulate: Whether norms are told of the design.
        width_multiplier: Factor on all channels.

    Returns:
        The architecture; ``Network(architecture, rngs=...)`` gives it weights.
    """
    if isinstance(spec, str):
        if spec not in SPECS:
            raise InputError("unknown network", value=spec, allowed=SPECS)
        spec = SPECS[spec]
    spec = spec.scaled(width_multiplier)
    g = Builder(input_shape, bottlenecks, bits)
    x = _conv_norm(g, "stem", "", g.input(), spec.stem, *((7, 2) if spec.imagenet_stem else (3, 1)))
    x = g.relu("stem.relu", x)
    if spec.imagenet_stem:
        x = g.max_pool("stem.pool", x, 3, 2)
    x = g.boundary("stem.out", x)
    for s, stage in enumerate(spec.stages, start=1):
        for b in range(stage.blocks):
            stride = stage.stride if b == 0 else 1
            x = _block(g, f"stage{s}.block{b}", x, stage.channels, stride, spec)
    x = g.mean("pool", x)
    g.linear("head", x, classes, bias=spec.head_bias)
    return g.build(quantise=quantise, modulate=modulate)


def resnet(
    spec: ResNetSpec | str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    rngs: nnx.Rngs,
    bottlenecks: Where = "none",
    bits: int | Mapping[str, int] = 8,
    quantise: bool = True,
    modulate: bool = True,
    width_multiplier: float = 1.0,
) -> Network:
    """A residual network with fresh weights; arguments as in ``resnet_architecture``."""
    architecture = resnet_architecture(
        spec,
        input_shape=input_shape,
        classes=classes,
        bottlenecks=bottlenecks,
        bits=bits,
        quantise=quantise,
        modulate=modulate,
        width_multiplier=width_multiplier,
    )
    return Network(architecture, rngs=rngs)


def _conv_norm(
    g: Builder, path: str, index: str, x: Tensor, channels: int, kernel: int, stride: int
) -> Tensor:
    x = g.conv(f"{path}.conv{index}", x, channels, kernel, stride)
    return g.norm(f"{path}.norm{index}", x)


def _block(
    g: Builder, path: str, x: Tensor, channels: int, stride: int, spec: ResNetSpec
) -> Tensor:
    if spec.block == "basic":
        layers = [(channels, 3, stride), (channels, 3, 1)]
    else:  # the stride sits in the 3x3 layer, as in the networks commonly published
        wide = BOTTLENECK_EXPANSION * channels
        layers = [(channels, 1, 1), (channels, 3, stride), (wide, 1, 1)]
    last, outputs = f"{path}.conv{len(layers)}", layers[-1][0]
    # the shortcut runs first, so that the addition is fused into the block's last layer
    if stride == 1 and x.shape[2] == outputs:
        skip = x
    elif spec.shortcut == "projection":
        skip = g.conv(f"{path}.shortcut", x, outputs, 1, stride)
        skip = g.norm(f"{path}.shortcut_norm", skip)
    else:
        skip = g.subsample(f"{path}.shortcut", x, outputs, stride, last)
    y = x
    for i, (width, kernel, step) in enumerate(layers, start=1):
        y = _conv_norm(g, path, str(i), y, width, kernel, step)
        if i < len(layers):
            y = g.boundary(f"{path}.mid{i}", g.relu(f"{path}.relu{i}", y), inner=True)
    y = g.relu(f"{path}.relu", g.add(f"{path}.add", y, skip))
    return g.boundary(f"{path}.out", y)
