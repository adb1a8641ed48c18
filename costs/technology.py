"""Energy, area and leakage of memories and arithmetic in a silicon technology.

Formulas only; the constants and where each comes from stand in `costs.technology_tables`. All
formulas are plain arithmetic: they take Python numbers, numpy arrays or traced jax arrays alike.

    SRAM energy     E(c, w) = E1 (c / 1 KiB)^e (f + (1 - f) w / 64)     [pJ per access of w bits]
    SRAM area       A(c)    = A0 + A1 c / 1 KiB                         [mm^2]
    SRAM leakage    L(c)    = L1 c / 1 KiB                              [W]
    MAC energy      M (a b / 64)^m + D (s / 8)^d       a x b bits summed into s bits     [pJ]
    MAC area        Am a b / 64 + Ad s                                  [mm^2]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from costs.errors import InputError, nearest

# float, numpy array or jax array; jax is not imported for the sake of a type
Number = Any

KIB = 1024.0
UM2_PER_MM2 = 1e6


@dataclass(frozen=True)
class Constant:
    """A number with its origin.

    Attributes:
        value: the number, in `unit`.
        unit: its unit.
        source: where it was published or how it was obtained.
        read: True if it was read at the source or in a work quoting it, or computed from such
            numbers by the stated fit; False if it is recalled and unverified.
    """

    value: float
    unit: str
    source: str
    read: bool = True


@dataclass(frozen=True)
class Technology:
    """Constants of one silicon technology; areas and leakage are None where no source was found.

    Attributes:
        name: name in hardware files.
        node_nm: feature size [nm].
        sram_energy_1kib: energy of a 64-bit access to 1 KiB [pJ], E1.
        sram_energy_exponent: growth of energy with capacity [1], e.
        sram_width_share: share of a 64-bit access that does not depend on the width [1], f.
        sram_area_fixed: area of an empty macro [mm^2], A0.
        sram_area_per_kib: area per KiB [mm^2], A1.
        sram_leakage_per_kib: static power per KiB [W], L1.
        register_energy_per_bit: energy to read or write one bit of a register [pJ].
        register_area_per_bit: area of one bit of a register [um^2].
        multiply_energy_8x8: energy of an 8 x 8 bit multiplication [pJ], M.
        multiply_energy_exponent: growth with the product of the widths [1], m.
        add_energy_8: energy of an 8-bit addition [pJ], D.
        add_energy_exponent: growth with the width [1], d.
        multiply_area_8x8: area of an 8 x 8 bit multiplier [um^2], Am.
        add_area_per_bit: area of one bit of an adder [um^2], Ad.
        multiply_leakage_8x8: static power of an 8 x 8 bit multiplier [W].
        add_leakage_per_bit: static power of one bit of an adder [W].
    """

    name: str
    node_nm: float
    sram_energy_1kib: Constant
    sram_energy_exponent: Constant
    sram_width_share: Constant
    register_energy_per_bit: Constant
    multiply_energy_8x8: Constant
    multiply_energy_exponent: Constant
    add_energy_8: Constant
    add_energy_exponent: Constant
    sram_area_fixed: Constant | None = None
    sram_area_per_kib: Constant | None = None
    sram_leakage_per_kib: Constant | None = None
    register_area_per_bit: Constant | None = None
    multiply_area_8x8: Constant | None = None
    add_area_per_bit: Constant | None = None
    multiply_leakage_8x8: Constant | None = None
    add_leakage_per_bit: Constant | None = None

    @property
    def has_area(self) -> bool:
        """Whether every area constant has a source, so that an area budget means something."""
        return None not in (
            self.sram_area_fixed,
            self.sram_area_per_kib,
            self.register_area_per_bit,
            self.multiply_area_8x8,
            self.add_area_per_bit,
        )


def calc_sram_energy_pj(
    technology: Technology, capacity_bytes: Number, width_bits: Number
) -> Number:
    """Energy of one SRAM access, read or write [pJ].

    Args:
        technology: constants.
        capacity_bytes: capacity of the macro [bytes].
        width_bits: bits read or written at once [bits].

    Returns:
        Energy of an access of `width_bits` [pJ].
    """
    share = technology.sram_width_share.value
    energy_64_pj = (
        technology.sram_energy_1kib.value
        * (capacity_bytes / KIB) ** technology.sram_energy_exponent.value
    )
    return energy_64_pj * (share + (1.0 - share) * (width_bits / 64.0))


def calc_sram_area_mm2(technology: Technology, capacity_bytes: Number) -> Number:
    """Area of an SRAM macro of `capacity_bytes` [bytes], in [mm^2].

    Raises:
        InputError: if the technology has no area source.
    """
    fixed = _sourced(technology, "area", technology.sram_area_fixed)
    per_kib = _sourced(technology, "area", technology.sram_area_per_kib)
    return fixed + per_kib * (capacity_bytes / KIB)


def calc_sram_leakage_w(technology: Technology, capacity_bytes: Number) -> Number:
    """Static power of an SRAM macro of `capacity_bytes` [bytes], in [W].

    Raises:
        InputError: if the technology has no leakage source.
    """
    per_kib = _sourced(technology, "leakage", technology.sram_leakage_per_kib)
    return per_kib * (capacity_bytes / KIB)


def calc_register_energy_pj(technology: Technology, width_bits: Number) -> Number:
    """Energy to read or write a register of `width_bits` [bits], in [pJ]."""
    return technology.register_energy_per_bit.value * width_bits


def calc_register_area_mm2(technology: Technology, capacity_bytes: Number) -> Number:
    """Area of registers that hold `capacity_bytes` [bytes], in [mm^2].

    Raises:
        InputError: if the technology has no area source.
    """
    per_bit_um2 = _sourced(technology, "area", technology.register_area_per_bit)
    return per_bit_um2 * (8.0 * capacity_bytes) / UM2_PER_MM2


def calc_mac_energy_pj(
    technology: Technology, bits_w: Number, bits_i: Number, bits_psum: Number
) -> Number:
    """Energy of one multiply-accumulate without the memories around it [pJ].

    Args:
        technology: constants.
        bits_w: width of the weight [bits].
        bits_i: width of the input [bits].
        bits_psum: width of the sum [bits].
    """
    multiply_pj = (
        technology.multiply_energy_8x8.value
        * (bits_w * bits_i / 64.0) ** technology.multiply_energy_exponent.value
    )
    add_pj = (
        technology.add_energy_8.value * (bits_psum / 8.0) ** technology.add_energy_exponent.value
    )
    return multiply_pj + add_pj


def calc_mac_area_mm2(
    technology: Technology, bits_w: Number, bits_i: Number, bits_psum: Number
) -> Number:
    """Area of one multiplier and adder without registers [mm^2]; arguments in [bits].

    Raises:
        InputError: if the technology has no area source.
    """
    multiplier_um2 = _sourced(technology, "area", technology.multiply_area_8x8)
    adder_um2 = _sourced(technology, "area", technology.add_area_per_bit)
    return (multiplier_um2 * (bits_w * bits_i / 64.0) + adder_um2 * bits_psum) / UM2_PER_MM2


def calc_mac_leakage_w(
    technology: Technology, bits_w: Number, bits_i: Number, bits_psum: Number
) -> Number:
    """Static power of one multiplier and adder [W]; arguments in [bits].

    Raises:
        InputError: if the technology has no leakage source.
    """
    multiplier_w = _sourced(technology, "leakage", technology.multiply_leakage_8x8)
    adder_w = _sourced(technology, "leakage", technology.add_leakage_per_bit)
    return multiplier_w * (bits_w * bits_i / 64.0) + adder_w * bits_psum


def get_technology(name: str) -> Technology:
    """The technology of that name.

    Raises:
        InputError: if there is none.
    """
    # the tables are built of the classes above
    from costs.technology_tables import TECHNOLOGIES

    if name not in TECHNOLOGIES:
        guess = nearest(name, TECHNOLOGIES)
        hint = f", did you mean {guess}?" if guess else ""
        raise InputError(f"no such technology{hint}", value=name, allowed=sorted(TECHNOLOGIES))
    return TECHNOLOGIES[name]


def _sourced(technology: Technology, what: str, constant: Constant | None) -> float:
    if constant is None:
        raise InputError(
            f"technology {technology.name} has no {what} source, so no {what} can be computed",
            key="technology",
            value=technology.name,
        )
    return constant.value
