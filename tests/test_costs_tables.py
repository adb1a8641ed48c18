"""Tables of a layer: entries equal single evaluations bit for bit, caching, extension."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from costs import search, tables
from costs.conventions import Conventions
from costs.errors import InputError
from costs.evaluate import evaluate
from costs.layer import OPERANDS, Layer
from costs.library import load_core
from costs.mapper import best_mapping, solve
from costs.search import Search
from costs.tables import default_cache_dir, extend, hardware_point, layer_table, with_shares

LAYER = Layer("reduce", K=3, C=10, P=4, Q=4)
WIDTHS = {"K": (1, 2, 3, 5, 8)}
HARDWARE = {"array": (2, 4, 8), "global_buffer": (96, 512), "weight_buffer": (256, 1024)}
SHARES = {"weight_buffer": 0.25}
HOMES = {
    "resident": {"W": "weight_buffer", "I": "global_buffer", "O": "global_buffer"},
    "spilled": {"W": "weight_buffer"},
    "streamed": {"I": "global_buffer", "O": "global_buffer"},
    "both": {},
}


@pytest.fixture(scope="module")
def table():
    return layer_table(LAYER, load_core("narrow_tile"), widths=WIDTHS, hardware=HARDWARE)


@pytest.mark.parametrize("homes", HOMES.values(), ids=HOMES)
@pytest.mark.parametrize("name", ["narrow_tile", "wide_tile"])
@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_entries_equal_single_points_bit_for_bit(name, homes, objective):
    core = load_core(name)
    found = layer_table(
        LAYER, core, widths=WIDTHS, hardware=HARDWARE, homes=homes, shares=SHARES,
        objective=objective,
    )  # fmt: skip
    assert found.feasible.shape == (5, 3, 2, 2)
    rng = np.random.default_rng(0)
    for _ in range(6):
        at = tuple(int(rng.integers(0, n)) for n in found.feasible.shape)
        layer = Layer("reduce", K=WIDTHS["K"][at[0]], C=10, P=4, Q=4)
        knobs = {k: v[i] for (k, v), i in zip(HARDWARE.items(), at[1:], strict=True)}
        point = with_shares(hardware_point(core, knobs).with_homes(**homes), SHARES)
        alone = best_mapping(layer, point, objective).cost
        mapping = found.mapping(*at)
        assert mapping is not None
        shown = evaluate(layer, point, mapping)
        for cost in (alone, shown):
            assert found.total_energy_pj[at] == cost.energy_pj
            assert found.cycles[at] == cost.cycles
            assert found.mac_energy_pj[at] == cost.mac_energy_pj
            for i, level in enumerate(found.levels):
                for t, operand in enumerate(OPERANDS):
                    energy = cost.energy_by_level_pj[level].get(operand, 0.0)
                    moved = cost.traffic_bytes[level].get(operand, {"read": 0.0, "write": 0.0})
                    assert found.energy_pj[at][i, t] == energy
                    assert found.read_bytes[at][i, t] == moved["read"]
                    assert found.write_bytes[at][i, t] == moved["write"]


@pytest.mark.parametrize("objective", ["energy", "latency", "edp"])
@pytest.mark.parametrize("name", ["narrow_tile", "wide_tile"])
def test_cores_searched_by_halves_have_the_optima_of_single_searches(name, objective, monkeypatch):
    conv = Layer("conv", K=5, C=3, P=6, Q=6, R=3, S=3, padding=((1, 1), (1, 1)))
    sizes = {"array": (2, 6), "global_buffer": (1, 96, 1024), "weight_buffer": (64, 512)}
    together, splits = Search.join, []
    monkeypatch.setattr(search, "SPLIT", 1)
    monkeypatch.setattr(Search, "join", lambda s, parts: splits.append(s) or together(s, parts))
    found = layer_table(conv, load_core(name), hardware=sizes, objective=objective)
    assert len(splits) > found.feasible.sum()  # each by itself
    assert found.feasible.sum(axis=(0, 2)).tolist() == [0, 4, 4]
    for at in [(0, 1, 0), (0, 2, 1), (1, 1, 1), (1, 2, 0)]:
        knobs = {k: v[i] for (k, v), i in zip(sizes.items(), at, strict=True)}
        alone = solve(conv, [hardware_point(load_core(name), knobs)], objective)
        assert found.total_energy_pj[at] == alone.total_energy_pj[0]
        assert found.cycles[at] == alone.cycles[0]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["energy", "edp"])
@pytest.mark.parametrize("name", ["narrow_tile", "wide_tile"])
def test_a_large_grid_of_a_networks_layer_has_the_optima_of_single_searches(name, objective):
    conv = Layer("conv", K=32, C=16, P=16, Q=16, R=3, S=3, stride=(2, 2), padding=((1, 0), (1, 0)))
    sizes = {
        "array": (2, 6, 16, 32),
        "global_buffer": (1024, 4096, 65536),
        "weight_buffer": (2048, 16384),
    }
    found = layer_table(conv, load_core(name), hardware=sizes, objective=objective)
    for at in np.ndindex(found.feasible.shape):
        knobs = {k: v[i] for (k, v), i in zip(sizes.items(), at, strict=True)}
        alone = solve(conv, [hardware_point(load_core(name), knobs)], objective)
        assert found.total_energy_pj[at] == alone.total_energy_pj[0]
        assert found.cycles[at] == alone.cycles[0]


def test_smaller_array_or_buffer_is_never_better_in_its_own_count(table):
    # the outermost level's prices do not depend on the sizes: its traffic at equal prices can
    # only fall, and the steps with it, when the best in latency is taken
    found = layer_table(
        LAYER, load_core("narrow_tile"), widths=WIDTHS, hardware=HARDWARE, objective="latency"
    )
    assert (np.diff(found.cycles, axis=1) <= 0).all()
    assert (np.diff(found.cycles, axis=2) <= 0).all()
    assert (found.cycles <= table.cycles).all()


def test_no_room_is_not_a_number_and_not_feasible():
    found = layer_table(
        Layer("linear", K=3, C=4), load_core("narrow_tile"), hardware={"global_buffer": (1, 512)}
    )
    assert found.feasible.tolist() == [False, True]
    assert np.isnan(found.total_energy_pj[0])
    assert np.isfinite(found.total_energy_pj[1])
    assert found.mapping(0) is None


def same(one, other):
    arrays = all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in tables.ARRAYS
    )
    named = (one.grid, one.levels, one.mappings) == (other.grid, other.levels, other.mappings)
    return arrays and named


def test_cache_returns_the_same_table_and_survives_damage(tmp_path, table, monkeypatch):
    options = {"widths": WIDTHS, "hardware": HARDWARE, "cache_dir": tmp_path}
    core = load_core("narrow_tile")
    assert same(layer_table(LAYER, core, **options), table)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(tables, "solve", None)
        patch.setattr(tables, "_known", {})
        assert same(layer_table(LAYER, core, **options), table)
    for bad in (b"", good[:100], good[:50] + b"\xff" + good[51:]):
        file.write_bytes(bad)
        assert same(layer_table(LAYER, core, **options), table)
        assert file.read_bytes()[32:] == good[32:]


def test_cache_key_follows_content_not_names(table):
    core = load_core("narrow_tile")
    key = tables.content_key([LAYER], [core], "energy", Conventions())
    renamed = Layer("other", K=3, C=10, P=4, Q=4)
    assert tables.content_key([renamed], [core], "energy", Conventions()) == key
    others = [
        ([Layer("reduce", K=4, C=10, P=4, Q=4)], [core], "energy", Conventions()),
        ([LAYER], [core.scaled(axes={"rows": 3})], "energy", Conventions()),
        ([LAYER], [core], "edp", Conventions()),
        ([LAYER], [core], "energy", Conventions(drain_reads=True)),
    ]
    assert len({key, *(tables.content_key(*other) for other in others)}) == 5


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, table):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        found = layer_table(
            LAYER, load_core("narrow_tile"), widths=WIDTHS, hardware=HARDWARE, cache_dir=folder
        )
        np.testing.assert_array_equal(found.energy_pj, table.energy_pj)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "narrows" / "tables"


def test_tables_are_equal_in_another_process(tmp_path, table):
    script = (
        "import json, sys; from costs.tables import layer_table; from costs.layer import Layer;"
        "from costs.library import load_core;"
        f"t = layer_table(Layer('x', K=3, C=10, P=4, Q=4), load_core('narrow_tile'),"
        f"widths={WIDTHS}, hardware={HARDWARE});"
        "print(json.dumps([v.hex() for v in t.total_energy_pj.ravel()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, env=dict(os.environ)
    )
    assert json.loads(done.stdout) == [v.hex() for v in table.total_energy_pj.ravel()]


def test_unknown_widths_and_knobs_are_refused():
    core = load_core("narrow_tile")
    with pytest.raises(InputError, match="widths"):
        layer_table(LAYER, core, widths={"Z": (1,)})
    with pytest.raises(InputError, match="hardware"):
        layer_table(LAYER, core, hardware={"cache": (1,)})


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_extension_is_exact_on_the_grid_and_central_differences_agree(table, x64):
    points = [values for _, values in table.grid]
    values = table.total_energy_pj

    def cost(k, size):
        return extend(values, points, [k, jnp.array(4.0), size, jnp.array(256.0)])

    for i, k in enumerate(points[0]):
        for j, size in enumerate(points[2]):
            assert float(cost(jnp.array(float(k)), jnp.array(float(size)))) == values[i, 1, j, 0]
    # a step of one to both sides of an interior integer, and the gradients on either side of it
    gradient = jax.grad(cost)
    middle, size = 2.0, jnp.array(96.0)
    central = (cost(jnp.array(3.0), size) - cost(jnp.array(1.0), size)) / 2
    sides = [gradient(jnp.array(middle + step), size) for step in (-0.5, 0.5)]
    assert float(central) == pytest.approx(float(sides[0] + sides[1]) / 2, rel=1e-6)
    assert float(sides[1]) == pytest.approx(values[2, 1, 0, 0] - values[1, 1, 0, 0], rel=1e-6)
    # unequal spacing: the difference over the distance
    assert float(gradient(jnp.array(4.0), size)) == pytest.approx(
        (values[3, 1, 0, 0] - values[2, 1, 0, 0]) / 2, rel=1e-12
    )


def test_extension_is_multilinear_with_gradients(table, x64):
    points = [values for _, values in table.grid]

    def cost(x):
        return extend(table.level_energy_pj, points, list(x)).sum()

    x = jnp.array([2.3, 5.0, 200.0, 700.0])
    check_grads(cost, (x,), order=1, modes=["fwd", "rev"])
    corners = [[2, 3], [4, 8], [96, 512], [256, 1024]]
    index = [[list(p).index(v) for v in c] for p, c in zip(points, corners, strict=True)]
    expected = 0.0
    for corner in np.ndindex(2, 2, 2, 2):
        weight = 1.0
        for (low, high), part, value in zip(corners, corner, x, strict=True):
            share = (float(value) - low) / (high - low)
            weight *= share if part else 1 - share
        at = tuple(i[c] for i, c in zip(index, corner, strict=True))
        expected += weight * table.level_energy_pj[at].sum()
    assert float(cost(x)) == pytest.approx(expected, rel=1e-12)


def test_extension_jit_equals_eager_equals_vmap_and_holds_at_the_edge(table, x64):
    points = [values for _, values in table.grid]
    values = table.total_energy_pj

    def cost(k):
        return extend(
            values, points, [k, jnp.full(k.shape, 4.0), jnp.full(k.shape, 96.0),
                             jnp.full(k.shape, 256.0)],
        )  # fmt: skip

    ks = jnp.linspace(0.0, 9.0, 1001)
    eager = cost(ks)
    np.testing.assert_allclose(jax.jit(cost)(ks), eager, rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(cost)(ks), eager, rtol=1e-14)
    assert float(eager[0]) == values[0, 1, 0, 0]
    assert float(eager[-1]) == values[-1, 1, 0, 0]


def test_extension_ignores_corners_of_no_weight():
    values = np.array([np.nan, 1.0, 2.0])
    assert float(extend(values, [(1, 2, 3)], [jnp.array(2.0)])) == 1.0
    assert float(extend(values, [(1, 2, 3)], [jnp.array(2.5)])) == 1.5
