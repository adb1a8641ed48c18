"""Mappings: what covers a layer and fits a core's structure, and which field does not."""

import pytest

from costs.core import Axis, Core, MemoryLevel
from costs.errors import InputError
from costs.layer import Layer
from costs.mapping import Mapping, axis_position, check_mapping

LAYER = Layer("l", K=6, C=5)
CORE = Core(
    "c",
    (
        MemoryLevel("dram"),
        MemoryLevel("buffer", ("I", "O")),
        MemoryLevel("register", ("W",), replicated=("x",)),
    ),
    (Axis("x", 4, dims=("K", "C")), Axis("y", 2, dims=("C",))),
)
STORED = {"W": {"register": 1}, "I": {"buffer": 0}, "O": {"buffer": 1}}


def refused(mapping, layer=LAYER):
    """The key of the error."""
    with pytest.raises(InputError) as error:
        check_mapping(layer, CORE, mapping)
    return error.value.key


def test_imperfect_factors_cover():
    mapping = Mapping((("K", 2), ("C", 3)), STORED, {"x": (("K", 4),), "y": (("C", 2),)})
    check_mapping(LAYER, CORE, mapping)
    assert mapping.factor("K") == 8
    assert mapping.factor("C") == 6
    assert mapping.spatial_factor("x") == 4


def test_an_axis_stands_outside_what_is_stored_along_it():
    mapping = Mapping((("K", 2), ("C", 3)), STORED, {"x": (("K", 4),), "y": (("C", 2),)})
    assert axis_position(LAYER, CORE, mapping, "x") == 1
    assert axis_position(LAYER, CORE, mapping, "y") == 2


def test_every_fault_names_its_field():
    full = (("K", 6), ("C", 5))
    assert refused(Mapping((("K", 6),), STORED)) == "l.mapping.C"
    assert refused(Mapping(full, STORED, {"x": (("K", 5),)})) == "spatial.x"
    assert refused(Mapping(full, STORED, {"y": (("K", 2),)})) == "spatial.y"
    assert refused(Mapping(full, STORED, {"z": (("K", 2),)})) == "c.axes"
    assert refused(Mapping(full, {**STORED, "W": {"buffer": 1}})) == "stored.W"
    assert refused(Mapping(full, {**STORED, "W": {}})) == "stored.W"
    assert refused(Mapping(full, {**STORED, "W": {"dram": 1, "register": 2}})) == "stored.W.dram"


def test_positions_do_not_decrease_inwards():
    core = Core("c", (MemoryLevel("a"), MemoryLevel("b"), MemoryLevel("c")))
    stored = {operand: {"b": 2, "c": 1} for operand in "WIO"}
    with pytest.raises(InputError, match="at least 2"):
        check_mapping(LAYER, core, Mapping((("K", 6), ("C", 5)), stored))


@pytest.mark.parametrize(
    ("loops", "stored", "spatial", "key"),
    [
        ((("Z", 2),), {}, {}, "loops"),
        ((("K", 0),), {}, {}, "loops.K"),
        ((("K", 2.0),), {}, {}, "loops.K"),
        ((("K",),), {}, {}, "loops"),
        ("K", {}, {}, "loops"),
        ((), {"W": {"l": 1}}, {}, "stored.W.l"),
        ((), {"X": {}}, {}, "stored"),
        ((), {}, {"x": (("K", -1),)}, "spatial.x.K"),
    ],
)
def test_what_is_no_mapping_is_refused_by_field(loops, stored, spatial, key):
    with pytest.raises(InputError) as error:
        Mapping(loops, stored, spatial)
    assert error.value.key == key


def test_a_layer_without_weights_needs_no_place_for_them():
    pool = Layer("p", K=4, C=4, groups=4, R=2, S=2, kind="pool")
    stored = {operand: STORED[operand] for operand in "IO"}
    check_mapping(pool, CORE, Mapping((("G", 4), ("R", 2), ("S", 2)), stored))
