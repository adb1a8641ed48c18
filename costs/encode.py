"""Layer, core and mapping as arrays of fixed shape: the traced arguments of the formulas.

Each is a pytree (a named tuple) of float64, or boolean, numpy arrays. Leading axes may be added by
stacking, or by `jax.vmap`; loops and digits are padded with factors of 1, which change nothing.

Axis glossary: t operand (W, I, O), l level, c child (the levels, then the MACs), d dimension of
`costs.layer.DIMS`, m digit, a axis of the array, i temporal loop.

A dimension's index is a number in a mixed radix: its digits are the temporal loops and spatial
factors of that dimension, outermost first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Dict
from typing import Any, NamedTuple

import numpy as np

from costs.core import Core
from costs.errors import InputError
from costs.layer import DIMS, OPERANDS, Layer
from costs.mapping import Mapping, axis_position, check_mapping

Array = Any
"""A numpy or JAX array."""

WINDOW = (("P", "R"), ("Q", "S"))
"""Pairs of dimensions that index the input together: (output, kernel) along height, width."""


class LayerArrays(NamedTuple):
    """A layer. Traced argument.

    Attributes:
        bounds: [d] loop bounds, K and C per group.
        stride: [2] along P, Q [pixels].
        dilation: [2] along R, S [pixels].
        pad: [2] padding before the first row, column [pixels].
        size: [2] real input height, width [pixels].
        bits: [t] bits of a word of W, I and finished O [bits].
        bits_psum: [] bits of a partial sum [bits].
        exists: [t] whether the operand exists.
        computes: [] 1 where a point of the nest is a MAC, else 0.
    """

    bounds: Array
    stride: Array
    dilation: Array
    pad: Array
    size: Array
    bits: Array
    bits_psum: Array
    exists: Array
    computes: Array


class CoreArrays(NamedTuple):
    """A core. Traced argument.

    Attributes:
        stored: [t, l] whether the level holds the operand.
        parent: [t, c, l] one where level l is the next one outwards of child c in the chain of t.
        replicated: [c, a] whether the child has one instance per index of the axis.
        parent_replicated: [t, c, a] the same of the child's parent.
        apart: [t, a] whether PEs along the axis are served one by one (no multicast of t, no
            reduction of O).
        capacity: [l, t] bytes; the whole capacity in the column of every operand that shares it.
        shared: [l] whether the capacity is shared by the operands.
        limited: [l, t] whether the operand counts against the capacity.
        read_bandwidth, write_bandwidth, bandwidth: [l] of one instance [bytes/cycle].
        width: [l] bits of an access [bits].
        least: [l] bits of the smallest access [bits].
        read_energy, write_energy: [l] of one access [pJ].
        leakage: [l] of one instance [W].
        mac_energy: [] of one MAC [pJ].
        clock: [] [Hz].
        pes: [] number of PEs.
    """

    stored: Array
    parent: Array
    replicated: Array
    parent_replicated: Array
    apart: Array
    capacity: Array
    shared: Array
    limited: Array
    read_bandwidth: Array
    write_bandwidth: Array
    bandwidth: Array
    width: Array
    least: Array
    read_energy: Array
    write_energy: Array
    leakage: Array
    mac_energy: Array
    clock: Array
    pes: Array


class MappingArrays(NamedTuple):
    """A mapping. Traced argument.

    Attributes:
        factor: [d, m] radix of each digit.
        temporal: [d, m] whether the digit is a temporal loop.
        order: [d, m] number of the temporal loop, outermost 0.
        axis: [d, m, a] whether the digit is unrolled along the axis.
        position: [t, c] number of temporal loops outside the tile.
        loop_dim: [i, d] whether the temporal loop is one of the dimension.
    """

    factor: Array
    temporal: Array
    order: Array
    axis: Array
    position: Array
    loop_dim: Array


def encode_layer(layer: Layer) -> LayerArrays:
    """The arrays of a layer."""
    return LayerArrays(
        bounds=_floats([layer.bounds[dim] for dim in DIMS]),
        stride=_floats(layer.stride),
        dilation=_floats(layer.dilation),
        pad=_floats([pair[0] for pair in layer.padding]),
        size=_floats([layer.input_height, layer.input_width]),
        bits=_floats([layer.bits(operand) for operand in OPERANDS]),
        bits_psum=_floats(layer.bits_psum),
        exists=np.array([operand in layer.operands for operand in OPERANDS]),
        computes=_floats(1.0 if layer.macs else 0.0),
    )


def encode_core(core: Core, layer: Layer) -> CoreArrays:
    """The arrays of a core; the layer's bits choose the MAC energy."""
    levels, axes = core.levels, core.axes
    children = len(levels) + 1
    replicated = np.ones((children, max(1, len(axes))), bool)
    for index, level in enumerate(levels):
        replicated[index] = [axis.name in level.replicated for axis in axes] or [False]
    parent = np.zeros((3, children, len(levels)))
    parent_replicated = np.zeros((3, children, max(1, len(axes))), bool)
    for t, operand in enumerate(OPERANDS):
        chain = [core.level_index(name) for name in core.chain(operand)]
        for outer, inner in zip(chain, [*chain[1:], len(levels)], strict=True):
            parent[t, inner, outer] = 1.0
            parent_replicated[t, inner] = replicated[outer]
    apart = np.zeros((3, max(1, len(axes))), bool)
    for number, axis in enumerate(axes):
        apart[:, number] = [
            "W" not in axis.multicast,
            "I" not in axis.multicast,
            not axis.reduction,
        ]
    shares = [level.capacity_bytes for level in levels]
    return CoreArrays(
        stored=np.array([[t in level.operands for level in levels] for t in OPERANDS]),
        parent=parent,
        replicated=replicated,
        parent_replicated=parent_replicated,
        apart=apart,
        capacity=_floats(
            [
                [share.get(t, math.inf) if isinstance(share, Dict) else share for t in OPERANDS]
                for share in shares
            ]
        ),
        shared=np.array([not isinstance(share, Dict) for share in shares]),
        limited=np.array(
            [
                [t in level.operands and t not in level.unlimited for t in OPERANDS]
                for level in levels
            ]
        ),
        read_bandwidth=_floats([level.read_bandwidth for level in levels]),
        write_bandwidth=_floats([level.write_bandwidth for level in levels]),
        bandwidth=_floats([level.bandwidth for level in levels]),
        width=_floats([level.width_bits for level in levels]),
        least=_floats([level.access_bits for level in levels]),
        read_energy=_floats([level.read_energy_pj for level in levels]),
        write_energy=_floats([level.write_energy_pj for level in levels]),
        leakage=_floats([level.leakage_w for level in levels]),
        mac_energy=_floats(core.mac_energy(max(layer.bits_w, layer.bits_i))),
        clock=_floats(core.clock_hz),
        pes=_floats(core.pes),
    )


def encode_mapping(
    layer: Layer, core: Core, mapping: Mapping, *, loops: int = 0, digits: int = 0
) -> MappingArrays:
    """The arrays of a mapping, padded to at least so many temporal loops (one) and digits (one).

    Loops of one iteration are dropped.

    Raises:
        InputError: the mapping does not run this layer on this core, or an input tile would hold
            rows or columns that do not lie side by side.
    """
    check_mapping(layer, core, mapping)
    kept = [index for index, (_, factor) in enumerate(mapping.loops) if factor > 1]
    before = np.searchsorted(kept, np.arange(len(mapping.loops) + 1))
    slots: list[list[tuple[int, int, int]]] = [[] for _ in DIMS]
    axis_at = {axis.name: axis_position(layer, core, mapping, axis.name) for axis in core.axes}
    for place in range(len(mapping.loops) + 1):
        for number, axis in enumerate(core.axes):
            if axis_at[axis.name] == place:
                for dim, factor in mapping.spatial.get(axis.name, ()):
                    if factor > 1:
                        slots[DIMS.index(dim)].append((factor, -1, number))
        if place < len(mapping.loops) and mapping.loops[place][1] > 1:
            dim, factor = mapping.loops[place]
            slots[DIMS.index(dim)].append((factor, int(before[place]), -1))
    digits = max(digits, 1, *(len(part) for part in slots))
    loops = max(loops, 1, len(kept))
    shape = (len(DIMS), digits)
    factor_of, order = np.ones(shape), np.zeros(shape)
    temporal, axis_of = np.zeros(shape, bool), np.zeros((*shape, max(1, len(core.axes))), bool)
    for d, part in enumerate(slots):
        for m, (factor, loop, number) in enumerate(part):
            factor_of[d, m] = factor
            temporal[d, m] = loop >= 0
            if loop >= 0:
                order[d, m] = loop
            else:
                axis_of[d, m, number] = True
    position = np.full((3, len(core.levels) + 1), float(len(kept)))
    for t, operand in enumerate(OPERANDS):
        for index, level in enumerate(core.levels):
            position[t, index] = before[mapping.position(operand, level.name)]
    loop_dim = np.zeros((loops, len(DIMS)), bool)
    for number, index in enumerate(kept):
        loop_dim[number, DIMS.index(mapping.loops[index][0])] = True
    arrays = MappingArrays(factor_of, temporal, order, axis_of, position, loop_dim)
    _check_contiguous(layer, core, arrays)
    return arrays


def _check_contiguous(layer: Layer, core: Core, arrays: MappingArrays) -> None:
    """Refuses an input tile of separate rows or columns: its box would hold words nobody needs."""
    operand = OPERANDS.index("I")
    for index, level in enumerate(core.levels):
        if "I" not in level.operands:
            continue
        along = [axis.name in level.replicated for axis in core.axes] or [False]
        for dim in "PQRS":
            d = DIMS.index(dim)
            if not arrays.axis[d].any():
                continue
            outside = np.where(
                arrays.temporal[d],
                arrays.order[d] < arrays.position[operand, index],
                (arrays.axis[d] & np.array(along, bool)[None, :]).any(-1),
            )
            outside = outside[arrays.factor[d] > 1]
            if np.any(outside[1:] & ~outside[:-1]):
                raise InputError(
                    key=f"stored.I.{level.name}",
                    value=f"loops over {dim} of {layer.name} outside an axis unrolled over {dim}",
                    allowed="tiles of adjacent rows and columns",
                )


def _floats(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
