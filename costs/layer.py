"""One layer of a network as a loop nest: eight dimensions, three operands, bits of each.

Host-side specification: validated at construction and never traced. `costs.encode` turns it
into arrays. Out of scope: what a layer costs (`costs.evaluate`), where its tensors live
(`costs.chip`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from costs.errors import InputError

DIMS = ("G", "N", "K", "C", "P", "Q", "R", "S")
"""Loop dimensions: groups, batch, output and input channels per group, output height and width,
kernel height and width."""

OPERANDS = ("W", "I", "O")
"""Operands: weights, inputs, outputs."""

RELEVANT = {
    "W": frozenset("GKCRS"),
    "I": frozenset("GNCPQRS"),
    "O": frozenset("GNKPQ"),
}
"""Dimensions that index each operand; P, Q, R and S index the input through the sliding window."""

REDUCTION = frozenset("CRS")
"""Dimensions over which outputs are summed."""

MAX_EXACT = 2**53
"""Largest number below which all integers are float64: what is counted stays below it."""

Kind = Literal["conv", "pool", "elementwise"]


@dataclass(frozen=True)
class Layer:
    """A convolution (linear layers and matrix products included), pooling or elementwise.

    A linear layer has P = Q = R = S = 1; a matrix product [M, K'] x [K', N'] has P = M, C = K',
    K = N'. Depthwise is groups = C = K. Pooling and elementwise layers have no weights and cost
    data movement only; they are written like a depthwise layer (groups = K), where C / groups is
    the number of input tensors (2 for an addition of two tensors).

    Attributes:
        name: name in reports.
        N: batch [images].
        K: output channels, over all groups.
        C: input channels, over all groups.
        P: output height [pixels].
        Q: output width [pixels].
        R: kernel height [pixels].
        S: kernel width [pixels].
        stride: (along P, along Q) [pixels].
        dilation: (along R, along S) [pixels].
        groups: number of groups; divides K and C.
        padding: ((top, bottom), (left, right)) [pixels].
        bits_w: bits of a weight.
        bits_i: bits of an input.
        bits_o: bits of a finished output.
        bits_psum: bits of a partial sum.
        kind: "conv", "pool" or "elementwise".
        input_size: (height, width) of the real input [pixels]; by default what the window
            touches less the padding. Give it when a stride leaves rows that no window reaches.
    """

    name: str
    N: int = 1
    K: int = 1
    C: int = 1
    P: int = 1
    Q: int = 1
    R: int = 1
    S: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    bits_w: int = 8
    bits_i: int = 8
    bits_o: int = 8
    bits_psum: int = 32
    kind: Kind = "conv"
    input_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuses what is not a layer, naming the field.

        Raises:
            InputError: a size is not a positive integer, or groups, padding or kind do not fit.
        """
        for key in ("N", "K", "C", "P", "Q", "R", "S", "groups"):
            _check_int(f"{self.name}.{key}", getattr(self, key), low=1)
        for key in ("bits_w", "bits_i", "bits_o", "bits_psum"):
            _check_int(f"{self.name}.{key}", getattr(self, key), low=1, high=128)
        for key in ("stride", "dilation"):
            object.__setattr__(self, key, _check_pair(f"{self.name}.{key}", getattr(self, key), 1))
        if len(self.padding) != 2:
            raise InputError(
                key=f"{self.name}.padding",
                value=self.padding,
                allowed="((top, bottom), (left, right))",
            )
        pads = tuple(_check_pair(f"{self.name}.padding", pair, 0) for pair in self.padding)
        object.__setattr__(self, "padding", pads)
        if self.kind not in get_args(Kind):
            raise InputError(key=f"{self.name}.kind", value=self.kind, allowed=get_args(Kind))
        for key in ("K", "C"):
            if getattr(self, key) % self.groups:
                raise InputError(
                    key=f"{self.name}.groups",
                    value=self.groups,
                    allowed=f"a divisor of {key}={getattr(self, key)}",
                )
        if self.kind != "conv" and self.groups != self.K:
            raise InputError(
                key=f"{self.name}.groups",
                value=self.groups,
                allowed=f"K={self.K} for a {self.kind} layer",
            )
        if self.input_size is not None:
            size = _check_pair(f"{self.name}.input_size", self.input_size, 1)
            object.__setattr__(self, "input_size", size)
        if self.iterations > MAX_EXACT:
            raise InputError(
                key=f"{self.name}.N",
                value=f"{self.iterations:.3g} points in all dimensions",
                allowed="at most 2**53, beyond which counts would not be exact",
            )
        for axis, name in enumerate(("height", "width")):
            if self._input_extent(axis) < 1:
                raise InputError(
                    key=f"{self.name}.padding",
                    value=self.padding,
                    allowed=f"less than the input {name} the window touches",
                )

    @property
    def bounds(self) -> dict[str, int]:
        """Loop bounds by dimension of `DIMS`; K and C per group."""
        return {
            "G": self.groups,
            "N": self.N,
            "K": self.K // self.groups,
            "C": self.C // self.groups,
            "P": self.P,
            "Q": self.Q,
            "R": self.R,
            "S": self.S,
        }

    @property
    def iterations(self) -> int:
        """Points of the loop nest: MACs of a convolution, comparisons or additions otherwise."""
        points = 1
        for bound in self.bounds.values():
            points *= bound
        return points

    @property
    def macs(self) -> int:
        """Multiply-accumulates [MAC]; none in pooling and elementwise layers."""
        return self.iterations if self.kind == "conv" else 0

    @property
    def operands(self) -> tuple[str, ...]:
        """Operands that exist: no weights in pooling and elementwise layers."""
        return OPERANDS if self.kind == "conv" else ("I", "O")

    @property
    def window_height(self) -> int:
        """Rows from the first to the last one any window touches, padding included [pixels]."""
        return (self.P - 1) * self.stride[0] + (self.R - 1) * self.dilation[0] + 1

    @property
    def window_width(self) -> int:
        """Columns from the first to the last one any window touches, padding included [pixels]."""
        return (self.Q - 1) * self.stride[1] + (self.S - 1) * self.dilation[1] + 1

    @property
    def input_height(self) -> int:
        """Height of the real input, without padding [pixels]."""
        return self._input_extent(0)

    @property
    def input_width(self) -> int:
        """Width of the real input, without padding [pixels]."""
        return self._input_extent(1)

    def words(self, operand: str) -> int:
        """Words of an operand's real tensor (padding is not part of it)."""
        if operand == "W":
            weights = self.K * (self.C // self.groups) * self.R * self.S
            return weights if self.kind == "conv" else 0
        if operand == "I":
            return self.N * self.C * self.input_height * self.input_width
        if operand == "O":
            return self.N * self.K * self.P * self.Q
        raise InputError(key="operand", value=operand, allowed=OPERANDS)

    def bits(self, operand: str) -> int:
        """Bits of one word of an operand's tensor (of a finished output for O)."""
        if operand not in OPERANDS:
            raise InputError(key="operand", value=operand, allowed=OPERANDS)
        return {"W": self.bits_w, "I": self.bits_i, "O": self.bits_o}[operand]

    def bytes(self, operand: str) -> float:
        """Size of an operand's real tensor [bytes]."""
        return self.words(operand) * self.bits(operand) / 8

    def _input_extent(self, axis: int) -> int:
        if self.input_size is not None:
            return self.input_size[axis]
        window = (self.window_height, self.window_width)[axis]
        return window - sum(self.padding[axis])


def _check_int(key: str, value: object, low: int, high: int = 2**31 - 1) -> None:
    """Raises InputError unless value is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(key=key, value=value, allowed=f"an integer from {low} to {high}")


def _check_pair(key: str, value: object, low: int) -> tuple[int, int]:
    """Returns value as a pair of integers of at least `low`, or raises InputError."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(key=key, value=value, allowed=f"two integers of at least {low}")
    for part in value:
        _check_int(key, part, low)
    return (value[0], value[1])
