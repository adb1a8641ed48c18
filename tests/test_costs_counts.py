"""Laws of accesses, capacity and time on layers small enough to count by hand."""

import itertools
from typing import Any

import pytest

from costs.conventions import Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.errors import InputError
from costs.evaluate import evaluate
from costs.layer import Layer
from costs.mapping import Mapping

ODD_LAYERS = [
    Layer("prime", K=7, C=3, P=13, Q=11, R=3, S=3, padding=((1, 1), (1, 1))),
    Layer("one_output_channel", K=1, C=5, P=4, Q=4),
    Layer("seven_by_seven", K=4, C=3, P=6, Q=6, R=7, S=7, stride=(2, 2), padding=((3, 2), (3, 2))),
    Layer("skipping", K=3, C=2, P=5, Q=5, stride=(3, 3)),
    Layer("depthwise", N=3, K=6, C=6, P=5, Q=5, R=3, S=3, groups=6),
    Layer("grouped", K=6, C=4, P=3, Q=3, R=2, S=2, groups=2, dilation=(2, 2)),
    Layer("linear", N=3, K=10, C=17),
    Layer("pool", K=4, C=4, P=3, Q=3, R=2, S=2, stride=(2, 2), groups=4, kind="pool"),
    Layer("addition", K=4, C=8, P=3, Q=3, groups=4, kind="elementwise"),
]


@pytest.mark.parametrize("layer", ODD_LAYERS, ids=lambda layer: layer.name)
def test_odd_layers_move_every_tensor_once_when_it_all_fits(layer):
    """With one tile as large as the tensor, DRAM reads W and I once and writes O once."""
    core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer", capacity_bytes=1e9)))
    loops = tuple(layer.bounds.items())
    stored = {operand: {"buffer": 0} for operand in layer.operands}
    for padding in ("counted", "skipped"):
        cost = evaluate(layer, core, Mapping(loops, stored), Conventions(padding=padding))
        assert cost.counts["dram"]["O"] == {"read": 0, "write": layer.words("O")}
        assert cost.counts["dram"]["W"]["read"] == layer.words("W")
        window = layer.N * layer.C * layer.window_height * layer.window_width
        expected = layer.words("I") if padding == "skipped" else window
        assert cost.counts["dram"]["I"]["read"] == expected
        assert cost.cycles_by_cause["compute"] == layer.iterations
        assert cost.utilization == 1


def test_a_buffer_that_just_fits_and_one_byte_less():
    layer = Layer("l", K=4, C=3, P=5, Q=5, R=3, S=3)
    mapping = Mapping(tuple(layer.bounds.items()), {t: {"buffer": 0} for t in "WIO"})
    # weights 4*3*9, inputs 3*7*7, outputs 4*5*5 partial sums of 4 bytes
    needed = 108 + 147 + 400
    for capacity, overfull in ((needed, ()), (needed - 1, ("buffer",))):
        core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer", capacity_bytes=capacity)))
        assert evaluate(layer, core, mapping).overfull == overfull
    core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer", capacity_bytes=2 * needed - 1)))
    assert not evaluate(layer, core, mapping, Conventions(buffering=2)).fits
    shares = {"W": 108, "I": 147, "O": 399}
    core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer", capacity_bytes=shares)))
    assert evaluate(layer, core, mapping).overfull == ("buffer",)


def test_a_home_on_chip_takes_the_operand_out_of_dram():
    layer = Layer("l", K=4, C=3, P=5, Q=5)
    core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer", capacity_bytes=1)))
    mapping = Mapping(tuple(layer.bounds.items()), {t: {"buffer": 0} for t in "WIO"})
    homes = core.with_homes(W="buffer", I="buffer", O="buffer")
    cost = evaluate(layer, homes, mapping)
    assert cost.counts["dram"] == {}
    assert cost.fits
    assert cost.counts["buffer"]["W"]["write"] == 0
    assert cost.io_bytes["W"] == cost.traffic_bytes["buffer"]["W"]["read"]


def test_partial_sums_are_wide_and_finished_outputs_narrow():
    layer = Layer("l", K=2, C=4, bits_o=8, bits_psum=32)
    core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer")))
    inner = Mapping((("K", 2), ("C", 4)), {t: {"buffer": 1} for t in "WIO"})
    assert evaluate(layer, core, inner).traffic_bytes["dram"]["O"] == {"read": 0, "write": 2}
    spilled = Mapping((("C", 4), ("K", 2)), {t: {"buffer": 2} for t in "WIO"})
    # four visits of two outputs, three of which return
    assert evaluate(layer, core, spilled).traffic_bytes["dram"]["O"] == {
        "read": 3 * 2 * 4,
        "write": 4 * 2 * 4,
    }


def test_time_adds_up_without_overlap_and_fill_comes_on_top():
    layer = Layer("l", K=4, C=4, P=4)
    core = Core(
        "c",
        (MemoryLevel("dram", bandwidth=1), MemoryLevel("buffer", bandwidth=8)),
    )
    mapping = Mapping((("P", 4), ("K", 4), ("C", 4)), {t: {"buffer": 1} for t in "WIO"})
    cost = evaluate(layer, core, mapping)
    causes = cost.cycles_by_cause
    # DRAM: 16 weights, 16 inputs, 16 outputs of one byte each
    assert causes["dram"] == 48
    assert cost.cycles == max(causes.values())
    serial = evaluate(layer, core, mapping, Conventions(overlap=False))
    assert serial.cycles == causes["compute"] + causes["dram"] + causes["buffer"]
    filled = evaluate(layer, core, mapping, Conventions(fill=True))
    # 16 weights and 4 inputs in, 4 outputs of 32 bits out of the buffer at 8 bytes a cycle
    assert filled.cycles_by_cause["fill"] > 0
    assert filled.cycles == cost.cycles + filled.cycles_by_cause["fill"]


def test_an_input_tile_of_separate_rows_is_refused():
    layer = Layer("l", P=4)
    axes = (Axis("x", 2),)
    levels = (
        MemoryLevel("dram"),
        MemoryLevel("buffer", ("I",)),
        MemoryLevel("register", ("W",), replicated=("x",)),
    )
    mapping = Mapping((("P", 2),), {"W": {"register": 0}, "I": {"buffer": 1}}, {"x": (("P", 2),)})
    with pytest.raises(InputError, match="adjacent rows"):
        evaluate(layer, Core("c", levels, axes), mapping)


def test_conventions_are_checked():
    for name, value in itertools.product(("halo", "padding", "buffering", "fill"), ("none", 3)):
        option: dict[str, Any] = {name: value}
        with pytest.raises(InputError, match=f"conventions.{name}"):
            Conventions(**option)


def test_absurd_numbers_are_refused_or_counted_but_never_exhaust_memory():
    core = Core("c", (MemoryLevel("dram"), MemoryLevel("buffer")))
    layer = Layer("l", P=2**31 - 1)
    mapping = Mapping((("P", 2**31 - 1),), {t: {"buffer": 1} for t in "WIO"})
    assert evaluate(layer, core, mapping).counts["dram"]["O"]["write"] == layer.P
    for conventions in (Conventions(halo="exact"), Conventions(padding="skipped")):
        with pytest.raises(InputError, match="too many tiles"):
            evaluate(layer, core, mapping, conventions)
    doubled = Mapping((("P", 2**31 - 1), ("P", 2**31 - 1)), mapping.stored)
    with pytest.raises(InputError, match="product"):
        evaluate(layer, core, doubled)
