"""Laws of the technology tables: energy and area grow, fits stay near their points."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import technology as tech
from costs import technology_tables as tables
from costs.errors import InputError

ALL = list(tables.TECHNOLOGIES.values())
WITH_AREA = [t for t in ALL if t.has_area]
capacities = st.floats(64.0, 8 * 2**20)
widths = st.integers(1, 1024)


@given(st.sampled_from(ALL), capacities, capacities, widths)
def test_sram_energy_grows_with_capacity(technology, a, b, width):
    low, high = sorted((a, b))
    energies = [tech.calc_sram_energy_pj(technology, c, width) for c in (low, high)]
    assert 0 < energies[0] <= energies[1]
    if high > 1.001 * low:
        assert energies[0] < energies[1]


@given(st.sampled_from(ALL), capacities, widths, widths)
def test_sram_energy_grows_with_width_but_falls_per_bit(technology, capacity, a, b):
    low, high = sorted((a, b))
    energy = {w: tech.calc_sram_energy_pj(technology, capacity, w) for w in (low, high)}
    assert energy[low] <= energy[high]
    assert energy[high] / high <= energy[low] / low * (1 + 1e-12)


@given(st.sampled_from(WITH_AREA), capacities, capacities)
def test_sram_area_grows_with_capacity(technology, a, b):
    low, high = sorted((a, b))
    area_low, area_high = (tech.calc_sram_area_mm2(technology, c) for c in (low, high))
    assert 0 < area_low <= area_high
    if high > 1.001 * low:
        assert area_low < area_high


@given(st.sampled_from(ALL), st.integers(1, 32), st.integers(1, 32), st.integers(1, 64))
def test_mac_energy_grows_with_every_width(technology, w, i, s):
    def energy(*bits):
        return tech.calc_mac_energy_pj(technology, *bits)

    assert 0 < energy(w, i, s) < energy(w + 1, i, s)
    assert energy(w, i, s) < energy(w, i + 1, s)
    assert energy(w, i, s) < energy(w, i, s + 1)
    assert energy(w, i, s) == pytest.approx(energy(i, w, s), rel=1e-12)


def test_horowitz_points():
    """ISSCC 2014: 8 KB 10 pJ, 32 KB 20 pJ, 1 MB 100 pJ per 64 bits; int8 and int32 arithmetic."""
    technology = tables.HOROWITZ_45NM
    for kib, energy_pj in ((8, 10), (32, 20), (1024, 100)):
        found = tech.calc_sram_energy_pj(technology, kib * 1024, 64)
        assert found == pytest.approx(energy_pj, rel=0.025)
    assert tech.calc_mac_energy_pj(technology, 8, 8, 8) == pytest.approx(0.23, rel=1e-3)
    assert tech.calc_mac_energy_pj(technology, 32, 32, 32) == pytest.approx(3.2, rel=1e-3)


def test_eyeriss_points():
    """Chip energies per 16 bits: MAC 2, register file (0.5 KB) 1, global buffer (108 KB) 15 pJ."""
    technology = tables.EYERISS_65NM
    assert tech.calc_sram_energy_pj(technology, 512, 16) == pytest.approx(1.0, rel=1e-3)
    assert tech.calc_sram_energy_pj(technology, 108 * 1024, 16) == pytest.approx(15.0, rel=1e-3)
    assert tech.calc_mac_energy_pj(technology, 16, 16, 32) == pytest.approx(2.0, rel=1e-3)


# CACTI, 64-bit RAM with one read-write port, by capacity [KiB]; see docs/hardware.md
CACTI_KIB = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 1024])
CACTI_AREA_MM2 = {
    "horowitz_45nm": [
        0.0035993, 0.00754236, 0.0135029, 0.0262673, 0.050742,
        0.0948597, 0.209046, 0.429589, 0.872093, 3.26283,
    ],
    "eyeriss_65nm": [
        0.00751165, 0.0140556, 0.0281628, 0.0548107, 0.105886,
        0.197934, 0.436225, 0.89644, 1.74404, 6.80868,
    ],
}  # fmt: skip
CACTI_LEAKAGE_MW = {  # ITRS LOP devices, at 1, 4, 16, 64, 256 and 1024 KiB
    "horowitz_45nm": [0.00810905, 0.0334742, 0.125237, 0.454792, 1.81917, 6.88046],
    "eyeriss_65nm": [0.0183516, 0.0758927, 0.282674, 1.0264, 4.10562, 15.5273],
}
# mean of read and write energy [nJ] at 45 nm LSTP by width, 8 to 256 bits
CACTI_WIDTHS = np.array([8, 16, 32, 64, 128, 256])
CACTI_READ_NJ = {
    4: [0.00330502, 0.00351836, 0.00286168, 0.00338552, 0.00442684, 0.0102041],
    16: [0.0087625, 0.00917274, 0.00997801, 0.0116097, 0.0107481, 0.0143158],
    64: [0.0117446, 0.0153116, 0.0178039, 0.0258695, 0.039332, 0.0517987],
}
CACTI_WRITE_NJ = {
    4: [0.00222123, 0.00270462, 0.00373221, 0.00645356, 0.0118899, 0.0174919],
    16: [0.00400392, 0.00496353, 0.00686756, 0.0106968, 0.0232224, 0.0445186],
    64: [0.00692359, 0.0103947, 0.0134688, 0.0196486, 0.0360435, 0.0662387],
}


@pytest.mark.parametrize("name", CACTI_AREA_MM2)
def test_area_fit_is_the_relative_least_squares_of_its_points(name):
    technology = tables.TECHNOLOGIES[name]
    area = np.array(CACTI_AREA_MM2[name])
    matrix = np.stack([1 / area, CACTI_KIB / area], axis=1)
    fixed, per_kib = np.linalg.lstsq(matrix, np.ones(len(area)), rcond=None)[0]
    assert technology.sram_area_fixed is not None
    assert technology.sram_area_per_kib is not None
    assert technology.sram_area_fixed.value == pytest.approx(fixed, rel=1e-3)
    assert technology.sram_area_per_kib.value == pytest.approx(per_kib, rel=1e-3)
    fitted = tech.calc_sram_area_mm2(technology, CACTI_KIB * 1024.0)
    assert np.abs(fitted / area - 1).max() < 0.10


@pytest.mark.parametrize("name", CACTI_LEAKAGE_MW)
def test_leakage_fit_stays_near_its_points(name):
    capacity = np.array([1, 4, 16, 64, 256, 1024]) * 1024.0
    fitted = tech.calc_sram_leakage_w(tables.TECHNOLOGIES[name], capacity)
    assert np.abs(fitted * 1e3 / CACTI_LEAKAGE_MW[name] - 1).max() < 0.12


def test_width_fit_stays_near_its_points():
    technology = tables.HOROWITZ_45NM
    for kib in CACTI_READ_NJ:
        energy = (np.array(CACTI_READ_NJ[kib]) + np.array(CACTI_WRITE_NJ[kib])) / 2
        ratio = energy / energy[3]
        fitted = tech.calc_sram_energy_pj(technology, kib * 1024, CACTI_WIDTHS)
        assert np.abs(fitted / fitted[3] / ratio - 1).max() < 0.25


def test_two_sources_of_sram_energy_agree():
    """Horowitz's points and CACTI, read independently, differ by less than a factor of two."""
    reads_pj = {8: 6.137, 32: 17.04, 1024: 93.5}
    for kib, cacti_pj in reads_pj.items():
        ours = tech.calc_sram_energy_pj(tables.HOROWITZ_45NM, kib * 1024, 64)
        assert 0.5 < cacti_pj / ours < 2.0


@pytest.mark.parametrize("technology", ALL, ids=lambda t: t.name)
def test_every_constant_is_positive_and_has_a_source(technology):
    for field in dataclasses.fields(technology):
        constant = getattr(technology, field.name)
        if isinstance(constant, tech.Constant):
            assert constant.source
            assert constant.unit
            assert math.isfinite(constant.value)
            assert constant.value >= 0
    for table in (tables.DRAM_PJ_PER_BIT, tables.LINK_PJ_PER_BIT):
        assert all(c.value > 0 and c.source for c in table.values())


def test_area_without_a_source_is_refused():
    technology = tables.TPU_7NM
    assert not technology.has_area
    for call in (
        lambda: tech.calc_sram_area_mm2(technology, 1024),
        lambda: tech.calc_register_area_mm2(technology, 4),
        lambda: tech.calc_mac_area_mm2(technology, 8, 8, 32),
        lambda: tech.calc_sram_leakage_w(technology, 1024),
        lambda: tech.calc_mac_leakage_w(technology, 8, 8, 32),
    ):
        with pytest.raises(InputError, match=r"tpu_7nm has no (area|leakage) source"):
            call()


def test_unknown_technology_names_the_nearest():
    with pytest.raises(InputError, match="did you mean horowitz_45nm"):
        tech.get_technology("horowitz45nm")
