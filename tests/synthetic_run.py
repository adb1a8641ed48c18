"""Writes a run directory that looks like one of ``dse run``, without running anything.

The numbers follow the shapes that a real run has (accuracy saturates with traffic, energy has a
part that falls with traffic and one that rises with it) so that figures can be judged by eye.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from dse.breakdown import SHOWN_INPUTS, Breakdown, LayerCost, LinkTraffic

LAYERS = (
    "stem.conv", "stage1.block0.conv1", "stage1.block0.conv2", "stage2.block0.conv1",
    "stage2.block0.conv2", "stage2.block0.shortcut", "stage2.block1.conv1", "stage2.block1.conv2",
    "stage3.block0.conv1", "stage3.block0.conv2", "stage3.block0.shortcut", "head",
)  # fmt: skip
BOUNDARIES = ("stem.out", "stage1.block0.out", "stage2.block0.out", "stage2.block1.out")
CHANNELS = dict(zip(BOUNDARIES, (16, 16, 32, 32), strict=True))
CORES = ("big0", "big1", "little0", "little1")
LEVELS = ("global_buffer", "weight_buffer", "register_file")
PICTURES = 360


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a proportion, written out from the textbook formula."""
    z = 1.959963984540054
    p = correct / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return middle - half, middle + half


def make_row(index: int, designs: int, rng: np.random.Generator) -> dict[str, object]:
    t = index / max(designs - 1, 1)
    io = 96 * 6.0 ** (2 * t)
    link = 0.0 if index == 0 else round(io * (0.3 + 0.4 * t))
    dram = round(io - link)
    row: dict[str, object] = {
        "id": f"d{index:03d}-{int(rng.integers(16**4)):04x}",
        "preference_traffic": round(1 - t, 3),
        "preference_energy": round(t, 3),
    }
    for split, shift in (("validation", 0.0), ("test", -0.011)):
        accuracy = 0.90 + 0.085 * t**0.6 + shift + (0.006 * rng.normal() if split == "test" else 0)
        correct = min(PICTURES, round(accuracy * PICTURES))
        low, high = wilson(correct, PICTURES)
        row |= {
            f"{split}_accuracy": correct / PICTURES,
            f"{split}_low": low,
            f"{split}_high": high,
            f"{split}_correct": correct,
        }
    energy = {"mac": 5.2e5, "global_buffer": 6.1e5 * (1.2 - 0.3 * t), "weight_buffer": 3.3e5}
    energy |= {"register_file": 2.4e5, "dram": 160.0 * dram, "link": 8.0 * 1.3 * link, "idle": 4e4}
    parts = {name: value * (1 + 0.05 * float(rng.random())) for name, value in energy.items()}
    row |= {"io_bytes": int(link + dram), "link_bytes": int(link), "dram_bytes": int(dram)}
    row["energy_pj"] = sum(parts.values())
    row |= {f"energy_{name}_pj": value for name, value in parts.items()}
    latency = 3.1e-5 * (1 + 0.3 * t)
    row |= {"latency_s": latency, "interval_s": latency / 2.3, "throughput_per_s": 2.3 / latency}
    row |= {"area_mm2": 3.4 + 0.3 * t, "cores_used": 1 if index == 0 else 2 + index % 3}
    used = int(row["cores_used"])  # pyright: ignore[reportArgumentType]
    for place, boundary in enumerate(BOUNDARIES):
        row[f"width_{boundary}"] = max(1, round(CHANNELS[boundary] * 0.06 ** (1 - t)))
        row[f"crossing_{boundary}"] = int(place < used - 1)
    for place, layer in enumerate(LAYERS):
        row[f"core_{layer}"] = CORES[(place * used) // len(LAYERS)]
    row |= {"knob_big_rows": 8 + 4 * (index % 3), "knob_big_global_buffer": 4096 * 2 ** (index % 2)}
    row |= {"knob_little_rows": 4, "knob_little_global_buffer": 2048}
    for cost in ("io_bytes", "energy_pj", "latency_s", "area_mm2"):
        row[f"relaxed_{cost}"] = float(row[cost]) * (1 + 0.03 * rng.normal())  # pyright: ignore
    row["relaxed_validation_accuracy"] = float(row["validation_accuracy"]) - 0.004  # pyright: ignore
    row |= {"assignment_gap_before": abs(0.03 * rng.normal()), "assignment_gap_after": 0.0}
    row["hardware_gap"] = abs(0.01 * rng.normal())
    return row


def write_run(directory: Path, designs: int = 14, seed: int = 0, name: str = "quickstart") -> Path:
    """A whole run directory; the same arguments give the same bytes."""
    rng = np.random.default_rng(seed)
    rows = [make_row(i, designs, rng) for i in range(designs)]
    (directory / "designs").mkdir(parents=True)
    with (directory / "front.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        design = {
            "schema": 1,
            "id": row["id"],
            "network": {"name": "small_cnn", "options": {"classes": 10}},
            "chip": "quickstart",
            "widths": {b: row[f"width_{b}"] for b in BOUNDARIES},
            "assignment": {layer: row[f"core_{layer}"] for layer in LAYERS},
        }
        path = directory / "designs" / f"{row['id']}.yaml"
        path.write_text(yaml.safe_dump(design, sort_keys=False))
    with (directory / "metrics.jsonl").open("w") as file:
        for phase, steps in (
            ("weights", 400),
            ("predictor", 1),
            ("policy", 300),
            ("finetune", 120),
        ):
            for step in range(0, steps, 4):
                decay = math.exp(-4 * step / steps)
                record: dict[str, object] = {"phase": phase, "step": step}
                record["loss"] = 0.12 + 2.1 * decay + 0.05 * rng.normal()
                record["accuracy"] = min(1.0, 0.97 - 0.8 * decay + 0.01 * rng.normal())
                if phase == "policy":
                    record["energy_pj"] = 2e6 * (0.7 + 0.6 * decay)
                    record["io_bytes"] = 2000 * (0.3 + decay)
                file.write(json.dumps(record) + "\n")
    with (directory / "timing.jsonl").open("w") as file:
        for phase, seconds in (
            ("tables", 9.1),
            ("weights", 61.2),
            ("policy", 22.0),
            ("select", 31.7),
        ):
            file.write(json.dumps({"phase": phase, "seconds": seconds}) + "\n")
    config = {"name": name, "method": "surface", "seed": 0, "network": {"name": "small_cnn"}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    environment = {"narrows": "0.1.0", "python": "3.11.9", "jax": "0.10.1", "device": "cpu"}
    (directory / "environment.json").write_text(json.dumps(environment, indent=1))
    return directory


def make_breakdown(row: Mapping[str, object]) -> Breakdown:
    """Layers, a schedule and a ring of links that agree with a row in cores and in link bytes."""
    layers, clock = [], 0.0
    moved: dict[str, float] = dict.fromkeys(CORES, 0.0)
    for weight, name in zip(np.linspace(1.6, 0.5, len(LAYERS)), LAYERS, strict=True):
        time_s = 2.4e-6 * float(weight)
        energy = {"mac": 4e4 * weight, "global_buffer": 5e4 * weight, "register_file": 2e4}
        core = str(row[f"core_{name}"])
        if name in (LAYERS[0], LAYERS[-1]):
            moved[core] = moved.get(core, 0.0) + 64.0  # a run may name its cores otherwise
            energy["dram"] = 160.0 * 64.0
        starts_s = tuple(clock + 2e-5 * n for n in range(SHOWN_INPUTS))
        layers.append(LayerCost(name, core, energy, time_s, starts_s))
        clock += time_s
    ring = list(zip(CORES, (*CORES[1:], CORES[0]), strict=True))
    used = int(row["cores_used"]) - 1  # pyright: ignore[reportArgumentType]
    share = float(row["link_bytes"]) / max(used, 1)  # pyright: ignore[reportArgumentType]
    links = [LinkTraffic(f"link_{i}", pair, share * (i < used)) for i, pair in enumerate(ring)]
    costs = {"interval_s": clock / 2, "latency_s": clock}
    return Breakdown(str(row["id"]), CORES, tuple(layers), tuple(links), costs, moved)
