"""How a layer runs on a core: temporal loops, where tiles are stored, what is unrolled in space.

Host-side specification: validated against a layer and a core by `check_mapping`, never traced.
Out of scope: whether the tiles fit (`costs.evaluate` reports it), which mapping is best
(`costs.mapper`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field

from costs.core import Core
from costs.errors import InputError
from costs.layer import DIMS, MAX_EXACT, OPERANDS, Layer


@dataclass(frozen=True)
class Mapping:
    """One order of temporal loops, the storage position of every tile, and the spatial factors.

    The tile of an operand at a level is what `loops[position:]`, and the axes along which that
    level is not replicated, touch. A level replicated along an axis lies inside it, so an axis
    stands in the order of loops just outside the outermost position stored in any level replicated
    along it (at the end where there is none). Position 0 means the whole tensor (one instance's
    part of it). Factors may be imperfect: a dimension is covered when the product of its factors
    is at least its bound, and what lies beyond the tensor is not executed.

    Attributes:
        loops: temporal loops (dimension, factor), outermost first.
        stored: position in `loops` of each operand's tile by level; the level where an operand's
            chain begins may be left out (0).
        spatial: unrolled factors (dimension, factor) by axis, outermost first.
    """

    loops: tuple[tuple[str, int], ...] = ()
    stored: Dict[str, Dict[str, int]] = field(default_factory=dict)
    spatial: Dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what is not a mapping of any layer on any core, naming the field.

        Raises:
            InputError: a factor, dimension, operand or position is not of the allowed kind.
        """
        object.__setattr__(self, "loops", _check_factors("loops", self.loops))
        spatial = {
            axis: _check_factors(f"spatial.{axis}", factors)
            for axis, factors in self.spatial.items()
        }
        object.__setattr__(self, "spatial", spatial)
        stored: dict[str, dict[str, int]] = {}
        for operand, positions in self.stored.items():
            if operand not in OPERANDS:
                raise InputError(key="stored", value=operand, allowed=OPERANDS)
            stored[operand] = dict(positions)
            for level, position in positions.items():
                _check_position(f"stored.{operand}.{level}", position, len(self.loops))
        object.__setattr__(self, "stored", stored)

    def position(self, operand: str, level: str) -> int:
        """Position of an operand's tile at a level; 0 where it was left out."""
        return self.stored.get(operand, {}).get(level, 0)

    def spatial_factor(self, axis: str) -> int:
        """PEs used along an axis."""
        return math.prod(factor for _, factor in self.spatial.get(axis, ()))

    def factor(self, dim: str) -> int:
        """Product of all temporal and spatial factors of a dimension."""
        factors = [self.loops, *self.spatial.values()]
        return math.prod(factor for part in factors for name, factor in part if name == dim)


def axis_position(layer: Layer, core: Core, mapping: Mapping, axis: str) -> int:
    """Position in `mapping.loops` before which an axis of the array stands."""
    inside = [
        mapping.position(operand, level.name)
        for level in core.levels
        if axis in level.replicated
        for operand in level.operands
        if operand in layer.operands
    ]
    return min(inside, default=len(mapping.loops))


def check_mapping(layer: Layer, core: Core, mapping: Mapping) -> None:
    """Refuses a mapping that does not run this layer on this core, naming the field.

    Raises:
        InputError: a dimension is not covered, an axis is unknown, too short or of other
            dimensions, a level does not hold the operand, or positions decrease inwards.
    """
    for dim, bound in layer.bounds.items():
        if not bound <= mapping.factor(dim) <= MAX_EXACT:
            raise InputError(
                key=f"{layer.name}.mapping.{dim}",
                value=mapping.factor(dim),
                allowed=f"factors with a product from {bound} to 2**53",
            )
    for name, factors in mapping.spatial.items():
        axis = core.axis(name)
        if mapping.spatial_factor(name) > axis.size:
            raise InputError(
                key=f"spatial.{name}",
                value=mapping.spatial_factor(name),
                allowed=f"at most {axis.size} on {core.name}",
            )
        for dim, factor in factors:
            if factor > 1 and dim not in axis.dims:
                raise InputError(key=f"spatial.{name}", value=dim, allowed=axis.dims)
    for operand in OPERANDS:
        chain = core.chain(operand)
        positions = mapping.stored.get(operand, {})
        for level in positions:
            if level not in chain:
                raise InputError(key=f"stored.{operand}", value=level, allowed=chain)
        if operand not in layer.operands:
            continue
        for level in chain[1:]:
            if level not in positions:
                raise InputError(
                    key=f"stored.{operand}", value=None, allowed=f"a position for {level}"
                )
        if mapping.position(operand, chain[0]):
            raise InputError(
                key=f"stored.{operand}.{chain[0]}",
                value=mapping.position(operand, chain[0]),
                allowed="0: an operand's chain begins with the whole tensor",
            )
        for outer, inner in itertools.pairwise(chain):
            if mapping.position(operand, inner) < mapping.position(operand, outer):
                raise InputError(
                    key=f"stored.{operand}.{inner}",
                    value=mapping.position(operand, inner),
                    allowed=f"at least {mapping.position(operand, outer)}, as in {outer}",
                )


def _check_factors(key: str, factors: object) -> tuple[tuple[str, int], ...]:
    """Returns factors as pairs of a dimension and a positive integer, or raises InputError."""
    if not isinstance(factors, (tuple, list)):
        raise InputError(key=key, value=factors, allowed="a list of (dimension, factor)")
    checked = []
    for pair in factors:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InputError(key=key, value=pair, allowed="(dimension, factor)")
        dim, factor = pair
        if dim not in DIMS:
            raise InputError(key=key, value=dim, allowed=DIMS)
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise InputError(key=f"{key}.{dim}", value=factor, allowed="a positive integer")
        checked.append((dim, factor))
    return tuple(checked)


def _check_position(key: str, position: object, last: int) -> None:
    """Raises InputError unless position is an integer in [0, last]."""
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position <= last:
        raise InputError(key=key, value=position, allowed=f"an integer from 0 to {last}")
