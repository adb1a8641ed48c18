"""Waves of thread blocks: the published staircase, laws of the tail, the command."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from costs.errors import InputError
from costs.gpu_waves import (
    Gpu,
    calc_wave_latency_s,
    calc_waves,
    calc_width_table_s,
    evaluate_waves,
    extend_table,
    find_gpu,
)
from costs.layer import Layer


def _published() -> Gpu:
    gpu = find_gpu("gpu_80sm")
    assert gpu is not None
    return gpu


GPU = _published()
LAYER = Layer("conv", N=16, K=512, C=256, P=28, Q=28, R=3, S=3)

# shared/reference/papers.md, D: Tm, Tn = 128, 64, 28x28, N = 16, 80 SMs
STAIRCASE = {
    (32, 64): 2,
    (96, 128): 3,
    (160, 192): 4,
    (224, 256): 5,
    (288, 288): 7,
    (352, 352): 8,
    (416, 416): 9,
    (480, 512): 10,
}


@pytest.mark.parametrize(("widths", "waves"), STAIRCASE.items())
def test_published_staircase(widths, waves):
    low, high = widths
    found = calc_waves(LAYER, GPU, np.arange(low, high + 1))
    np.testing.assert_array_equal(found, waves)


def test_latency_never_falls_with_width_and_is_flat_within_a_tile():
    table = calc_width_table_s(LAYER, GPU, 512)
    assert (np.diff(table) >= 0).all()
    assert (np.flatnonzero(np.diff(table)) + 1).tolist() == list(range(64, 512, 64))


def test_latency_is_at_least_the_macs_at_full_rate():
    rate = GPU.sms * GPU.macs_per_cycle_per_sm * GPU.clock_hz
    for row in evaluate_waves([LAYER, Layer("head", K=1000, C=512)], GPU):
        assert row.latency_s >= row.layer.macs / rate
        assert 0 < row.tail_utilization <= 1
        assert row.energy_pj is None


def test_groups_are_tiled_each_by_itself():
    depthwise = Layer("dw", K=64, C=64, P=28, Q=28, R=3, S=3, groups=64)
    (row,) = evaluate_waves([depthwise], GPU)
    assert row.blocks == 64 * -(-28 * 28 // 128)


def test_extension_is_exact_at_integers_and_its_slope_is_the_step():
    table = calc_width_table_s(LAYER, GPU, 512)
    widths = np.arange(1, 513)
    np.testing.assert_array_equal(extend_table(table, widths.astype(float)), table)
    scaled = jnp.asarray(table * 1e3)
    slope = jax.grad(lambda w: extend_table(scaled, w, jnp))
    np.testing.assert_allclose(slope(64.5), scaled[64] - scaled[63], rtol=1e-5)
    assert slope(40.5) == 0.0


def test_numpy_and_jax_agree():
    widths = np.arange(1, 600)
    found = jax.jit(lambda w: calc_wave_latency_s(LAYER, GPU, w, jnp))(widths)
    np.testing.assert_allclose(found, calc_wave_latency_s(LAYER, GPU, widths), rtol=1e-6)


def test_bad_gpu_file_names_the_key(tmp_path):
    path = tmp_path / "gpu.yaml"
    path.write_text("kind: gpu\nname: g\nsms: 0\n")
    with pytest.raises(InputError, match="sms"):
        find_gpu(path)


def test_command_prints_waves(capsys):
    from dse.commands.evaluate import evaluate_gpu_command

    evaluate_gpu_command("resnet18", GPU, batch=16, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["energy_pj"] is None
    assert found["total"]["waves"] == sum(row["waves"] for row in found["layers"])
    evaluate_gpu_command("resnet18", GPU, batch=16, as_json=False)
    assert "no sourced energy model" in capsys.readouterr().out


def test_widths_optimized_against_the_staircase_land_on_its_edges():
    path = Path(__file__).parent.parent / "experiments" / "gpu_waves.py"
    spec = importlib.util.spec_from_file_location("gpu_waves_experiment", path)
    assert spec is not None
    assert spec.loader is not None
    experiment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(experiment)
    latency = experiment.tables()
    assert experiment.optimise(latency["waves"], 1.0737306340406316, 4) == 192
    smooth = experiment.optimise(latency["flops"], 1.0737306340406316, 4)
    assert smooth % GPU.tile_n  # the smooth model sees no tiles


def test_commands_know_gpus(tmp_path, capsys):
    from dse.commands.inspect import list_command, validate_command

    list_command("gpus", as_json=True)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["gpu_80sm"]
    path = tmp_path / "mine.yaml"
    path.write_text("kind: gpu\nname: mine\nsms: 4\n")
    assert validate_command([path], as_json=False) == 2
    assert "tile_m" in capsys.readouterr().err
