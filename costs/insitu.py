"""In situ generation of weights: what is stored, what is computed, and the cost on a core.

A kernel W [Co, Ci, k, k] is generated on the chip from small factors (Gu et al., ICCV 2021):
W_i = U_i B_i inside each kernel, W = V {W_i} across kernels. Docs: docs/theory/insitu_and_skipping.

On a core, every word of weights fetched from its home becomes the bases' share of a word fetched
from there and the generation's share of MACs on the array. Out of scope: training the factors
(`models.insitu`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace

from costs.conventions import TIMELOOP, Conventions
from costs.core import Core, MemoryLevel
from costs.errors import InputError
from costs.evaluate import Cost
from costs.layer import Layer
from costs.mapper import BestMapping, best_mapping

GENERATION = "generation"
"""The part of the energy and the cause of the cycles that generation adds."""

DENSE_BITS = 32
"""Bits of a weight that is not quantised, and of every word of the dense reference [bit]."""

_PATTERN = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)-(\d+)")


@dataclass(frozen=True)
class Bases:
    """How kernels are generated; written Bi-Bc-qb-qu-qv, such as 2-44-3-6-3.

    Attributes:
        intra: Bi, bases inside each kernel.
        cross: Bc, kernels that all others are mixed from.
        bits_b, bits_u, bits_v: width of a word of B, U, V [bit]; 32 means not quantised.
    """

    intra: int
    cross: int
    bits_b: int
    bits_u: int
    bits_v: int

    def __post_init__(self) -> None:
        """Refuse counts and widths that mean nothing."""
        for key, value, high in (
            ("Bi", self.intra, 10**6),
            ("Bc", self.cross, 10**6),
            ("qb", self.bits_b, DENSE_BITS),
            ("qu", self.bits_u, DENSE_BITS),
            ("qv", self.bits_v, DENSE_BITS),
        ):
            if not 1 <= value <= high:
                raise InputError(key=f"insitu {key}", value=value, allowed=f"1 to {high}")

    @classmethod
    def parse(cls, text: str) -> Bases:
        """The bases that a name such as 2-44-3-6-3 says."""
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise InputError(key="insitu", value=text, allowed="Bi-Bc-qb-qu-qv, such as 2-44-3-6-3")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        """Bi-Bc-qb-qu-qv."""
        return f"{self.intra}-{self.cross}-{self.bits_b}-{self.bits_u}-{self.bits_v}"

    @property
    def quantised(self) -> bool:
        """Whether any factor is narrower than a float; the last linear layer is then 8 bits."""
        return min(self.bits_b, self.bits_u, self.bits_v) < DENSE_BITS


@dataclass(frozen=True)
class Factors:
    """The factors of one kernel of Co x Ci x taps; a level that is absent is None.

    Attributes:
        basis: [kernels, Bi, taps]; without intra-kernel generation Bi is Ci.
        coefficients: [kernels, Ci, Bi].
        mixing: [Co, kernels].
        bases: counts as asked for, and bits.
    """

    basis: tuple[int, int, int]
    coefficients: tuple[int, int, int] | None
    mixing: tuple[int, int] | None
    bases: Bases

    @property
    def words(self) -> tuple[int, int, int]:
        """Stored words of B, U and V."""
        return tuple(math.prod(s) if s else 0 for s in self.shapes)  # pyright: ignore[reportReturnType]

    @property
    def shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        """Shapes of B, U and V."""
        return self.basis, self.coefficients, self.mixing

    @property
    def stored_bits(self) -> int:
        """Stored bits of the whole kernel [bit]."""
        b, u, v = self.words
        return b * self.bases.bits_b + u * self.bases.bits_u + v * self.bases.bits_v

    @property
    def macs(self) -> int:
        """MACs that generate the whole kernel once: Bc Ci Bi k^2 + Co Bc Ci k^2."""
        kernels, intra, taps = self.basis
        inputs = self.coefficients[1] if self.coefficients else intra
        macs = kernels * inputs * intra * taps if self.coefficients else 0
        return macs + (self.mixing[0] * kernels * inputs * taps if self.mixing else 0)

    @property
    def generated_bits(self) -> tuple[float, float]:
        """Bounds on the width of W_i and of W [bit]: q_b + q_u + log2 Bi, q_v + q_c + log2 Bc."""
        kernels, intra, _ = self.basis
        inside = float(self.bases.bits_b)
        if self.coefficients:
            inside += self.bases.bits_u + math.log2(intra)
        return inside, inside + (self.bases.bits_v + math.log2(kernels) if self.mixing else 0.0)


def choose_factors(
    outputs: int, inputs: int, taps: int, groups: int, bases: Bases
) -> Factors | None:
    """The factors of a convolution, None where it stays dense.

    Depthwise kernels are generated from one set of bases for all channels. A level is used only
    where it has fewer bases than the kernel has rows: Bi < min(Ci, taps), Bc < min(Co, Ci taps).

    Args:
        outputs: Co, over all groups.
        inputs: Ci per group.
        taps: k^2, pixels of the kernel.
        groups: of the convolution.
        bases: what is asked for.
    """
    if groups > 1 and inputs == 1 and groups == outputs:
        if bases.intra >= min(outputs, taps):
            return None
        return Factors((1, bases.intra, taps), (1, outputs, bases.intra), None, bases)
    intra = bases.intra < min(inputs, taps)
    cross = groups == 1 and bases.cross < min(outputs, inputs * taps)
    if not intra and not cross:
        return None
    kernels, rows = bases.cross if cross else outputs, bases.intra if intra else inputs
    return Factors(
        (kernels, rows, taps),
        (kernels, inputs, rows) if intra else None,
        (outputs, kernels) if cross else None,
        bases,
    )


@dataclass(frozen=True)
class Storage:
    """Stored words and bits of a network, and of its dense twin.

    Attributes:
        words: by part: "B", "U", "V", "dense" (convolutions that stay so), "linear", "other"
            (norms, biases of convolutions).
        bits: the same in bits.
        dense_words: parameters of the dense network.
    """

    words: dict[str, int]
    bits: dict[str, int]
    dense_words: int

    @property
    def parameter_ratio(self) -> float:
        """Stored words over those of the dense network."""
        return sum(self.words.values()) / self.dense_words

    @property
    def memory_ratio(self) -> float:
        """Stored bits over those of the dense network at 32 bits."""
        return sum(self.bits.values()) / (self.dense_words * DENSE_BITS)


def generating_core(core: Core, layer: Layer, factors: Factors) -> Core:
    """The core on which weights come from a source of their own, outside all levels.

    A word read from it costs the bases' share of a read at the weights' home and the generation's
    share of MACs, in energy; in bandwidth no more than either alone allows.
    """
    home = core.level(core.chain("W")[0])
    stored, macs = _shares(layer, factors)
    mac_pj = core.mac_energy(max(layer.bits_w, layer.bits_i))
    word_bytes = layer.bits_w / 8
    source = MemoryLevel(
        name=GENERATION,
        operands=("W",),
        width_bits=layer.bits_w,
        read_energy_pj=stored * home.read_energy_pj / home.width_bits + macs * mac_pj,
        read_bandwidth=min(
            word_bytes * min(home.read_bandwidth, home.bandwidth) / (stored / 8),
            word_bytes * core.pes / macs,
        ),
    )
    capacity = home.capacity_bytes
    bare = replace(
        home,
        operands=tuple(t for t in home.operands if t != "W"),
        unlimited=tuple(t for t in home.unlimited if t != "W"),
        capacity_bytes={t: c for t, c in capacity.items() if t != "W"}
        if isinstance(capacity, Dict)
        else capacity,
    )
    levels = [bare if level.name == home.name else level for level in core.levels]
    return replace(core, levels=(source, *levels))


def best_generated_mapping(
    layer: Layer,
    factors: Factors,
    core: Core,
    objective: str = "energy",
    conventions: Conventions = TIMELOOP,
) -> BestMapping:
    """The best mapping of a layer whose weights the core generates.

    The array generates between two tiles, so that its cycles add to those of the layer. The mapping
    is the best in energy; for "latency" and "edp" it is chosen as if generation ran alongside,
    and the cycles reported are those with generation added.

    Args:
        layer: the layer.
        factors: what its weights are generated from.
        core: the core.
        objective: what the mapping minimises.
        conventions: how accesses are counted.
    """
    best = best_mapping(layer, generating_core(core, layer, factors), objective, conventions)
    cost = _at_home(layer, factors, core, best.cost, conventions)
    compulsory = {**best.compulsory_bytes, "W": factors.stored_bits / 8}
    return replace(best, cost=cost, compulsory_bytes=compulsory)


def _at_home(
    layer: Layer, factors: Factors, core: Core, cost: Cost, conventions: Conventions
) -> Cost:
    """The cost with the bases booked where they are read and generation as a part of its own."""
    stored, macs = _shares(layer, factors)
    home = core.level(core.chain("W")[0])
    words = cost.counts[GENERATION]["W"]["read"]
    base_bytes, base_words = words * stored / 8, words * stored / layer.bits_w
    generation_pj = words * macs * core.mac_energy(max(layer.bits_w, layer.bits_i))
    base_pj = cost.energy_by_level_pj[GENERATION]["W"] - generation_pj
    generation = words * macs / core.pes
    moved = dict(cost.traffic_bytes[home.name])
    moved["W"] = {"read": base_bytes, "write": 0.0}
    read, written = (math.fsum(part[way] for part in moved.values()) for way in ("read", "write"))
    at_home = max(
        read / home.read_bandwidth,
        written / home.write_bandwidth,
        (read + written) / home.bandwidth,
    )
    memory = {
        level: cycles
        for level, cycles in cost.cycles_by_cause.items()
        if level not in ("compute", "fill", GENERATION)
    } | {home.name: at_home}
    busy = cost.cycles_by_cause["compute"] + generation
    busy = max(busy, *memory.values()) if conventions.overlap else busy + sum(memory.values())
    cycles = busy + cost.cycles_by_cause["fill"]
    steps = cost.cycles_by_cause["compute"]
    io_bytes = cost.io_bytes | {"W": base_bytes}
    counts = dict(cost.counts)
    counts[home.name] = counts[home.name] | {"W": {"read": base_words, "write": 0.0}}
    energy = dict(cost.energy_by_level_pj)
    energy[home.name] = energy[home.name] | {"W": base_pj}
    energy[GENERATION] = {"W": generation_pj}
    scale = cycles / cost.cycles
    return replace(
        cost,
        counts=counts,
        traffic_bytes=cost.traffic_bytes | {home.name: moved},
        energy_by_level_pj=energy,
        leakage_pj={level: leaked * scale for level, leaked in cost.leakage_pj.items()},
        cycles_by_cause=cost.cycles_by_cause | memory | {GENERATION: generation},
        cycles=cycles,
        latency_s=cycles / core.clock_hz,
        utilization=cost.utilization / scale,
        required_bandwidth=cost.required_bandwidth | {home.name: (read + written) / steps},
        io_bytes=io_bytes,
        io_bandwidth=math.fsum(io_bytes.values()) / steps,
    )


def _shares(layer: Layer, factors: Factors) -> tuple[float, float]:
    """Stored bits [bit] and generation MACs for each word of a layer's weights."""
    words = layer.words("W")
    return factors.stored_bits / words, factors.macs / words
