"""Data-parallel training: the batch is shared out over all devices, weights stand on each."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from costs.errors import InputError


def check_batch(batch: int) -> None:
    """Raises InputError unless every device can take the same share of a batch."""
    if batch % jax.device_count():
        raise InputError(
            "cannot be shared out evenly",
            key="training.batch",
            value=batch,
            allowed=f"a multiple of the {jax.device_count()} devices",
        )


def share_out(array: Any, axis: int = 0) -> Any:
    """An array of which each device holds its share along an axis; itself where there is one."""
    if jax.device_count() == 1:
        return array
    return jax.device_put(array, NamedSharding(_mesh(), PartitionSpec(*[None] * axis, "data")))


def on_all_devices(tree: Any) -> Any:
    """A tree of arrays that every device holds whole; itself where there is one."""
    sharding = everywhere()
    return tree if sharding is None else jax.device_put(tree, sharding)


def everywhere() -> NamedSharding | None:
    """The sharding of what every device holds whole; None where there is one device."""
    return None if jax.device_count() == 1 else NamedSharding(_mesh(), PartitionSpec())


@lru_cache(maxsize=1)
def _mesh() -> Mesh:
    # explicit axis types, the default, would become part of every array's type
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
