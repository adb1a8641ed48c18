"""ZigZag's recorded runs of ResNet-18: its layers, accelerators and mappings as ours."""

import ast
import json
import math
import re
from dataclasses import replace
from typing import Any

from costs.core import Core
from costs.layer import RELEVANT, Layer
from costs.mapping import Mapping
from costs.zigzag import DIM_OF, from_zigzag

RUNS = {
    "tpu_like": "zigzag_tpu_like_resnet18_energy_lpf4.json",
    "eyeriss_like": "zigzag_eyeriss_like_resnet18_energy_lpf4.json",
}


def read_run(reference, name):
    return json.loads((reference / RUNS[name]).read_text())


def make_layer(row) -> Layer:
    """A layer of ZigZag's ResNet-18; its file gives no strides, but the network is known."""
    name, dims, bits = row["layer"], row["dims"], row["operand_precision"]
    if row["type"] == "Gemm":
        sizes: dict[str, Any] = {"K": dims["K"], "C": dims["C"]}
    else:
        halves = name == "/conv1/Conv" or "downsample" in name
        halves = halves or (".0/conv1" in name and "layer1" not in name)
        stride = 2 if halves else 1
        pad, size = dims["FX"] // 2, dims["OX"] * stride
        last = max(0, (dims["OX"] - 1) * stride + dims["FX"] - size - pad)
        sizes = {
            **{DIM_OF[dim]: bound for dim, bound in dims.items() if dim not in "BG"},
            "stride": (stride, stride),
            "padding": ((pad, last), (pad, last)),
            "input_size": (size, size),
        }
    return Layer(
        name,
        **sizes,
        bits_w=bits["W"],
        bits_i=bits["I"],
        bits_o=bits["O_final"],
        bits_psum=bits["O"],
    )


def make_core(run, *, any_spatial=False, pins="IW") -> Core:
    """ZigZag's accelerator with its accounting: words at output pins."""
    mapping = None if any_spatial else run["mapping_yaml"]
    core = from_zigzag(run["hardware_yaml"], mapping, output_pins=True)
    unused = {f"pins_{operand}" for operand in "IW" if operand not in pins}
    return replace(core, levels=tuple(lvl for lvl in core.levels if lvl.name not in unused))


def parse(text):
    """ZigZag's printed loops, `{O: [[(K, 5), ...], ...], ...}`, innermost first."""
    return ast.literal_eval(re.sub(r"\b([A-Z]+)\b", r"'\1'", text))


def spatial_of(row) -> dict[str, dict[str, float]]:
    text = row["spatial_mapping"].removeprefix("SpatialMapping(")[:-1]
    unrolled: dict[str, dict[str, float]] = {"D1": {}, "D2": {}}
    for dim, factor in parse(text)["W"][1]:
        unrolled["D1" if dim == "K" else "D2"][dim] = factor
    return unrolled


def make_mapping(core, row) -> Mapping:
    """ZigZag's mapping as ours: fractional unrolling rounded up."""
    temporal = parse(row["temporal_mapping"])
    loops = tuple((DIM_OF[dim], int(factor)) for level in temporal["W"] for dim, factor in level)[
        ::-1
    ]
    stored = {}
    for operand, levels in temporal.items():
        chain = [level for level in core.chain(operand)[::-1] if not level.startswith("pins")]
        inside = 0
        stored[operand] = {}
        for level, part in zip(chain, levels, strict=True):
            inside += len(part)
            stored[operand][level] = len(loops) - inside
        if operand != "O":
            still = 0
            while still < len(loops) and loops[-1 - still][0] not in RELEVANT[operand]:
                still += 1
            stored[operand][f"pins_{operand}"] = len(loops) - still
    spatial = {
        axis: tuple((DIM_OF[dim], math.ceil(factor - 1e-9)) for dim, factor in factors.items())
        for axis, factors in spatial_of(row).items()
    }
    return Mapping(loops, stored, spatial)
