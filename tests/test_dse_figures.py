"""Figures: drawn from any complete front, the same bytes each time, nothing lost at the edges."""

import dataclasses

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from synthetic_run import make_breakdown, write_run

from dse import figures
from dse.breakdown import LinkTraffic
from dse.figures.style import core_colors, part_colors
from dse.front_table import Front, make_front, read_front
from dse.pick import knee_index


@pytest.fixture(scope="module")
def front(tmp_path_factory) -> Front:
    return read_front(write_run(tmp_path_factory.mktemp("run") / "r", designs=6) / "front.csv")


@pytest.fixture(scope="module")
def knee(front) -> str:
    return front.ids[knee_index(front.rows)]


def bars_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_the_same_data_give_the_same_bytes(front, knee, tmp_path):
    paths = [
        figures.save(
            figures.draw_front(front, "io_bytes", "validation_accuracy", knee), tmp_path / n
        )
        for n in ("a.png", "b.png")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"Matplotlib" not in paths[0].read_bytes()


def test_every_point_of_the_front_is_drawn_in_percent(front, knee):
    axes = figures.draw_front(front, "io_bytes", "validation_accuracy", knee).axes[0]
    drawn = [offset for part in axes.collections for offset in np.asarray(part.get_offsets())]
    for row in front.rows:
        point = (float(row["io_bytes"]), 100 * float(row["validation_accuracy"]))
        assert any(np.allclose(point, other) for other in drawn)


def test_stacked_energy_adds_up_to_the_total(front, knee):
    axes = figures.draw_energy_along_front(front, knee).axes[0]
    heights = np.array([bar.get_height() for bar in bars_of(axes)]).reshape(-1, len(front))
    np.testing.assert_allclose(heights.sum(0), np.array(front.values("energy_pj")) * 1e-12)


def test_widths_are_hidden_where_the_boundary_does_not_cross(front, knee):
    figure = figures.draw_choices(front, knee, front.cores)
    texts = [text.get_text() for text in figure.axes[0].texts]
    expected = [
        f"{row[f'width_{b}']}" if row[f"crossing_{b}"] else "·"
        for b in front.boundaries
        for row in front.rows
    ]
    assert texts == expected


def test_chip_shows_the_bytes_of_every_link(front, knee):
    design = make_breakdown(dict(front.row(knee)))
    bus = dataclasses.replace(design, links=(LinkTraffic("bus", design.cores, 4321.0),))
    assert "bus\n4.321 kB" in [text.get_text() for text in figures.draw_chip(bus).axes[0].texts]
    one = dataclasses.replace(design, cores=(design.layers[0].core,), links=())
    assert figures.draw_chip(one).axes[0].get_title("left")


def test_schedule_shows_every_layer_of_several_inputs(front, knee):
    design = make_breakdown(dict(front.row(knee)))
    bars = bars_of(figures.draw_gantt(design).axes[0])
    layers = len(design.layers)
    assert len(bars) == 4 * layers
    for number in range(4):
        mine = bars[number * layers : (number + 1) * layers]
        assert [bar.get_x() for bar in mine] == [row.starts_s[number] for row in design.layers]
        widths = [bar.get_width() for bar in mine]
        assert widths == pytest.approx([row.time_s for row in design.layers])


def test_ports_of_dies_stand_between_their_cores(front, knee):
    design = make_breakdown(dict(front.row(knee)))
    dies = [
        LinkTraffic(f"die{n}", (*design.cores[2 * n : 2 * n + 2], f"port{n}"), 100.0 + n)
        for n in range(2)
    ]
    between = LinkTraffic("between", ("port0", "port1"), 777.0)
    package = dataclasses.replace(design, links=(*dies, between))
    texts = {text.get_text(): text for text in figures.draw_chip(package).axes[0].texts}
    ends, middle = [texts[f"die{n}\n{100 + n} B"].get_position() for n in range(2)], texts["777 B"]
    assert middle.get_position() == pytest.approx(
        tuple((a + b) / 2 for a, b in zip(*ends, strict=True))
    )


def test_layers_carry_their_energy(front, knee):
    design = make_breakdown(dict(front.row(knee)))
    bars = bars_of(figures.draw_layers(design).axes[0])
    total = sum(sum(layer.energy_pj.values()) for layer in design.layers)
    assert sum(bar.get_width() for bar in bars) == pytest.approx(total * 1e-12)


def test_rounding_figure_needs_recorded_gaps(front):
    assert figures.draw_rounding(front) is not None
    bare = {k: v for k, v in front.rows[0].items() if "relaxed" not in k and "gap" not in k}
    assert figures.draw_rounding(make_front([bare])) is None


def test_training_needs_two_steps_and_skips_what_is_not_a_number():
    assert figures.draw_training([]) is None
    assert figures.draw_training([{"phase": "a", "step": 0, "loss": 1.0}]) is None
    records = [{"phase": "a", "step": i, "loss": 2.0 / (i + 1)} for i in range(5)]
    records.append({"phase": "a", "step": 5, "loss": float("nan"), "note": "x"})  # pyright: ignore
    figure = figures.draw_training(records)
    assert figure is not None
    assert len(np.asarray(figure.axes[0].lines[0].get_xdata())) == 5


def test_one_design_is_a_front_too(front, knee, tmp_path):
    single = make_front([front.rows[0]])
    for x, y in (("io_bytes", "validation_accuracy"), ("io_bytes", "energy_pj")):
        figures.save(figures.draw_front(single, x, y, single.ids[0]), tmp_path / "one.png")
    figures.save(figures.draw_choices(single, single.ids[0], front.cores), tmp_path / "one.png")


def test_a_core_and_a_part_keep_their_colour():
    assert core_colors(["a", "b"])["b"] == core_colors(["a", "b", "c"])["b"]
    assert part_colors(["mac", "sram"])["mac"] == part_colors(["rf", "mac"])["mac"]
