"""Eyeriss, ISCA 2016, figure 10: the DRAM column, from row-stationary schedules counted by us.

The schedules are searched here, in the space of row stationary as stanford-mast/nn_dataflow states
it (it reproduces the figure): a PE convolves rows, rows of the filter lie along the array's rows
and rows of the output along its columns; output rows that do not fit fold into strips, and whole
strips of images (B), input (C) and output channels (K) are blocked for the global buffer of 128 KB
and the register files of 512 B. Costs: DRAM 200, buffer 6, array 2 per 16-bit word. What a schedule
costs is then asked of `costs.evaluate`.
"""

import itertools
import json
import math
from dataclasses import dataclass

import pytest

from costs.conventions import Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.evaluate import evaluate
from costs.layer import Layer
from costs.mapping import Mapping

BUFFER_WORDS, REGISTER_WORDS, BATCH = 65536, 256, 16
LOOPS = {"W": "CK", "I": "CB", "O": "KB"}


@dataclass(frozen=True)
class Shape:
    """An AlexNet layer, as `parts` equal convolutions, and its place on the array."""

    parts: int
    C: int
    K: int
    P: int
    R: int
    stride: int = 1
    strips: int = 1
    copies: tuple[tuple[int, int], ...] = ((1, 1),)

    @property
    def width(self) -> int:
        return (self.P - 1) * self.stride + self.R


# copies: what fills the array besides one set of PEs, as (input, output channels)
ALEXNET = {
    "conv1": Shape(2, 3, 48, 55, 11, stride=4, strips=4),
    "conv2": Shape(2, 48, 128, 27, 5),
    "conv3": Shape(1, 256, 384, 13, 3, copies=((5, 1), (1, 5))),
    "conv4": Shape(2, 192, 192, 13, 3, copies=((5, 1), (1, 5))),
    "conv5": Shape(2, 192, 128, 13, 3, copies=((5, 1), (1, 5))),
    "fc1": Shape(1, 256, 4096, 1, 6, copies=((2, 16), (1, 32))),
    "fc2": Shape(1, 4096, 4096, 1, 1, copies=((16, 16),)),
    "fc3": Shape(1, 4096, 1000, 1, 1, copies=((16, 16),)),
}


def sizes(bound):
    """Tile sizes: what 1 to 16 equal steps need, and every divisor."""
    steps = {n for n in range(1, bound + 1) if n <= 16 or bound % n == 0}
    return sorted({math.ceil(bound / n) for n in steps})


def repeats(loops, operand):
    """How often each word of an operand is fetched: loops that do not index it, outside the last
    one that does."""
    inside = [i for i, (name, count) in enumerate(loops) if name in LOOPS[operand] and count > 1]
    last = inside[-1] if inside else -1
    return math.prod(count for name, count in loops[: last + 1] if name not in LOOPS[operand])


@dataclass(frozen=True)
class Schedule:
    """A row-stationary schedule.

    Attributes:
        copies: input and output channels that fill the array besides one set of PEs.
        outer: (loop, count) outside the global buffer, outermost first.
        inner: (loop, count) between the buffer and the register files.
        kept: (loop, size) of what a register file holds.
        buffered: operands that the buffer holds.
        dram_words: words moved by the formula of `repeats`.
    """

    copies: tuple[int, int]
    outer: tuple[tuple[str, int], ...]
    inner: tuple[tuple[str, int], ...]
    kept: tuple[tuple[str, int], ...]
    buffered: str
    dram_words: int


def fits_registers(shape, kept):
    """Whether filter rows, input rows and sums of a tile fit a register file."""
    b, c, k = kept
    return (c * k + b * c) * shape.R + b * k <= REGISTER_WORDS


def find_schedule(shape) -> Schedule:
    """The cheapest schedule; a tile whose DRAM traffic alone costs too much is not looked into."""
    strip = math.ceil(shape.P / shape.strips)
    plane = ((strip - 1) * shape.stride + shape.R) * shape.width
    rows = sum(
        (min(strip, shape.P - start) - 1) * shape.stride + shape.R
        for start in range(0, shape.P, strip)
    )
    words = {
        "W": shape.C * shape.K * shape.R**2,
        "I": BATCH * shape.C * rows * shape.width,
        "O": BATCH * shape.K * shape.P**2,
    }

    def moved(loops, operand):
        times = repeats(loops, operand)
        return words[operand] * (2 * times - 1 if operand == "O" else times)

    best, best_cost = None, math.inf
    for copies in shape.copies:
        steps = (math.ceil(shape.C / copies[0]), math.ceil(shape.K / copies[1]))
        bounds = (BATCH * shape.strips, *steps)
        for tile in itertools.product(*map(sizes, bounds)):
            b, c, k = tile
            held = b * c * copies[0] * plane + b * k * copies[1] * strip * shape.P
            with_weights = held + c * k * math.prod(copies) * shape.R**2
            if held > BUFFER_WORDS:
                continue
            counts = [math.ceil(bound / size) for bound, size in zip(bounds, tile, strict=True)]
            for outer in itertools.permutations(zip("BCK", counts, strict=True)):
                least = sum(moved(outer, operand) for operand in "WIO")
                if 200 * least + 8 * sum(words.values()) >= best_cost:
                    continue
                for kept in itertools.product(*map(sizes, tile)):
                    if not fits_registers(shape, kept):
                        continue
                    left = [math.ceil(size / part) for size, part in zip(tile, kept, strict=True)]
                    for inner in itertools.permutations(zip("BCK", left, strict=True)):
                        into_array = {t: moved((*outer, *inner), t) for t in "WIO"}
                        buffered = "IO" if with_weights > BUFFER_WORDS else "WIO"
                        dram = sum(moved(outer, t) for t in buffered)
                        dram += sum(into_array[t] for t in "WIO" if t not in buffered)
                        cost = 200 * dram + 6 * sum(into_array[t] for t in buffered)
                        cost += 2 * sum(into_array.values())
                        if cost < best_cost:
                            best_cost = cost
                            parts = tuple(zip("BCK", kept, strict=True))
                            best = Schedule(copies, outer, inner, parts, buffered, dram)
    assert best is not None
    return best


def make_layer(shape) -> Layer:
    """The layer, its padding part of its input as in the figure."""
    return Layer(
        "alexnet",
        N=BATCH,
        K=shape.K,
        C=shape.C,
        P=shape.P,
        Q=shape.P,
        R=shape.R,
        S=shape.R,
        stride=(shape.stride, shape.stride),
        bits_w=16,
        bits_i=16,
        bits_o=16,
        bits_psum=16,
    )


def make_core(schedule) -> Core:
    """Eyeriss of the figure, with an array as large as the copies need."""
    axes = (Axis("rows", 256), Axis("columns", 256))
    levels = (
        MemoryLevel("dram"),
        MemoryLevel("buffer", tuple(schedule.buffered), 2.0 * BUFFER_WORDS),
        MemoryLevel("register", ("W", "I", "O"), 512.0, replicated=("rows", "columns")),
    )
    return Core("eyeriss_isca16", levels, axes)


def make_mapping(shape, schedule) -> Mapping:
    def loops_of(part):
        for name, count in part:
            if name != "B":
                yield name, count
            elif shape.strips > 1 and count == BATCH * shape.strips:
                yield "N", BATCH
                yield "P", shape.strips
            else:
                yield "N", count

    outer, inner = tuple(loops_of(schedule.outer)), tuple(loops_of(schedule.inner))
    kept = tuple(loops_of(schedule.kept))
    at_register = len(outer) + len(inner) + 1
    stored = {operand: {"register": at_register} for operand in "WIO"}
    for operand in schedule.buffered:
        stored[operand]["buffer"] = len(outer)
    return Mapping(
        loops=(*outer, *inner, ("Q", shape.P), *kept, ("S", shape.R)),
        stored=stored,
        spatial={
            "rows": (("R", shape.R), ("C", schedule.copies[0])),
            "columns": (("P", math.ceil(shape.P / shape.strips)), ("K", schedule.copies[1])),
        },
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith("fc") else [])
        for name in ALEXNET
    ],
)
def test_dram_column_of_figure_10(reference, name):
    """Within 10 % of the figure, but for conv2, where the schedule found here moves less.

    For conv2 the figure's 2.27 is what re-reading inputs 4 times and weights 8 times gives; holding
    all 48 input planes of one picture (46 k of 65 k words) while its weights stream past reads
    inputs once and weights 16 times: 1.88, 17 % less, in the same space.
    """
    data = json.loads((reference / "published_hardware_numbers.json").read_text())
    figure = {row[0]: row[2] for row in data["eyeriss_isca16_fig10"]["rows"]}
    shape = ALEXNET[name]
    schedule = find_schedule(shape)
    layer, core = make_layer(shape), make_core(schedule)
    cost = evaluate(layer, core, make_mapping(shape, schedule), Conventions(halo="whole"))
    assert "buffer" not in cost.overfull
    words = sum(cost.io_bytes.values()) / 2
    assert words == pytest.approx(schedule.dram_words, rel=1e-12)
    ratio = shape.parts * 200 * words / 1e9 / figure[name]
    if name == "conv2":
        assert ratio == pytest.approx(0.826, abs=0.001)
    else:
        assert 0.9 <= ratio <= 1.1
