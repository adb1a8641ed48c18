"""Exports: ONNX equals the network, files hang together, a fresh process finds the same figures."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file
from trained_run import made_up_weights, quick_block, write_trained_run

import costs.chip_tables
from costs import strict_yaml
from costs.errors import InputError
from costs.library import load_chip, read_chip
from costs.zigzag import load_zigzag_core
from dse.export import export_design
from dse.exported import check_export, load_export, onnx_logits, predict_logits
from dse.onnx_writer import to_bytes, to_onnx, without_quantisers
from dse.outcomes import RunError
from models.functional import Flat, Functional
from models.onnx_workload import workload_of_onnx
from models.resnet import ResNetSpec, Stage, resnet_architecture
from models.slim import fold_norms, slim
from models.trace import workload_of

NETWORKS = {
    "projected": ("digits_resnet", (8, 8, 1)),
    "subsampled": (
        ResNetSpec((Stage(1, 6), Stage(1, 12, 2)), stem=6, shortcut="parameter_free"),
        (8, 8, 3),
    ),
    "pooled": (ResNetSpec((Stage(1, 6),), stem=6, imagenet_stem=True), (16, 16, 3)),
}
Slim = tuple[Functional, Flat, Flat]


@functools.cache
def make_slim(name: str) -> Slim:
    """A slim network with made-up weights and statistics: some crossings narrow, some not."""
    spec, shape = NETWORKS[name]
    architecture = resnet_architecture(spec, input_shape=shape, classes=10, bottlenecks="blocks")
    net = Functional.from_architecture(architecture)
    params, stats = made_up_weights(net)
    rng = np.random.default_rng(0)
    widths = [int(rng.integers(1, b.channels)) for b in net.boundaries]
    crossing = [True for _ in net.edges]
    if len(widths) > 2:
        widths[0] = net.boundaries[0].channels
        crossing[2] = False
    return slim(net, params, stats, widths, crossing)


@functools.cache
def make_float(name: str) -> Slim:
    net, params, stats = make_slim(name)
    made = Functional.from_architecture(without_quantisers(net.operations))
    return made, params, {k: v for k, v in stats.items() if not k.endswith(".range")}


def pictures_for(net: Functional, count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, *net.architecture.input_shape)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_without_quantisers_equals_the_network(name):
    net, params, stats = make_float(name)
    pictures = pictures_for(net, 250)
    ours = predict_logits(net, params, stats)(pictures)
    for written in (make_float(name), fold_norms(net, params, stats)):
        model = to_onnx(written[0].operations, written[1], written[2], name=name)
        theirs = onnx_logits(to_bytes(model), pictures)
        assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, float(np.abs(ours).max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_with_quantisers_predicts_alike(name):
    net, params, stats = make_slim(name)
    pictures = pictures_for(net, 1000)
    ours = predict_logits(net, params, stats)(pictures)
    folded, weights, measured = fold_norms(net, params, stats)
    model = to_onnx(folded.operations, weights, measured, name=name)
    assert {"Round", "Clip"} <= {node.op_type for node in model.graph.node}
    theirs = onnx_logits(to_bytes(model), pictures)
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) >= 0.999


def test_onnx_says_all_that_other_tools_need():
    net, params, stats = make_float("pooled")
    folded, weights, measured = fold_norms(net, params, stats)
    model = to_onnx(folded.operations, weights, measured, name="net", batch=1)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    known = {entry.name: entry for entry in (*graph.value_info, *graph.input, *graph.output)}
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    for node in graph.node:
        for output in node.output:
            dims = known[output].type.tensor_type.shape.dim
            assert all(dim.dim_value > 0 for dim in dims)
        if node.op_type == "Conv":
            given = {attribute.name for attribute in node.attribute}
            assert {"kernel_shape", "pads", "strides", "dilations", "group"} <= given
    ops = [node.op_type for node in graph.node]
    assert ops[-3:] == ["GlobalAveragePool", "Flatten", "Gemm"]
    assert "BatchNormalization" not in ops


def test_onnx_has_the_macs_of_the_network(tmp_path):
    net, params, stats = make_float("projected")
    traced = workload_of(net.abstract, net.architecture.input_shape, pooling="fused")
    folded, weights, measured = fold_norms(net, params, stats)
    model = to_onnx(folded.operations, weights, measured, name="net", batch=1)
    (tmp_path / "net.onnx").write_bytes(to_bytes(model))
    read = workload_of_onnx(tmp_path / "net.onnx")
    ours = [layer.macs for layer in traced.layers if layer.kind == "conv"]
    assert [layer.macs for layer in read.layers if layer.kind == "conv"] == ours


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs.chip_tables, "calc_block", quick_block)
        return write_trained_run(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def exported(run) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs.chip_tables, "calc_block", quick_block)
        paths = export_design(run, "d01", run.parent / "out")
    assert all(path.is_file() for path in paths)
    return run.parent / "out"


def test_a_fresh_process_finds_the_same_figures(exported):
    """The chip file and the run are not needed: the child runs elsewhere with neither."""
    code = (
        "import json, sys, costs.chip_tables, trained_run;"
        "costs.chip_tables.calc_block = trained_run.quick_block;"
        "from dse.exported import check_export;"
        "print(json.dumps(check_export(sys.argv[1])))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported)],
        capture_output=True,
        text=True,
        check=False,
        cwd=exported.parent,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    summary = json.loads((exported / "summary.json").read_text())
    assert found["matches"], found["differences"]
    assert found["costs"] == summary["predicted"]
    for split in ("validation", "test"):
        assert found["correct"][split]["flax"] == summary["correct"][split]["correct"]
        assert abs(found["correct"][split]["onnx"] - found["correct"][split]["flax"]) <= 1
        assert abs(found["correct"][split]["stablehlo"] - found["correct"][split]["flax"]) <= 1


def test_the_slim_network_predicts_what_the_run_counted(exported):
    summary = json.loads((exported / "summary.json").read_text())
    for split in ("validation", "test"):
        # Removing masked channels changes the order of summation, which may flip a picture.
        assert abs(summary["correct"][split]["correct"] - summary["front"][f"{split}_correct"]) <= 1


def test_weights_are_those_of_the_narrow_network(exported):
    weights = load_file(exported / "weights.safetensors")
    widths = strict_yaml.load(exported / "design.yaml")["widths"]
    name = "stage1.block0.out"
    reduce = weights.get(f"params/{name}.reduce.kernel")
    if reduce is not None:
        assert reduce.shape[-1] == widths[name]
    assert not any("modulation" in key for key in weights)


def test_chip_has_the_sizes_of_the_design(exported):
    chip = load_chip(exported / "chip.yaml")
    design = strict_yaml.load(exported / "design.yaml")
    for kind in chip.types:
        assert {name: values for name, values, _ in kind.knobs} == {
            knob: (size,) for knob, size in design["hardware"][kind.name].items()
        }
    for kind in chip.types:
        core = load_zigzag_core(exported / "zigzag" / f"{kind.name}.yaml")
        assert {axis.size for axis in core.axes} == {design["hardware"][kind.name]["array"]}


def test_read_chip_needs_no_other_file(tmp_path):
    for name in ("quad_big_little", "quad_chiplets_ucie"):
        strict_yaml.dump(read_chip(name), tmp_path / "chip.yaml")
        assert load_chip(tmp_path / "chip.yaml") == load_chip(name)


def test_no_path_of_this_machine_gets_out(exported):
    for path in exported.rglob("*"):
        if path.is_file() and path.name != "design.yaml":
            content = path.read_bytes()
            for folder in (Path(__file__).parent.parent, exported.parent, Path(sys.prefix)):
                assert str(folder).encode() not in content


def test_serialized_and_readable_forms_run(exported):
    read = jax_export.deserialize(bytearray((exported / "model.jax_export").read_bytes()))
    assert np.asarray(read.call(np.zeros((3, 8, 8, 1), np.float32))).shape == (3, 10)
    assert "stablehlo.convolution" in (exported / "model.stablehlo").read_text()
    session = onnxruntime.InferenceSession(exported / "workload.onnx")
    assert session.get_inputs()[0].shape == [1, 1, 8, 8]


def test_an_export_replaces_an_export_and_nothing_else(run, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(costs.chip_tables, "calc_block", quick_block)
    before = {p.name: p.read_bytes() for p in exported.iterdir() if p.is_file()}
    again = tmp_path / "again"
    again.mkdir()
    for _ in range(2):
        export_design(run, "d01", again)
        assert {p.name: p.read_bytes() for p in again.iterdir() if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        export_design(run, "d01", other)
    with pytest.raises(InputError, match="is a file"):
        export_design(run, "d01", other / "thesis.tex")
    assert (other / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "chip.yaml", "network.json"])
def test_a_changed_file_is_named(exported, tmp_path, name):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in exported.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "zigzag").mkdir()
    for path in (exported / "zigzag").iterdir():
        (copy / "zigzag" / path.name).write_bytes(path.read_bytes())
    assert load_export(copy).design.id == "d01"
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        load_export(copy)
    assert "SHA-256" in str(caught.value)
    (copy / name).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_export(copy)


def test_what_is_not_an_export_is_refused(tmp_path):
    with pytest.raises(InputError, match="not an export"):
        load_export(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema": "other"}')
    with pytest.raises(InputError, match="narrows-export-1"):
        load_export(tmp_path)


def test_costs_other_than_those_of_the_run_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(costs.chip_tables, "calc_block", lambda *a: 2 * quick_block(*a))
    with pytest.raises(RunError, match=r"io_bytes is .*changed since the run"):
        export_design(run, "d01", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_design_without_weights_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr(costs.chip_tables, "calc_block", quick_block)
    weights = run / "designs" / "d00.safetensors"
    aside = weights.rename(tmp_path / "aside")
    try:
        with pytest.raises(InputError, match="weights"):
            export_design(run, "d00", tmp_path / "out")
    finally:
        aside.rename(weights)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_with_the_real_cost_tables(tmp_path):
    run = write_trained_run(tmp_path / "run", splits=(1,))
    export_design(run, "knee", tmp_path / "out")
    assert check_export(tmp_path / "out")["matches"]
