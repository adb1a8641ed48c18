"""The workload of whatever a user names: a shipped network, a class in a file, an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costs.errors import InputError
from costs.workload import Workload
from models.registry import abstract_network, network_entry


def load_workload(
    network: str,
    *,
    input_shape: Sequence[int] | None = None,
    batch: int | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    psum_bits: int = 32,
    pooling: str = "layers",
    **options: Any,
) -> Workload:
    """The workload of a network by name.

    Args:
        network: One of `models.registry.NETWORKS`, `my_file.py:MyNet`, or a path that ends in
            `.onnx`.
        input_shape: Height, width, channels; by default the network's own.
        batch: Inputs per execution; 1, or what an ONNX file fixes.
        weight_bits: Width of every weight [bit].
        activation_bits: Width of every tensor between layers [bit].
        psum_bits: Width of partial sums [bit].
        pooling: "layers" or "fused", as in `models.trace.workload_of`.
        options: Of the network's constructor, such as `classes`.
    """
    bits: dict[str, Any] = {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "psum_bits": psum_bits,
        "pooling": pooling,
    }
    if network.endswith(".onnx"):
        from models.onnx_workload import workload_of_onnx

        given = options | ({} if input_shape is None else {"input_shape": input_shape})
        if given:
            raise InputError(
                "an ONNX file has no options", file=network, key=min(given), allowed="batch, bits"
            )
        return workload_of_onnx(network, batch=batch, **bits)
    shape = input_shape or network_entry(network).input_shape
    if shape is None:
        raise InputError(
            "is not known for a network of your own",
            file=network,
            key="input_shape",
            allowed="height, width, channels of one input",
        )
    from models.trace import workload_of

    net = abstract_network(network, input_shape=tuple(shape), **options)
    return workload_of(net, shape, name=network, batch=batch or 1, **bits)
