"""One chip for all preferences, a chip for each design, or the chip as described.

    dse run experiments/hardware_modes.yaml --out RUN         # hardware.mode: shared
    python experiments/hardware_modes.py run RUN              # the other two, and the CSV
    python experiments/hardware_modes.py draw                 # figure and table from the CSV

The other two modes take weights and predictor from RUN: neither sees the chip, so their own runs
would train the same ones, bit by bit. Tables, policy, selection, fine-tuning and the front are each
mode's own, by the phases of `dse run`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from dse.answer import load_surface
from dse.context import make_context
from dse.csv_rows import read_rows, write_rows
from dse.finetune import FinetunePhase
from dse.front import FrontPhase
from dse.policy import PolicyPhase
from dse.rundir import FRONT_FILE
from dse.selection import SelectionPhase
from dse.tables import TablesPhase

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator

FOLDER = Path(__file__).parent / "results" / "hardware_modes"
FILE = FOLDER / "fronts.csv"
LOOKS = {
    "fixed": ("#8a95a3", "s", "fixed: the chip as described"),
    "shared": ("#d55e00", "o", "shared: one chip for all"),
    "per_design": ("#0072b2", "^", "per design: a chip for each"),
}


def run_mode(shared: Any, mode: str, folder: Path) -> list[dict[str, Any]]:
    """The front of one mode, weights and predictor given."""
    hardware = shared.context.config.hardware.model_copy(update={"mode": mode})
    context = make_context(shared.context.config.model_copy(update={"hardware": hardware}))
    outputs = {name: shared.outputs[name] for name in ("weights", "predictor")}
    phases: list[Any] = [TablesPhase(context)]
    if mode == "per_design":  # the same grids: the same tables
        outputs["tables"], phases = shared.outputs["tables"], []
    phases += [PolicyPhase(context), SelectionPhase(context), FinetunePhase(context)]
    for phase in [*phases, FrontPhase(context, folder)]:
        if hasattr(phase, "bind"):
            phase.bind(outputs)
        steps = phase.count(outputs) if hasattr(phase, "count") else phase.steps
        state = phase.init(outputs)
        for index in range(steps):
            state, _ = phase.step(state, index)
        outputs[phase.name] = phase.result(state)
        print(mode, phase.name, "done", flush=True)
    return read_rows(folder / FRONT_FILE)


def run(path: Path) -> None:
    """Both other modes beside the finished run in `path`."""
    shared = load_surface(path)
    fronts = {"shared": read_rows(path / FRONT_FILE)}
    for mode in ("per_design", "fixed"):
        with tempfile.TemporaryDirectory() as folder:
            fronts[mode] = run_mode(shared, mode, Path(folder))
        write_rows(FILE, [{"mode": mode, **row} for mode in fronts for row in fronts[mode]])


def draw() -> None:
    """Figure, and what each mode reaches."""
    rows = read_rows(FILE)
    figure, panels = plt.subplots(1, 3, figsize=(12.5, 3.9), layout="constrained")
    pairs = (
        ("io_bytes", "IO traffic per inference [B]"),
        ("energy_pj", "Energy per inference [nJ]"),
        ("area_mm2", "Area of the chip [mm²]"),
    )
    print("mode designs best_validation least_energy_nJ least_io_B area_mm2 chips")
    for mode, (color, marker, label) in LOOKS.items():
        mine = [row for row in rows if row["mode"] == mode]
        if not mine:
            continue  # not run yet
        accuracy = 100 * np.array([float(row["validation_accuracy"]) for row in mine])
        bars = 100 * np.array([
            [float(row["validation_accuracy"]) - float(row["validation_low"]) for row in mine],
            [float(row["validation_high"]) - float(row["validation_accuracy"]) for row in mine],
        ])  # fmt: skip
        for axes, (column, name) in zip(panels, pairs, strict=True):
            scale = 1e-3 if column == "energy_pj" else 1.0
            x = scale * np.array([float(row[column]) for row in mine])
            axes.errorbar(
                x, accuracy, yerr=bars, fmt=marker, color=color, ms=6, elinewidth=0.6, alpha=0.85,
                label=label,
            )  # fmt: skip
            axes.set_xlabel(name)
            axes.grid(color="#dfe4ea", lw=0.7)
            axes.spines[["top", "right"]].set_visible(False)
        knobs = [name for name in mine[0] if name.startswith("knob_")]
        chips = {tuple(row[name] for name in knobs) for row in mine}
        areas = sorted(float(row["area_mm2"]) for row in mine)
        print(
            mode, len(mine), f"{accuracy.max():.2f}",
            f"{min(float(row['energy_pj']) for row in mine) / 1e3:.1f}",
            f"{min(float(row['io_bytes']) for row in mine):g}",
            f"{areas[0]:.3f}..{areas[-1]:.3f}", len(chips),
        )  # fmt: skip
        for chip in sorted(chips) if mode != "per_design" else ():
            sizes = zip(knobs, chip, strict=True)
            print("   ", ", ".join(f"{name.removeprefix('knob_')} {size}" for name, size in sizes))
    for panel, steps in zip(panels[:2], [(1.0,), (1.0, 2.0, 5.0)], strict=True):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=steps))
        panel.xaxis.set_major_formatter("{x:,.0f}")
    panels[1].minorticks_off()
    panels[0].set_ylabel("Validation accuracy with 95 % interval [%]")
    panels[0].legend(frameon=False, loc="lower right", fontsize=8.5)
    figure.suptitle("Whose chip it is: fronts of one network", x=0.01, ha="left")
    figure.savefig(FOLDER / "fronts.png", dpi=150, metadata={"Software": None})


def main() -> None:
    """Run or draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "draw"])
    parser.add_argument("path", nargs="?", type=Path)
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if given.what == "draw":
        draw()
    elif given.path is None:
        parser.error("run: give the run directory of hardware.mode: shared")
    else:
        run(given.path)


if __name__ == "__main__":
    main()
