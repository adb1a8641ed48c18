"""Rules that choose a design, and what is said of rules that do not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import write_run

from costs.errors import InputError
from dse.front_table import Row, make_front, read_front
from dse.pick import knee_index, pick


def make_rows(points: list[tuple[float, float, float]]) -> list[Row]:
    return [
        {"id": f"d{i:02d}", "validation_accuracy": a, "io_bytes": b, "energy_pj": e}
        for i, (a, b, e) in enumerate(points)
    ]


POINT = st.tuples(st.floats(0.1, 1.0), st.floats(1.0, 1e6), st.floats(1.0, 1e9))
# The corner (.94, 120, 1.1e6) is nearly as good as the best of each.
ROWS = make_rows([(0.80, 100, 1e6), (0.94, 120, 1.1e6), (0.96, 900, 3e6), (0.97, 4000, 9e6)])


@given(st.lists(POINT, min_size=1, max_size=8))
def test_knee_is_not_dominated(points):
    rows = make_rows(points)
    knee = points[knee_index(rows)]
    for other in points:
        better = other[0] > knee[0] and other[1] < knee[1] and other[2] < knee[2]
        assert not better


@given(st.lists(POINT, min_size=2, max_size=8, unique_by=lambda p: p[0]), st.data())
def test_knee_does_not_depend_on_the_order_of_rows(points, data):
    rows = make_rows(points)
    shuffled = data.draw(st.permutations(rows))
    assert shuffled[knee_index(shuffled)]["id"] == rows[knee_index(rows)]["id"]


@given(st.floats(0.01, 100.0))
def test_knee_does_not_depend_on_units(scale):
    scaled = [{**row, "energy_pj": float(row["energy_pj"]) * scale} for row in ROWS]
    assert knee_index(scaled) == knee_index(ROWS) == 1


def test_knee_of_equal_designs_is_the_first_id():
    assert knee_index(make_rows([(0.9, 10, 5)] * 3)) == 0


def test_bounds_hold_and_the_objective_is_optimal_within_them():
    assert pick(ROWS, "accuracy>=0.95,energy")["id"] == "d02"
    assert pick(ROWS, "io_bytes < 4000, accuracy")["id"] == "d02"
    assert pick(ROWS, "accuracy>0.8,accuracy<=.96,io_bytes")["id"] == "d01"
    assert pick(ROWS, "energy")["id"] == "d00"
    assert pick(ROWS, "d03")["id"] == "d03"
    assert pick(ROWS, "knee")["id"] == "d01"


def test_ties_go_to_the_more_accurate():
    rows = make_rows([(0.90, 10, 7), (0.95, 20, 7)])
    assert pick(rows, "energy")["id"] == "d01"


def test_a_bound_means_validation_accuracy_not_test():
    rows = [{**row, "test_accuracy": 1.0} for row in ROWS]
    assert pick(rows, "accuracy>=0.97,energy")["id"] == "d03"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("d9", ["d9", "d00, d01, d02, d03", "knee"]),
        ("accuracy>=0.95", ["io_bytes", "energy", "objective"]),
        ("accuracy>=0.95,power", ["throughput", "objective"]),
        ("power<=3,energy", ["power<=3", "io_bytes"]),
        ("accuracy=0.9,energy", ["accuracy=0.9", ">="]),
        ("accuracy>=high,energy", ["high", "number"]),
        ("accuracy>=nan,energy", ["nan", "number"]),
        ("accuracy>=0.99,energy", ["0.8 to 0.97", "accuracy"]),
        ("accuracy>=0.96,io_bytes<500,energy", ["900 to 4000", "earlier bounds"]),
        ("area<3,energy", ["no area_mm2"]),
        ("", ["knee"]),
    ],
)
def test_a_bad_rule_is_one_line_that_says_what_is_allowed(rule, words):
    with pytest.raises(InputError) as caught:
        pick(ROWS, rule)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_front_is_read_by_name_with_any_memory_levels(tmp_path):
    front = read_front(write_run(tmp_path / "run", designs=5) / "front.csv")
    assert len(front) == 5
    assert next(iter(front.energy_parts)) == "mac"
    assert list(front.energy_parts)[-3:] == ["dram", "link", "idle"]
    assert front.boundaries[0] == "stem.out"
    assert front.layers[-1] == "head"
    assert set(front.relaxed) == {
        "io_bytes", "energy_pj", "latency_s", "area_mm2", "validation_accuracy",
    }  # fmt: skip
    for row in front.rows:
        assert isinstance(row["width_stem.out"], int)
        assert row["io_bytes"] == float(row["link_bytes"]) + float(row["dram_bytes"])


def test_ids_and_cores_stay_words():
    front = make_front([{"id": "007", "core_a": "1", "io_bytes": 3}])
    assert front.ids == ("007",)
    assert front.cores == ("1",)
    assert math.isnan(front.values("energy_pj")[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["missing"]),
        ("id,io_bytes\n", ["validation_accuracy"]),
        ("id,validation_accuracy,io_bytes,energy_pj\n", ["no designs"]),
        ("id,validation_accuracy,io_bytes,energy_pj\nd0,0.9,12\n", [":2", "cells"]),
        ("id,validation_accuracy,io_bytes,energy_pj\nd0,.9,1,2\nd0,.9,1,2\n", ["same id"]),
        ("id,validation_accuracy,io_bytes,energy_pj\n../d0,.9,1,2\n", ["../d0", "letters"]),
        ("id,validation_accuracy,io_bytes,energy_pj\nd0,.9,many,2\n", ["io_bytes", "many"]),
    ],
)
def test_a_damaged_front_is_one_line(tmp_path, text, words):
    (tmp_path / "front.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_front(tmp_path / "front.csv")
    for word in words:
        assert word in str(caught.value)


def test_a_missing_front_says_so(tmp_path):
    with pytest.raises(InputError, match="no front yet"):
        read_front(tmp_path / "front.csv")
