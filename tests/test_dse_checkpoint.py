"""A checkpoint comes back bit by bit or not at all."""

import json
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse import manifest
from dse.checkpoint import CheckpointStore
from dse.lock import exclusive_lock
from dse.outcomes import RunError
from dse.recovery import Start, choose_start, result_names, standing, step_name
from dse.rundir import RunDir
from dse.state_tree import from_host, settle, to_host

PHASES = ("tables", "weights")


def make_state(seed: int) -> dict:
    generator = np.random.default_rng(seed)
    with jax.enable_x64(True):
        double = jnp.asarray(generator.normal(size=(3, 2)))
    return {
        "float32": jnp.asarray(generator.normal(size=(40, 30)), jnp.float32),
        "float64 on the device": double,
        "bfloat16": jnp.asarray(generator.normal(size=7), jnp.bfloat16),
        "host": generator.normal(size=5),
        "int64": np.int64(2**40 + seed),
        "empty": np.zeros((0, 4), np.float32),
        "key": jax.random.key(seed),
        "infinite": np.array([np.inf, -0.0]),
        "plain": {"text": "a", 3: [1, 2.5, None, True], "tuple": (1e-300, "b")},
    }


def make_run(path: Path) -> tuple[RunDir, CheckpointStore, dict[str, str]]:
    """A run directory in the middle of its second phase, and the digest of each checkpoint."""
    rundir = RunDir(path)
    rundir.create()
    rundir.rewind_metrics(None)
    store = CheckpointStore(rundir.checkpoints, before_commit=rundir.flush_metrics)
    digests = {}

    def save(name: str, number: int, steps_done: int | None) -> None:
        host = to_host(make_state(len(digests)))
        position = rundir.metrics_position()
        meta = {"number": number, "steps_done": steps_done, "metrics": position, "facts": {}}
        store.save(name, host, meta)
        digests[name] = host.digest()

    rundir.log_metrics("tables", 1, {"layers": 1.0})
    for name in result_names(0, "tables"):
        save(name, 0, None)
    for step in (10, 20, 30):
        rundir.log_metrics("weights", step, {"loss": 1.0 / step})
        save(step_name(1, "weights", step), 1, step)
    rundir.close_metrics()
    return rundir, store, digests


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("sound") / "run"
    return path, make_run(path)[2]


def start_of(path: Path) -> tuple[Start, list[str]]:
    rundir = RunDir(path)
    said: list[str] = []
    start = choose_start(PHASES, CheckpointStore(rundir.checkpoints), rundir, said.append)
    return start, said


def test_round_trip_keeps_structure_kinds_dtypes_and_bits(tmp_path: Path):
    state = make_state(1)
    store = CheckpointStore(tmp_path)
    store.save("00-x.00000001", to_host(state), {"facts": {"a": 1}})
    loaded, meta = store.load("00-x.00000001")
    assert to_host(loaded).digest() == to_host(state).digest()
    assert meta == {"facts": {"a": 1}}
    for name, value in state.items():
        assert isinstance(loaded[name], jax.Array) == isinstance(value, jax.Array), name
    assert loaded["float64 on the device"].dtype == np.float64
    assert jax.random.key_impl(loaded["key"]) == jax.random.key_impl(state["key"])


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(trees)
def test_plain_values_survive_json(tree: object):
    host = to_host(tree)
    skeleton = json.loads(json.dumps(host.skeleton))
    assert from_host(type(host)(skeleton, host.arrays)) == tree


def test_what_cannot_be_restored_is_refused():
    with pytest.raises(TypeError, match="state/a: an array of object"):
        to_host({"a": np.array([None])})
    with pytest.raises(TypeError, match=r"jax\.tree\.leaves"):
        to_host({"a": {1, 2}})


def test_settled_state_is_strongly_typed_and_read_only():
    state = settle({"weak": jnp.asarray(1.0), "host": np.zeros(2)})
    assert not state["weak"].weak_type
    with pytest.raises(ValueError, match="read-only"):
        state["host"][0] = 1.0


def test_nan_is_found_and_infinity_is_not():
    assert to_host({"a": np.array([np.inf]), "b": 1.0}).first_nan() is None
    assert to_host({"a": {"b": np.array([1.0, np.nan])}}).first_nan() == "/a/b"
    assert to_host({"a": [1.0, float("nan")]}).first_nan() == "/a/1"


def test_newest_sound_checkpoint_is_used(sound_run: tuple[Path, dict[str, str]]):
    path, digests = sound_run
    start, said = start_of(path)
    assert said == []
    assert (start.phase, start.steps_done) == (1, 30)
    assert to_host(start.state).digest() == digests["01-weights.00000030"]
    assert to_host(start.outputs["tables"]).digest() == digests["00-tables.result"]
    assert standing(path / "checkpoints") == (
        "verified checkpoint 01-weights.00000030 (weights, step 30) stands"
    )


def damage(file: Path, how: str, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if how == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
    elif how == "truncate" and content:
        file.write_bytes(content[: chance.randrange(len(content))])
    else:
        file.unlink()


def check_damage(sound: tuple[Path, dict[str, str]], folder: Path, how: str, seed: int) -> None:
    """Damage one file of the newest checkpoint: it is named, and the one before it is used."""
    path, digests = sound
    chance = random.Random(seed)
    run = folder / f"{how}{seed}"
    shutil.copytree(path, run)
    newest = run / "checkpoints" / "01-weights.00000030"
    files = sorted(file for file in newest.rglob("*") if file.is_file())
    file = files[chance.randrange(len(files))]
    before = file.read_bytes()
    damage(file, how, chance)
    start, said = start_of(run)
    assert start.state is not None
    if said == []:
        # a flip in the manifest's white space or digits' case changes nothing that is believed
        assert file.name == manifest.MANIFEST, file
        assert json.loads(file.read_bytes()) == json.loads(before)
        assert to_host(start.state).digest() == digests["01-weights.00000030"]
    else:
        assert len(said) == 1
        assert "01-weights.00000030" in said[0]
        assert to_host(start.state).digest() == digests["01-weights.00000020"]
    shutil.rmtree(run)


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_damage_is_never_silently_wrong(
    how: str, sound_run: tuple[Path, dict[str, str]], tmp_path: Path
):
    for seed in range(12):
        check_damage(sound_run, tmp_path, how, seed)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_three_hundred_damages(how: str, sound_run: tuple[Path, dict[str, str]], tmp_path: Path):
    for seed in range(1000, 1100):
        check_damage(sound_run, tmp_path, how, seed)


def test_damaged_result_is_replaced_by_its_copy(
    sound_run: tuple[Path, dict[str, str]], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(sound_run[0], run)
    (run / "checkpoints" / "00-tables.result" / "meta.json").unlink()
    start, said = start_of(run)
    assert "meta.json is missing" in said[0]
    assert start.steps_done == 30
    assert to_host(start.outputs["tables"]).digest() == sound_run[1]["00-tables.result-copy"]


def test_changed_metrics_disqualify_the_checkpoints_that_recorded_them(
    sound_run: tuple[Path, dict[str, str]], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(sound_run[0], run)
    metrics = run / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-1])
    start, said = start_of(run)
    assert "metrics.jsonl" in said[0]
    assert start.steps_done == 20


def test_no_sound_checkpoint_stops_and_deletes_nothing(
    sound_run: tuple[Path, dict[str, str]], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(sound_run[0], run)
    for meta in (run / "checkpoints").glob("*/meta.json"):
        meta.write_bytes(meta.read_bytes()[:-3])
    before = sorted(run.rglob("*"))
    with pytest.raises(RunError, match="nothing was deleted"):
        start_of(run)
    assert sorted(run.rglob("*")) == before
    assert standing(run / "checkpoints") == "none of the checkpoints is sound"


def test_schema_of_another_version_is_refused_by_name(tmp_path: Path):
    store = CheckpointStore(tmp_path)
    store.save("00-x.00000001", to_host({}), {})
    file = tmp_path / "00-x.00000001" / manifest.MANIFEST
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(manifest.DamagedCheckpoint, match="schema 99"):
        store.load("00-x.00000001")


def test_asynchronous_save_is_a_copy_of_its_moment(tmp_path: Path):
    store = CheckpointStore(tmp_path)
    value = jnp.arange(1000.0)
    digest = to_host({"x": value}).digest()
    store.save_async("00-x.00000001", to_host({"x": value}), {})
    jax.jit(lambda x: x * 0.0, donate_argnums=0)(value)
    store.wait()
    loaded, _ = store.load("00-x.00000001")
    assert to_host(loaded).digest() == digest


def test_too_little_disk_is_said_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = CheckpointStore(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RunError, match="1,000 bytes free"):
        store.save("00-x.00000001", to_host({"x": np.zeros(1000)}), {})
    assert store.names() == []


def test_unfinished_write_is_not_a_checkpoint(tmp_path: Path):
    store = CheckpointStore(tmp_path)
    (tmp_path / "tmp-00-x.00000001").mkdir()
    assert store.names() == []
    store.clear_unfinished()
    assert list(tmp_path.iterdir()) == []


def test_lock_has_one_holder_and_a_stale_one_is_taken_over(tmp_path: Path):
    with exclusive_lock(tmp_path) as stale:
        assert stale is None
        with pytest.raises(RunError, match="in use by process"), exclusive_lock(tmp_path):
            pass
    (tmp_path / "lock").write_text('{"pid": 7, "host": "other"}')
    with exclusive_lock(tmp_path) as stale:
        assert stale == "process 7 on other"
    with exclusive_lock(tmp_path) as stale:
        assert stale is None
