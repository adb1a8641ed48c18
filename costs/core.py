"""One core: memory levels outermost first, the axes of its PE array, what an operation costs.

Host-side specification: validated at construction and never traced. `costs.encode` turns it into
arrays. Out of scope: where the numbers come from (`costs.technology`, `costs.library`), several
cores (`costs.chip`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from costs.errors import InputError
from costs.layer import DIMS, OPERANDS


class MemoryModel(Protocol):
    """How a memory's energy, area and leakage follow from its capacity and access width."""

    def read_energy_pj(self, capacity_bytes: float, width_bits: int) -> float:
        """Energy of reading `width_bits` [pJ]."""
        ...

    def write_energy_pj(self, capacity_bytes: float, width_bits: int) -> float:
        """Energy of writing `width_bits` [pJ]."""
        ...

    def area_mm2(self, capacity_bytes: float, width_bits: int) -> float | None:
        """Area of one instance [mm2], None without a source."""
        ...

    def leakage_w(self, capacity_bytes: float, width_bits: int) -> float:
        """Static power of one instance [W]."""
        ...


@dataclass(frozen=True)
class Axis:
    """One direction of the PE array, along which loops may be unrolled.

    Attributes:
        name: unique name.
        size: PEs along it.
        dims: loop dimensions that may be unrolled along it.
        multicast: operands of which one read above the array serves all PEs along this axis that
            need the same word; any other operand is read once for each of them.
        reduction: partial sums of PEs along this axis are added on their way up; otherwise each
            PE's partial sum is accumulated in the level above, one after the other.
    """

    name: str
    size: int
    dims: tuple[str, ...] = DIMS
    multicast: tuple[str, ...] = OPERANDS
    reduction: bool = True

    def __post_init__(self) -> None:
        """Refuses what is not an axis, naming the field.

        Raises:
            InputError: size, dims or multicast are not of the allowed kind.
        """
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise InputError(key=f"{self.name}.size", value=self.size, allowed="a positive integer")
        _check_names(f"{self.name}.dims", self.dims, DIMS)
        _check_names(f"{self.name}.multicast", self.multicast, OPERANDS)
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "multicast", tuple(self.multicast))


@dataclass(frozen=True)
class MemoryLevel:
    """One level of the memory hierarchy.

    Attributes:
        name: unique name.
        operands: operands it holds; the others bypass it.
        capacity_bytes: capacity of one instance, shared by its operands, or one share for each
            operand [bytes]; infinite for DRAM.
        read_bandwidth: of one instance [bytes/cycle].
        write_bandwidth: of one instance [bytes/cycle].
        bandwidth: of reads and writes together where they share a port, one instance [bytes/cycle].
        width_bits: bits moved by one access [bits].
        least_bits: bits that the smallest access moves, at that part of the energy; transfers are
            in multiples of it where accesses are whole; `width_bits` if None [bits].
        read_energy_pj: energy of reading `width_bits` [pJ].
        write_energy_pj: energy of writing `width_bits` [pJ].
        replicated: names of the axes along which each PE index has its own instance.
        area_mm2: area of one instance [mm2]; None where no source gives it.
        leakage_w: static power of one instance [W].
        unlimited: operands exempt from the capacity because the whole tensor lives here
            (`Core.with_homes`); the caller answers for it fitting.
        model: where energy, area and leakage follow from the capacity; None where they are given.
    """

    name: str
    operands: tuple[str, ...] = OPERANDS
    capacity_bytes: float | Mapping[str, float] = math.inf
    read_bandwidth: float = math.inf
    write_bandwidth: float = math.inf
    bandwidth: float = math.inf
    width_bits: int = 8
    least_bits: int | None = None
    read_energy_pj: float = 0.0
    write_energy_pj: float = 0.0
    replicated: tuple[str, ...] = ()
    area_mm2: float | None = None
    leakage_w: float = 0.0
    unlimited: tuple[str, ...] = ()
    model: MemoryModel | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuses what is not a memory level, naming the field.

        Raises:
            InputError: a field is not of the allowed kind.
        """
        for key in ("operands", "unlimited"):
            _check_names(f"{self.name}.{key}", getattr(self, key), OPERANDS)
            object.__setattr__(self, key, tuple(getattr(self, key)))
        object.__setattr__(self, "replicated", tuple(self.replicated))
        shares = self.capacity_bytes
        if isinstance(shares, Mapping):
            object.__setattr__(self, "capacity_bytes", dict(shares))
            if set(shares) != set(self.operands):
                raise InputError(
                    key=f"{self.name}.capacity_bytes",
                    value=sorted(shares),
                    allowed=f"one share for each of {', '.join(self.operands)}",
                )
            for operand, share in shares.items():
                _check_number(f"{self.name}.capacity_bytes.{operand}", share, positive=True)
        else:
            _check_number(f"{self.name}.capacity_bytes", shares, positive=True)
        for key in ("read_bandwidth", "write_bandwidth", "bandwidth", "width_bits"):
            _check_number(f"{self.name}.{key}", getattr(self, key), positive=True)
        if self.least_bits is not None and not 1 <= self.least_bits <= self.width_bits:
            raise InputError(
                key=f"{self.name}.least_bits",
                value=self.least_bits,
                allowed=f"1 to {self.width_bits}, the width",
            )
        for key in ("read_energy_pj", "write_energy_pj", "leakage_w", "area_mm2"):
            if getattr(self, key) is not None:
                _check_number(f"{self.name}.{key}", getattr(self, key), positive=False)

    @property
    def access_bits(self) -> int:
        """Bits of the smallest access [bits]."""
        return self.least_bits or self.width_bits

    @property
    def total_capacity_bytes(self) -> float:
        """Capacity of one instance, over all operands [bytes]."""
        if isinstance(self.capacity_bytes, Mapping):
            return math.fsum(self.capacity_bytes.values())
        return self.capacity_bytes

    def scaled(self, capacity_bytes: float | Mapping[str, float]) -> MemoryLevel:
        """The level at another capacity [bytes]; energy, area and leakage follow from `model`."""
        level = replace(self, capacity_bytes=capacity_bytes)
        if self.model is None:
            return level
        size = (level.total_capacity_bytes, self.width_bits)
        return replace(
            level,
            read_energy_pj=self.model.read_energy_pj(*size),
            write_energy_pj=self.model.write_energy_pj(*size),
            area_mm2=self.model.area_mm2(*size),
            leakage_w=self.model.leakage_w(*size),
        )


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        name: name in reports.
        levels: memory levels, outermost first. An operand's chain is the levels that hold it.
        axes: directions of the PE array.
        mac_energy_pj: energy of one multiply-accumulate [pJ]; where it depends on the bits of the
            wider of the two factors, `mac_energy_by_bits` says it.
        mac_energy_by_bits: (bits, energy [pJ]) in rising bits, or empty.
        clock_hz: clock [Hz].
        pe_area_mm2: area of one PE without its memory levels [mm2]; None where no source gives it.
        pe_leakage_w: static power of one PE without its memory levels [W].
        leakage_w: static power besides that of PEs and memory levels [W].
    """

    name: str
    levels: tuple[MemoryLevel, ...]
    axes: tuple[Axis, ...] = ()
    mac_energy_pj: float = 0.0
    mac_energy_by_bits: tuple[tuple[int, float], ...] = ()
    clock_hz: float = 1e9
    pe_area_mm2: float | None = None
    pe_leakage_w: float = 0.0
    leakage_w: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what is not a core, naming the field.

        Raises:
            InputError: names repeat or are unknown, or an operand has no level.
        """
        object.__setattr__(self, "levels", tuple(self.levels))
        object.__setattr__(self, "axes", tuple(self.axes))
        by_bits = tuple(sorted((int(b), float(e)) for b, e in self.mac_energy_by_bits))
        object.__setattr__(self, "mac_energy_by_bits", by_bits)
        for key in ("levels", "axes"):
            names = [item.name for item in getattr(self, key)]
            if len(set(names)) != len(names):
                raise InputError(key=f"{self.name}.{key}", value=names, allowed="unique names")
        for key in ("mac_energy_pj", "pe_leakage_w", "leakage_w"):
            _check_number(f"{self.name}.{key}", getattr(self, key), positive=False)
        _check_number(f"{self.name}.clock_hz", self.clock_hz, positive=True)
        axis_names = tuple(axis.name for axis in self.axes)
        for level in self.levels:
            _check_names(f"{self.name}.{level.name}.replicated", level.replicated, axis_names)
        for operand in OPERANDS:
            self._check_chain(operand)

    @property
    def pes(self) -> int:
        """Number of PEs."""
        return math.prod(axis.size for axis in self.axes)

    @property
    def area_mm2(self) -> float | None:
        """Area of PEs and memory levels [mm2]; None where any part of it has no source."""
        parts = [self.pe_area_mm2]
        counts = [float(self.pes)]
        for level in self.levels:
            if math.isfinite(level.total_capacity_bytes):
                parts.append(level.area_mm2)
                counts.append(float(self.instances(level.name)))
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return math.fsum(part * count for part, count in zip(known, counts, strict=True))

    @property
    def total_leakage_w(self) -> float:
        """Static power of the whole core [W]."""
        levels = (level.leakage_w * self.instances(level.name) for level in self.levels)
        return math.fsum([self.leakage_w, self.pe_leakage_w * self.pes, *levels])

    def level_index(self, name: str) -> int:
        """Position of a level, outermost first."""
        for index, level in enumerate(self.levels):
            if level.name == name:
                return index
        names = [level.name for level in self.levels]
        raise InputError(key=f"{self.name}.levels", value=name, allowed=names)

    def level(self, name: str) -> MemoryLevel:
        """The level of that name."""
        return self.levels[self.level_index(name)]

    def axis(self, name: str) -> Axis:
        """The axis of that name."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        names = [axis.name for axis in self.axes]
        raise InputError(key=f"{self.name}.axes", value=name, allowed=names)

    def chain(self, operand: str) -> tuple[str, ...]:
        """Names of the levels that hold an operand, outermost (its home) first."""
        return tuple(level.name for level in self.levels if operand in level.operands)

    def instances(self, level: str) -> int:
        """How many instances of a level there are."""
        return math.prod(self.axis(name).size for name in self.level(level).replicated)

    def mac_energy(self, bits: int) -> float:
        """Energy of one MAC whose wider factor has `bits` [pJ].

        Between two entries of `mac_energy_by_bits` a power law; beyond them the nearest segment's.
        """
        table = self.mac_energy_by_bits
        if not table:
            return self.mac_energy_pj
        for known, energy in table:
            if known == bits:
                return energy
        if len(table) == 1:
            return table[0][1] * bits / table[0][0]
        low = max(0, min(sum(known < bits for known, _ in table) - 1, len(table) - 2))
        (b0, e0), (b1, e1) = table[low], table[low + 1]
        return e0 * (e1 / e0) ** (math.log(bits / b0) / math.log(b1 / b0))

    def with_homes(self, **homes: str) -> Core:
        """The core in which operands live in the given levels: W="weight_buffer", for example.

        The chain of such an operand begins at its home; its tensor does not count against the
        home's capacity, for the caller answers for the whole tensor fitting there.

        Raises:
            InputError: the operand or level is unknown, or the level does not hold the operand.
        """
        levels = list(self.levels)
        for operand, home in homes.items():
            _check_names("homes", (operand,), OPERANDS)
            chain = self.chain(operand)
            if home not in chain:
                raise InputError(key=f"homes.{operand}", value=home, allowed=chain)
            first = self.level_index(home)
            for index in range(first):
                levels[index] = _without(levels[index], operand)
            unlimited = (*levels[first].unlimited, operand)
            levels[first] = replace(levels[first], unlimited=tuple(dict.fromkeys(unlimited)))
        return replace(self, levels=tuple(levels))

    def scaled(
        self,
        axes: Mapping[str, int] | None = None,
        capacity_bytes: Mapping[str, float | Mapping[str, float]] | None = None,
    ) -> Core:
        """The core with other array sizes [PEs] and capacities [bytes].

        Energy, area and leakage of a level follow from its `model` where it has one.

        Raises:
            InputError: an axis or level is unknown, or a size is not positive.
        """
        sizes = dict(axes or {})
        capacities = dict(capacity_bytes or {})
        for name in sizes:
            self.axis(name)
        for name in capacities:
            self.level(name)
        return replace(
            self,
            axes=tuple(replace(a, size=sizes.get(a.name, a.size)) for a in self.axes),
            levels=tuple(
                level.scaled(capacities[level.name]) if level.name in capacities else level
                for level in self.levels
            ),
        )

    def _check_chain(self, operand: str) -> None:
        chain = self.chain(operand)
        if not chain:
            raise InputError(
                key=f"{self.name}.levels", value=None, allowed=f"a level that holds {operand}"
            )
        for outer, inner in itertools.pairwise(chain):
            missing = set(self.level(outer).replicated) - set(self.level(inner).replicated)
            if missing:
                raise InputError(
                    key=f"{self.name}.{inner}.replicated",
                    value=self.level(inner).replicated,
                    allowed=f"also {', '.join(sorted(missing))}, as {outer} above it for {operand}",
                )


def _without(level: MemoryLevel, operand: str) -> MemoryLevel:
    """The level without an operand."""
    shares = level.capacity_bytes
    if isinstance(shares, Mapping):
        shares = {key: share for key, share in shares.items() if key != operand}
    return replace(
        level,
        operands=tuple(name for name in level.operands if name != operand),
        unlimited=tuple(name for name in level.unlimited if name != operand),
        capacity_bytes=shares,
    )


def _check_names(key: str, names: object, known: tuple[str, ...]) -> None:
    """Raises InputError unless names are distinct members of `known`."""
    if not isinstance(names, (tuple, list)) or len(set(names)) != len(names):
        raise InputError(key=key, value=names, allowed=f"distinct names of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise InputError(key=key, value=name, allowed=known)


def _check_number(key: str, value: object, *, positive: bool) -> None:
    """Raises InputError unless value is a number above zero (or of at least zero)."""
    wanted = "a number above 0" if positive else "a number of at least 0"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(key=key, value=value, allowed=wanted)
    if not (value > 0 if positive else 0 <= value < math.inf):
        raise InputError(key=key, value=value, allowed=wanted)
