"""Published storage of networks with generated kernels, and the same counted here.

Gu et al., ICCV 2021, table 2: parameters and bits over those of the dense network. The counts are
read off the shipped networks themselves, by `models.insitu.calc_storage`.
"""

from __future__ import annotations

from typing import NamedTuple

from flax import nnx

from costs.insitu import Bases, Storage
from models.insitu import calc_storage as calc_storage_of
from models.insitu import make_in_situ
from models.registry import build_network


class Published(NamedTuple):
    """A cell of the paper; the parameter ratio of MobileNetV2 is not printed there."""

    network: str
    classes: int
    bases: str
    parameter_ratio: float | None
    memory_ratio: float


PUBLISHED = (
    Published("resnet18", 10, "2-44-32-32-32", 0.0497, 0.0497),
    Published("resnet18", 10, "2-44-8-8-8", 0.0497, 0.0131),
    Published("resnet18", 10, "2-44-3-6-3", 0.0497, 0.0080),
    Published("resnet18", 100, "2-44-32-32-32", 0.0536, 0.0536),
    Published("resnet18", 100, "2-44-8-8-8", 0.0536, 0.0140),
    Published("resnet18", 100, "2-44-3-6-3", 0.0536, 0.0090),
    Published("densenet121", 10, "1-25-32-32-32", 0.1986, 0.1986),
    Published("densenet121", 10, "1-25-8-8-8", 0.1986, 0.0587),
    Published("densenet121", 10, "1-25-4-6-6", 0.1986, 0.0395),
    Published("densenet121", 100, "1-25-32-32-32", 0.2091, 0.2091),
    Published("densenet121", 100, "1-25-8-8-8", 0.2091, 0.0612),
    Published("densenet121", 100, "1-25-4-6-6", 0.2091, 0.0422),
    Published("mobilenet_v2", 10, "5-40-4-4-4", None, 0.0783),
    Published("mobilenet_v2", 100, "5-40-4-4-4", None, 0.0867),
)


def abstract_in_situ(network: str, bases: Bases, **options: object) -> nnx.Module:
    """A network by name with generated kernels, shapes in place of arrays."""

    def build() -> nnx.Module:
        net = build_network(network, rngs=nnx.Rngs(0), **options)
        make_in_situ(net, bases, rngs=nnx.Rngs(1))
        return net

    return nnx.eval_shape(build)


def calc_storage(network: str, bases: Bases, **options: object) -> Storage:
    """What a network by name stores with generated kernels."""
    return calc_storage_of(abstract_in_situ(network, bases, **options), bases)
