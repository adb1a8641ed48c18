"""How a memory level's energy, area and leakage follow from its capacity in a technology.

These are the `MemoryModel`s of `costs.core`: what `Core.scaled` asks when a buffer is resized.
"""

from __future__ import annotations

from dataclasses import dataclass

from costs import technology as tech


@dataclass(frozen=True)
class SramModel:
    """An SRAM macro; reads and writes cost the same, as its sources give one figure for both.

    Attributes:
        technology: constants.
    """

    technology: tech.Technology

    def read_energy_pj(self, capacity_bytes: float, width_bits: int) -> float:
        """Energy of reading `width_bits` from `capacity_bytes` [pJ]."""
        return float(tech.calc_sram_energy_pj(self.technology, capacity_bytes, width_bits))

    def write_energy_pj(self, capacity_bytes: float, width_bits: int) -> float:
        """Energy of writing `width_bits` [pJ]."""
        return self.read_energy_pj(capacity_bytes, width_bits)

    def area_mm2(self, capacity_bytes: float, width_bits: int) -> float | None:
        """Area of one macro [mm^2], None without a source; it hardly depends on `width_bits`."""
        if self.technology.sram_area_per_kib is None:
            return None
        return float(tech.calc_sram_area_mm2(self.technology, capacity_bytes))

    def leakage_w(self, capacity_bytes: float, width_bits: int) -> float:
        """Static power of one macro [W], 0 without a source."""
        if self.technology.sram_leakage_per_kib is None:
            return 0.0
        return float(tech.calc_sram_leakage_w(self.technology, capacity_bytes))


@dataclass(frozen=True)
class RegisterModel:
    """Registers: energy by the bits that move, area by the bits held.

    Attributes:
        technology: constants.
    """

    technology: tech.Technology

    def read_energy_pj(self, capacity_bytes: float, width_bits: int) -> float:
        """Energy of reading `width_bits` [pJ]."""
        return float(tech.calc_register_energy_pj(self.technology, width_bits))

    def write_energy_pj(self, capacity_bytes: float, width_bits: int) -> float:
        """Energy of writing `width_bits` [pJ]."""
        return self.read_energy_pj(capacity_bytes, width_bits)

    def area_mm2(self, capacity_bytes: float, width_bits: int) -> float | None:
        """Area of `capacity_bytes` of registers [mm^2], None without a source."""
        if self.technology.register_area_per_bit is None:
            return None
        return float(tech.calc_register_area_mm2(self.technology, capacity_bytes))

    def leakage_w(self, capacity_bytes: float, width_bits: int) -> float:
        """Static power [W]; Aladdin's tables give 0 for registers."""
        return 0.0
