"""Networks by name: those that ship with Narrows, and a user's own (`my_file.py:MyNet`).

Importing this module imports neither jax nor any network.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from costs.errors import InputError, nearest

if TYPE_CHECKING:
    from flax import nnx

_OFFERED = ("input_shape", "classes")
"""Options that a caller knows from its data and a user's own network need not take."""


@dataclass(frozen=True)
class NetworkEntry:
    """A network that can be built by name.

    Attributes:
        constructor: `module:attribute`; called with the options and `rngs`.
        description: One line.
        input_shape: Height, width, channels it is meant for; None where that is not known.
        parameters: Trained parameters with these options [1]; None where that is not known.
        options: What the constructor is called with unless the caller says otherwise.
    """

    constructor: str
    description: str
    input_shape: tuple[int, int, int] | None
    parameters: int | None
    options: Mapping[str, Any] = field(default_factory=dict)


_CIFAR: tuple[int, int, int] = (32, 32, 3)
_IMAGENET: tuple[int, int, int] = (224, 224, 3)


RESNET = "models.resnet:resnet"
"""The constructor of all residual networks."""

_RESNETS = {
    "digits_resnet": 74_810,
    "cifar_resnet8": 75_290,
    "cifar_resnet8_wide": 292_954,
    "cifar_resnet14": 172_506,
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
    "cifar_resnet110": 1_727_962,
    "resnet18": 11_173_952,
    "resnet34": 21_282_112,
    "resnet50": 23_520_832,
    "resnet18_imagenet": 11_689_512,
    "resnet34_imagenet": 21_797_672,
    "resnet50_imagenet": 25_557_032,
}
"""Trained parameters of the residual networks [1]."""


def _resnet(name: str, parameters: int) -> NetworkEntry:
    shape, classes, kind = _CIFAR, 10, "CIFAR stem (He et al. 2016)"
    if name.endswith("_imagenet"):
        shape, classes, kind = _IMAGENET, 1000, "ImageNet stem (He et al. 2016)"
    if name == "digits_resnet":
        shape, kind = (8, 8, 1), "four blocks for 8x8 pictures"
    if name == "cifar_resnet8_wide":
        kind = "ResNet-8 with twice the channels at half the resolution"
    return NetworkEntry(
        RESNET,
        f"residual network, {kind}",
        shape,
        parameters,
        {"spec": name, "classes": classes},
    )


NETWORKS: Mapping[str, NetworkEntry] = MappingProxyType(
    {
        "mlp": NetworkEntry(
            "models.mlp:MLP",
            "LeNet-300-100: linear layers of 300 and 100 units (LeCun et al. 1998)",
            (28, 28, 1),
            266_610,
            {"classes": 10},
        ),
        "small_cnn": NetworkEntry(
            "models.small_cnn:SmallCNN",
            "two 3x3 convolutions and two linear layers (Flax's MNIST example)",
            (28, 28, 1),
            824_458,
            {"classes": 10},
        ),
        **{name: _resnet(name, count) for name, count in _RESNETS.items()},
        "vgg16": NetworkEntry(
            "models.vgg:VGG16",
            "VGG-16 as published (Simonyan and Zisserman 2015)",
            _IMAGENET,
            138_357_544,
            {"classes": 1000},
        ),
        "vgg16_cifar": NetworkEntry(
            "models.vgg:VGG16",
            "VGG-16 with batch normalisation and one linear layer",
            _CIFAR,
            14_728_266,
            {"classes": 10, "head": "cifar"},
        ),
        "densenet121": NetworkEntry(
            "models.densenet:DenseNet121",
            "DenseNet-121, growth 32, 3x3 stem (Huang et al. 2017)",
            _CIFAR,
            6_956_298,
            {"classes": 10},
        ),
        "densenet121_imagenet": NetworkEntry(
            "models.densenet:DenseNet121",
            "DenseNet-121, growth 32, 7x7 stem (Huang et al. 2017)",
            _IMAGENET,
            7_978_856,
            {"classes": 1000, "stem": "imagenet"},
        ),
        "mobilenet_v2": NetworkEntry(
            "models.mobilenet_v2:MobileNetV2",
            "MobileNetV2, two halvings fewer (Sandler et al. 2018)",
            _CIFAR,
            2_236_682,
            {"classes": 10},
        ),
        "mobilenet_v2_imagenet": NetworkEntry(
            "models.mobilenet_v2:MobileNetV2",
            "MobileNetV2 as published (Sandler et al. 2018)",
            _IMAGENET,
            3_504_872,
            {"classes": 1000, "resolution": "imagenet"},
        ),
        "mobilenet_v3_large": NetworkEntry(
            "models.mobilenet_v3:MobileNetV3",
            "MobileNetV3-Large (Howard et al. 2019)",
            _IMAGENET,
            5_483_032,
            {"classes": 1000, "size": "large"},
        ),
        "mobilenet_v3_small": NetworkEntry(
            "models.mobilenet_v3:MobileNetV3",
            "MobileNetV3-Small (Howard et al. 2019)",
            _IMAGENET,
            2_542_856,
            {"classes": 1000, "size": "small"},
        ),
    }
)
"""Every network that ships with Narrows."""


def is_user_network(name: str) -> bool:
    """Whether a name means a class in a user's file: `path/to/file.py:Class`."""
    return name.rpartition(":")[0].endswith(".py")


def network_entry(name: str) -> NetworkEntry:
    """The entry of a network by its name, or one made for `my_file.py:MyNet`."""
    if is_user_network(name):
        return NetworkEntry(name, f"a network of the user's own, {name}", None, None)
    if name not in NETWORKS:
        close = nearest(name, NETWORKS)
        hint = f"{close}? or any of " if close else ""
        raise InputError(
            "no such network",
            key="network",
            value=name,
            allowed=f"{hint}{', '.join(NETWORKS)}, or a class of yours as my_file.py:MyNet",
        )
    return NETWORKS[name]


def build_network(name: str, *, rngs: nnx.Rngs, **options: Any) -> nnx.Module:
    """A network with fresh weights.

    Args:
        name: One of `NETWORKS`, or `my_file.py:MyNet` for a class (or function) in a file; it is
            called with `rngs` and the options. `input_shape` and `classes` are left out where it
            does not take them.
        rngs: Random keys.
        options: Over the entry's own; `input_shape` is height, width, channels.
    """
    entry = network_entry(name)
    constructor = _constructor(entry.constructor)
    chosen = dict(entry.options)
    if entry.input_shape is not None:
        chosen["input_shape"] = entry.input_shape
    chosen |= options
    accepted = _accepted(constructor)
    if accepted is not None:
        if "rngs" not in accepted:
            raise InputError("must take a keyword argument", file=name, allowed="rngs: nnx.Rngs")
        chosen = {k: v for k, v in chosen.items() if k in accepted or k not in _OFFERED}
        for key in chosen:
            if key not in accepted:
                raise InputError(
                    "no such option", file=name, key=key, allowed=sorted(accepted - {"rngs"})
                )
    try:
        return constructor(rngs=rngs, **chosen)
    except InputError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise InputError(f"cannot be made: {describe(error)}", file=name) from error


def abstract_network(name: str, **options: Any) -> nnx.Module:
    """The same network with shapes in place of arrays: fast, and large ones need no memory."""
    from flax import nnx

    return nnx.eval_shape(lambda: build_network(name, rngs=nnx.Rngs(0), **options))


def count_parameters(network: nnx.Module) -> int:
    """Trained parameters of a network, norms' scales and shifts included [1]."""
    import jax
    from flax import nnx

    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def describe(error: Exception) -> str:
    """An error of a user's code in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _constructor(path: str) -> Callable[..., Any]:
    where, _, attribute = path.rpartition(":")
    module = _load_file(where) if where.endswith(".py") else importlib.import_module(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [n for n, v in vars(module).items() if isinstance(v, type) and n[0] != "_"]
        raise InputError(
            "no such network in the file", file=where, value=attribute, allowed=sorted(public)
        )
    return found


def _load_file(path: str) -> ModuleType:
    """Runs a user's file as a module; the same file is run once."""
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError("no such file", file=path)
    name = f"narrows_user_{file.stem}_{hashlib.sha256(bytes(file)).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError("cannot be read as Python", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's code may raise anything
        del sys.modules[name]
        raise InputError(f"cannot be imported: {describe(error)}", file=path) from error
    return module


def _accepted(constructor: Callable[..., Any]) -> set[str] | None:
    """Names of the keyword arguments it takes; None where it takes any."""
    # a Flax class has a metaclass whose call takes anything
    function = constructor.__init__ if isinstance(constructor, type) else constructor
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters} - {"self"}
