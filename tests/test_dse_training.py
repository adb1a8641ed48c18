"""The training step: what augmentation may do, and that one step is one step however it runs."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dse.augment import cut_out, flip_pictures, prepare_pictures, shift_pictures
from dse.data import Scaling, Split
from dse.experiment_spec import Training
from dse.training import (
    batch_indices,
    calc_learning_rate,
    make_chunk_step,
    make_evaluate,
    make_optimizer,
    make_train_step,
)
from models.functional import Functional
from models.resnet import ResNetSpec, Stage, resnet_architecture

ROOT = Path(__file__).resolve().parent.parent
KEY = jax.random.key(5)
SCALING = Scaling((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 8, 8, 3), np.uint8), np.arange(count, dtype=np.int32) % 4


def tiny():
    spec = ResNetSpec((Stage(1, 4), Stage(1, 6, 2)), stem=4)
    return Functional.from_architecture(
        resnet_architecture(spec, input_shape=(8, 8, 3), classes=4, modulate=False)
    )


def fresh(net, settings):
    params, stats = net.init(jax.random.key(1))
    return params, jax.tree.leaves(make_optimizer(settings).init(params)), stats


def some_settings(**changes):
    given = {"batch": 16, "shift": 1, "flip": True, "cutout": 3, "learning_rate": 0.05, **changes}
    return Training(**given)


def run(step, net, settings, steps, images, labels):
    params, leaves, stats = fresh(net, settings)
    found = []
    for index in range(steps):
        rows = batch_indices(0, index, settings.batch, len(labels))
        rate = calc_learning_rate(settings, index, steps)
        params, leaves, metrics = step(
            params, leaves, stats, index, rate, images[rows], labels[rows]
        )
        found.append(float(metrics["loss"]))
    return params, found


# Augmentation


def test_a_flip_mirrors_some_pictures_and_leaves_the_others():
    x, _ = pictures(64)
    found = np.asarray(flip_pictures(KEY, jnp.asarray(x)))
    same = (found == x).all((1, 2, 3))
    mirrored = (found == x[:, :, ::-1]).all((1, 2, 3))
    assert np.all(same | mirrored)
    assert 16 < mirrored.sum() < 48


def test_a_crop_is_a_window_of_the_picture_in_zeros():
    x = np.asarray(pictures(64)[0], np.float32)
    found = np.asarray(shift_pictures(KEY, jnp.asarray(x), 2))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = {(i, j): padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)}
    places = [
        next(at for at, window in windows.items() if np.array_equal(window[n], found[n]))
        for n in range(64)
    ]
    assert len(set(places)) > 12


def test_cutout_sets_a_square_to_zero_and_nothing_else():
    x = np.ones((64, 8, 8, 3), np.float32)
    found = np.asarray(cut_out(KEY, jnp.asarray(x), 3))
    sizes = set()
    for picture in found:
        rows, columns, _ = np.nonzero(picture == 0)
        assert (picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 0).all()
        assert (picture == 0).sum() == 3 * len(set(rows)) * len(set(columns))
        sizes.add((len(set(rows)), len(set(columns))))
    assert max(sizes) == (3, 3)
    assert len(sizes) > 1, "a centre at the border leaves less than a whole square"


def test_without_augmentation_pictures_are_only_scaled():
    x, _ = pictures(8)
    plain = prepare_pictures(KEY, jnp.asarray(x), Training(shift=0), SCALING)
    np.testing.assert_allclose(plain, (x / 255.0 - SCALING.mean) / SCALING.std, atol=2e-6)


def test_what_moves_in_and_what_is_cut_out_is_the_mean_picture():
    x = np.zeros((32, 8, 8, 3), np.uint8)
    found = prepare_pictures(KEY, jnp.asarray(x), some_settings(), SCALING)
    black = -np.array(SCALING.mean) / SCALING.std
    assert np.all(np.isclose(found, 0.0) | np.isclose(found, black, atol=1e-6))


def test_augmentation_follows_from_the_key_alone():
    x = jnp.asarray(pictures(16)[0])
    settings = some_settings()
    eager = prepare_pictures(KEY, x, settings, SCALING)
    jitted = jax.jit(lambda key, x: prepare_pictures(key, x, settings, SCALING))
    np.testing.assert_allclose(jitted(KEY, x), eager, atol=1e-6)
    assert not np.allclose(jitted(jax.random.key(6), x), eager)


# Schedules and optimizers


def test_one_cycle_rises_to_its_peak_and_falls_to_a_hundredth():
    settings = Training(learning_rate=2.0, rise=0.25)
    rates = [calc_learning_rate(settings, index, 101) for index in range(101)]
    assert np.argmax(rates) == 25
    assert max(rates) == 2.0
    assert np.all(np.diff(rates[:26]) > 0)
    assert np.all(np.diff(rates[25:]) < 0)
    assert 0.02 < rates[-1] < 0.022
    assert calc_learning_rate(Training(schedule="constant", learning_rate=2.0), 7, 9) == 2.0


def test_sgd_is_nesterov_momentum_on_gradient_and_weight_decay():
    optimizer = make_optimizer(Training(optimizer="sgd", weight_decay=0.1))
    weight, velocity, state = jnp.array(2.0), 0.0, optimizer.init(jnp.array(2.0))
    expected = 2.0
    for gradient in (1.0, -0.5, 0.25):
        moves, state = optimizer.update(jnp.array(gradient), state, weight)
        assert isinstance(moves, jax.Array)
        weight = weight - 0.3 * moves
        decayed = gradient + 0.1 * expected
        velocity = 0.9 * velocity + decayed
        expected -= 0.3 * (decayed + 0.9 * velocity)
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


# The step


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_lowers_the_loss(optimizer):
    x, y = pictures(64)
    x[..., 0] = y[:, None, None] * 60
    net, settings = tiny(), some_settings(optimizer=optimizer)
    _, losses = run(make_train_step(net, settings, 0, SCALING), net, settings, 30, x, y)
    assert np.mean(losses[-4:]) < 0.6 * losses[0]


def test_several_steps_in_one_call_are_the_same_steps():
    x, y = pictures(48)
    net, settings = tiny(), some_settings(optimizer="sgd")
    params, losses = run(make_train_step(net, settings, 3, SCALING), net, settings, 5, x, y)
    chunk = make_chunk_step(net, settings, 3, SCALING)
    held, leaves, stats = fresh(net, settings)
    scanned = []
    for first, last in ((0, 3), (3, 5)):
        rates = [calc_learning_rate(settings, i, 5) for i in range(first, last)]
        rows = np.stack([batch_indices(0, i, settings.batch, 48) for i in range(first, last)])
        held, leaves, metrics = chunk(
            held, leaves, stats, first, np.array(rates, np.float32), rows,
            jnp.asarray(x), jnp.asarray(y),
        )  # fmt: skip
        scanned += list(map(float, metrics["loss"]))
    np.testing.assert_allclose(scanned, losses, rtol=2e-4)
    for name, value in params.items():
        np.testing.assert_allclose(held[name], value, atol=2e-4, err_msg=name)


def test_bfloat16_follows_float32_and_keeps_float32_weights():
    x, y = pictures(64)
    x[..., 0] = y[:, None, None] * 60
    net, losses = tiny(), {}
    for precision in ("float32", "bfloat16"):
        settings = some_settings(precision=precision, flip=False, cutout=0)
        step = make_train_step(net, settings, 0, SCALING)
        params, losses[precision] = run(step, net, settings, 12, x, y)
        assert {value.dtype for value in params.values()} == {jnp.dtype("float32")}
    assert losses["bfloat16"] != losses["float32"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.1)


def test_evaluation_in_parts_counts_what_evaluation_at_once_does():
    x, y = pictures(1203)
    net = tiny()
    params, stats = net.init(jax.random.key(2))
    evaluate = make_evaluate(net)
    calibration = SCALING(x[:64])
    whole = evaluate(params, stats, calibration, Split(x, y, SCALING))
    measured = net.measure(params, stats, jnp.asarray(calibration))
    logits = np.asarray(net.apply(params, measured, jnp.asarray(SCALING(x)))[0], np.float64)
    assert whole.correct == np.sum(logits.argmax(1) == y)
    exact = np.mean(np.log(np.sum(np.exp(logits), 1)) - logits[np.arange(1203), y])
    np.testing.assert_allclose(whole.loss, exact, rtol=1e-5)


SHARED_OUT = """
import sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from test_dse_training import SCALING, pictures, run, some_settings, tiny
from dse.training import make_train_step
from costs.errors import InputError
assert jax.device_count() == int(sys.argv[2])
x, y = pictures(64)
net, settings = tiny(), some_settings(optimizer="sgd", batch=32)
params, losses = run(make_train_step(net, settings, 3, SCALING), net, settings, 4, x, y)
if jax.device_count() > 1:
    assert all(len(value.sharding.device_set) == jax.device_count() for value in params.values())
    assert all(value.sharding.is_fully_replicated for value in params.values())
    try:
        make_train_step(net, some_settings(batch=12), 3, SCALING)
        raise SystemExit("12 pictures were shared out over 8 devices")
    except InputError as error:
        assert "training.batch" in str(error)
np.savez(sys.argv[3], losses=losses, **params)
"""


def test_a_step_shared_out_over_eight_devices_is_the_step_of_one(tmp_path):
    found = []
    for devices in (1, 8):
        file = tmp_path / f"{devices}.npz"
        flags = f"--xla_force_host_platform_device_count={devices}"
        subprocess.run(
            [sys.executable, "-c", SHARED_OUT, str(ROOT / "tests"), str(devices), str(file)],
            env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        with np.load(file) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    one, eight = found
    for name, value in one.items():
        np.testing.assert_allclose(eight[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
