"""Exchanges the convolutions of any Flax network, the shipped ones and a user's own."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx

from models.bottleneck import Bottleneck


def replace_convolutions(
    network: nnx.Module, make: Callable[[str, nnx.Conv], nnx.Module | None]
) -> None:
    """Put other modules in the place of a network's convolutions; those of pairs stay.

    A convolution that stands in several places is exchanged for one and the same module.

    Args:
        network: is changed.
        make: (path, convolution) -> what takes its place, None to keep it.
    """
    made: dict[int, nnx.Module | None] = {}
    for path, parent in list(nnx.iter_modules(network)):
        if isinstance(parent, Bottleneck):
            continue
        here = (
            list(enumerate(parent)) if isinstance(parent, nnx.List) else list(vars(parent).items())
        )
        for name, child in here:
            if not isinstance(child, nnx.Conv):
                continue
            if id(child) not in made:
                made[id(child)] = make(".".join(map(str, (*path, name))), child)
            new = made[id(child)]
            if new is None:
                continue
            if isinstance(name, int):
                parent[name] = new  # pyright: ignore[reportIndexIssue] - an index of a list
            else:
                setattr(parent, name, new)


def settings_of(conv: nnx.Conv) -> dict[str, object]:
    """All of a convolution but its kernel."""
    return {name: getattr(conv, name) for name in _SETTINGS}


_SETTINGS = (
    "kernel_shape",
    "bias",
    "in_features",
    "out_features",
    "kernel_size",
    "strides",
    "padding",
    "input_dilation",
    "kernel_dilation",
    "feature_group_count",
    "use_bias",
    "mask",
    "dtype",
    "param_dtype",
    "precision",
    "conv_general_dilated",
    "promote_dtype",
    "preferred_element_type",
)
