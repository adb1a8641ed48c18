"""The constants of each technology, of DRAM and of links, each with its source.

How the fits were obtained, and how far they are from their points, stands in docs/hardware.md; the
points themselves are in tests/test_costs_technology.py, which fits them again.
"""

from __future__ import annotations

from dataclasses import replace

from costs.technology import Constant, Technology

_HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014, 45 nm 0.9 V"
_HOROWITZ_FIT = (
    f"log-log least squares of 8 KB: 10, 32 KB: 20, 1 MB: 100 pJ per 64 bits; {_HOROWITZ}"
)
_CACTI = (
    "CACTI run for this table (the copy in zigzag-dse 3.9.1; RAM, one read-write port, one bank, "
    "320 K, cycle-time objective)"
)
_ALADDIN = (
    "Aladdin 40 nm tables (Shao et al., ISCA 2014), as quoted in hwcomponents-library aladdin.py"
)
_EYERISS_CHIP = (
    "Eyeriss chip, pJ per 16 bits as quoted by stanford-mast/nn_dataflow: MAC 2, register file "
    "(0.5 KB) 1, global buffer (108 KB) 15"
)
_GEMINI = "SET-Scheduling-Project/GEMINI-HPCA2024 src/main.cpp"


def _aladdin(node_nm: float) -> dict[str, Constant]:
    """Aladdin's 40 nm logic brought to another node: area with the square, leakage unscaled."""
    ratio = (node_nm / 40.0) ** 2
    scaled = f"{_ALADDIN}; area scaled by ({node_nm:g}/40)^2"
    return {
        "register_area_per_bit": Constant(5.98 * ratio, "um^2/bit", f"5.98 um^2/bit, {scaled}"),
        "multiply_area_8x8": Constant(
            6350.0 / 16.0 * ratio, "um^2", f"6350 um^2 for 32 x 32, quadratic, {scaled}"
        ),
        "add_area_per_bit": Constant(
            278.0 / 32.0 * ratio, "um^2/bit", f"278 um^2 for 32 bits, {scaled}"
        ),
        "multiply_leakage_8x8": Constant(
            8.0e-5 / 16.0, "W", f"80 uW for 32 x 32, quadratic, {_ALADDIN}, unscaled"
        ),
        "add_leakage_per_bit": Constant(
            2.4e-6 / 32.0, "W/bit", f"2.4 uW for 32 bits, {_ALADDIN}, unscaled"
        ),
    }


HOROWITZ_45NM = Technology(
    name="horowitz_45nm",
    node_nm=45.0,
    sram_energy_1kib=Constant(3.8025, "pJ/64 bit", _HOROWITZ_FIT),
    sram_energy_exponent=Constant(0.4726, "1", _HOROWITZ_FIT),
    sram_width_share=Constant(
        0.432, "1", f"4, 16, 64 KiB by 8 to 256 bits, mean of read and write, 45 nm LSTP; {_CACTI}"
    ),
    sram_area_fixed=Constant(5.007e-4, "mm^2", f"1 KiB to 1 MiB, 45 nm; {_CACTI}"),
    sram_area_per_kib=Constant(3.224e-3, "mm^2/KiB", f"1 KiB to 1 MiB, 45 nm; {_CACTI}"),
    sram_leakage_per_kib=Constant(7.445e-6, "W/KiB", f"45 nm, ITRS LOP devices; {_CACTI}"),
    register_energy_per_bit=Constant(0.009, "pJ/bit", f"{_ALADDIN}, unscaled"),
    multiply_energy_8x8=Constant(0.2, "pJ", _HOROWITZ),
    multiply_energy_exponent=Constant(0.98855, "1", f"8 bits 0.2 pJ, 32 bits 3.1 pJ; {_HOROWITZ}"),
    add_energy_8=Constant(0.03, "pJ", _HOROWITZ),
    add_energy_exponent=Constant(0.86848, "1", f"8 bits 0.03 pJ, 32 bits 0.1 pJ; {_HOROWITZ}"),
    **_aladdin(45.0),
)

EYERISS_65NM = Technology(
    name="eyeriss_65nm",
    node_nm=65.0,
    # through (0.5 KiB, 1 pJ) and (108 KiB, 15 pJ) per 16 bits, four of which make 64
    sram_energy_1kib=Constant(
        5.672, "pJ/64 bit", f"power law through both memories; {_EYERISS_CHIP}"
    ),
    sram_energy_exponent=Constant(0.5038, "1", f"ln 15 / ln 216; {_EYERISS_CHIP}"),
    # the two anchors are given per 16-bit word and say nothing about width
    sram_width_share=Constant(
        0.0, "1", f"energy per bit taken as independent of width; {_EYERISS_CHIP}"
    ),
    sram_area_fixed=Constant(8.381e-4, "mm^2", f"1 KiB to 1 MiB, 65 nm; {_CACTI}"),
    sram_area_per_kib=Constant(6.670e-3, "mm^2/KiB", f"1 KiB to 1 MiB, 65 nm; {_CACTI}"),
    sram_leakage_per_kib=Constant(1.6818e-5, "W/KiB", f"65 nm, ITRS LOP devices; {_CACTI}"),
    register_energy_per_bit=Constant(
        0.009 * 65.0 / 40.0, "pJ/bit", f"0.009 pJ/bit at 40 nm scaled by 65/40; {_ALADDIN}"
    ),
    # 2 pJ for 16 x 16 bits split between multiplier and 32-bit adder in Horowitz's proportion
    multiply_energy_8x8=Constant(
        0.45075, "pJ", f"2 pJ per 16-bit MAC, split in the proportion of 45 nm; {_EYERISS_CHIP}"
    ),
    multiply_energy_exponent=Constant(0.98855, "1", f"as at 45 nm; {_HOROWITZ}"),
    add_energy_8=Constant(
        0.06761, "pJ", f"2 pJ per 16-bit MAC, split in the proportion of 45 nm; {_EYERISS_CHIP}"
    ),
    add_energy_exponent=Constant(0.86848, "1", f"as at 45 nm; {_HOROWITZ}"),
    **_aladdin(65.0),
)

_GEMINI_SRAM = (
    "log-log least squares of the 64-bit macros of 2 to 32 KiB and of 1 MiB, pJ/bit of a read with "
    f"the file's toggle factor 0.6; {_GEMINI}, buffer()"
)

GEMINI_12NM = Technology(
    name="gemini_12nm",
    node_nm=12.0,
    sram_energy_1kib=Constant(2.127, "pJ/64 bit", _GEMINI_SRAM),
    sram_energy_exponent=Constant(0.2250, "1", _GEMINI_SRAM),
    sram_width_share=Constant(0.432, "1", f"as at 45 nm; {_CACTI}"),
    sram_area_fixed=Constant(0.0, "mm^2", f"no fixed part given; {_GEMINI}"),
    sram_area_per_kib=Constant(
        0.0964 * 8 * 1024 / 1e6, "mm^2/KiB", f"SRAM_den 0.0964 um^2/bit before layout; {_GEMINI}"
    ),
    register_energy_per_bit=Constant(
        0.009 * 12.0 / 40.0, "pJ/bit", f"0.009 pJ/bit at 40 nm scaled by 12/40; {_ALADDIN}"
    ),
    register_area_per_bit=Constant(
        5.98 * (12.0 / 40.0) ** 2, "um^2/bit", f"5.98 um^2/bit scaled by (12/40)^2; {_ALADDIN}"
    ),
    # 0.018 pJ per 8-bit MAC, 57.9 um^2, split as at 45 nm (0.2 : 0.1 pJ, 502 : 352 um^2)
    multiply_energy_8x8=Constant(
        0.0120, "pJ", f"0.018 pJ per 8-bit MAC, split as at 45 nm; {_GEMINI}"
    ),
    multiply_energy_exponent=Constant(0.98855, "1", f"as at 45 nm; {_HOROWITZ}"),
    add_energy_8=Constant(0.0018, "pJ", f"0.018 pJ per 8-bit MAC, split as at 45 nm; {_GEMINI}"),
    add_energy_exponent=Constant(0.86848, "1", f"as at 45 nm; {_HOROWITZ}"),
    multiply_area_8x8=Constant(34.05, "um^2", f"MAC_den 57.9 um^2, split as at 45 nm; {_GEMINI}"),
    add_area_per_bit=Constant(
        23.85 / 32.0, "um^2/bit", f"MAC_den 57.9 um^2, split as at 45 nm; {_GEMINI}"
    ),
)

_TPU = "Jouppi et al., Ten lessons from three generations, ISCA 2021, table 2"

TPU_7NM = replace(
    HOROWITZ_45NM,
    name="tpu_7nm",
    node_nm=7.0,
    sram_energy_1kib=Constant(
        5.570, "pJ/64 bit", f"8 KB: 7.5, 32 KB: 8.5, 1 MB: 14 pJ per 64 bits; {_TPU}", read=False
    ),
    sram_energy_exponent=Constant(0.1316, "1", f"as above; {_TPU}", read=False),
    register_energy_per_bit=Constant(
        0.009 * 7.0 / 40.0, "pJ/bit", f"0.009 pJ/bit at 40 nm scaled by 7/40; {_ALADDIN}"
    ),
    multiply_energy_8x8=Constant(0.07, "pJ", _TPU, read=False),
    multiply_energy_exponent=Constant(
        1.1, "1", f"8 bits 0.07 pJ, 32 bits 1.48 pJ; {_TPU}", read=False
    ),
    add_energy_8=Constant(0.007, "pJ", _TPU, read=False),
    add_energy_exponent=Constant(
        1.05, "1", f"8 bits 0.007 pJ, 32 bits 0.03 pJ; {_TPU}", read=False
    ),
    sram_area_fixed=None,
    sram_area_per_kib=None,
    sram_leakage_per_kib=None,
    register_area_per_bit=None,
    multiply_area_8x8=None,
    add_area_per_bit=None,
    multiply_leakage_8x8=None,
    add_leakage_per_bit=None,
)

TECHNOLOGIES: dict[str, Technology] = {
    technology.name: technology
    for technology in (HOROWITZ_45NM, EYERISS_65NM, GEMINI_12NM, TPU_7NM)
}
"""Technologies by name."""

DRAM_PJ_PER_BIT: dict[str, Constant] = {
    "eyeriss": Constant(460.0 / 16.0, "pJ/bit", "460 pJ per 16 bits, quoted by nn_dataflow"),
    "horowitz": Constant(1300.0 / 64.0, "pJ/bit", f"1.3 nJ per 64 bits, lower end; {_HOROWITZ}"),
    "ddr4": Constant(20.0, "pJ/bit", "a public table citing the DDR4 specification"),
    "lpddr4": Constant(7.0, "pJ/bit", "a public table citing a Micron data sheet"),
    "gddr6x": Constant(10.5, "pJ/bit", f"DRAM_acc_cost; {_GEMINI}"),
    "hbm2": Constant(3.97, "pJ/bit", "O'Connor et al., MICRO 2017, as quoted"),
}
"""Energy of a bit read from or written to DRAM, interface included [pJ/bit]."""

LINK_PJ_PER_BIT: dict[str, Constant] = {
    "noc_hop": Constant(0.8, "pJ/bit", f"NoC_hop_cost; {_GEMINI}"),
    "ucie_advanced": Constant(
        0.25, "pJ/bit", "Das Sharma, Hot Interconnects 2025, 2.5D <= 16 GT/s"
    ),
    "ucie_standard": Constant(0.5, "pJ/bit", "Das Sharma, Hot Interconnects 2025, 2D <= 16 GT/s"),
    "grs_organic": Constant(0.54, "pJ/bit", "Poulton et al., JSSC 2013, 4.5 mm organic substrate"),
    "grs_board": Constant(
        1.17, "pJ/bit", "Turner et al., Ground-Referenced Signaling, 25 Gb/s printed circuit board"
    ),
    "simba_package": Constant(2.0, "pJ/bit", f"NoP_hop_cost for Simba; {_GEMINI}"),
    "parallel_board": Constant(1.9, "pJ/bit", "IBM 16 x 12 Gb/s over 20 in Megtron-6, 32 nm SOI"),
    "serial_board": Constant(
        2.2,
        "pJ/bit",
        "board-level transceiver, 2.2 mW/(Gb/s), cited by O'Mahony et al., ISSCC 2010",
    ),
    "pcie_class": Constant(7.5, "pJ/bit", "PCIe-class SerDes, middle of 5 to 10", read=False),
}
"""Energy of a bit over a link, both ends included [pJ/bit]."""
