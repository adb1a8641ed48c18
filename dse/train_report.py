"""The report of a `method: train` run: its result, the curve of its epochs, how to do it again."""

from __future__ import annotations

from pathlib import Path

from costs import strict_yaml
from dse.csv_rows import Row, read_rows
from dse.figures.learning import draw_learning
from dse.page import folded, json_lines, write_plain_page
from dse.report_tables import key_values, shown, table
from dse.rundir import EPOCHS_FILE, RESULT_FILE, TIMING_FILE, RunDir

FACTS = ("network", "data", "parameters", "epochs", "steps", "batch")
CAPTION = "Training figures are means over each epoch's augmented batches."


def read_result(run_dir: str | Path) -> Row:
    """The one row of result.csv, with the speed of training as timing.jsonl has it.

    Raises:
        InputError: The run is not finished, or the file is damaged.
    """
    rows = read_rows(Path(run_dir) / RESULT_FILE)
    speed = calc_speed(Path(run_dir), int(rows[0].get("batch", 0)))
    return rows[0] | ({} if speed is None else {"pictures_per_s": speed})


def calc_speed(run_dir: Path, batch: int) -> float | None:
    """Pictures per second from first to last timed step, validation included; None if unknown.

    Of a run that was continued it is the mean over all its processes, weighted by their steps.
    """
    chunk = strict_yaml.load(run_dir / "config.yaml")["train"]["chunk"]
    pictures, seconds, last = 0.0, 0.0, None
    for record in json_lines(run_dir / TIMING_FILE):
        if record.get("phase") != "train" or record.get("event") not in ("first step", "step"):
            continue
        now = (int(record["step"]), float(record["seconds"]))
        if last is not None and record["event"] == "step" and now[0] > last[0]:
            pictures += batch * chunk * (now[0] - last[0])
            seconds += now[1] - last[1]
        last = now
    return pictures / seconds if seconds > 0 else None


def write_train_report(run_dir: str | Path) -> list[Path]:
    """Draw the curve of a finished run and write its ``report.html``.

    Returns:
        The files written, ``report.html`` first.

    Raises:
        InputError: The run is not finished, or one of its files is damaged.
    """
    run = RunDir(Path(run_dir))
    run.require_run()
    result, epochs = read_result(run.path), read_rows(run.path / EPOCHS_FILE)
    accuracies = [
        [
            f"{name} ({result[f'{name}_pictures']:,} pictures)",
            shown("accuracy", result[f"{name}_accuracy"]),
            f"{100 * result[f'{name}_low']:.2f} to {100 * result[f'{name}_high']:.2f} %",
        ]
        for name in ("validation", "test")
    ]
    facts = {name: shown(name, result[name]) for name in FACTS}
    if "pictures_per_s" in result:
        facts["pictures per second, validation included"] = f"{result['pictures_per_s']:,.0f}"
    curve = [[shown(name, value) for name, value in row.items()] for row in epochs]
    results = (
        "<h2>Accuracy after the last epoch</h2>",
        table(["Split", "Accuracy", "Wilson, 95 %"], accuracies),
        "<p>Test pictures were read once, after the last step; nothing was chosen by them.</p>",
        key_values(facts),
    )
    details = [folded("Epoch by epoch", table(list(epochs[0]), curve))]
    figures = {"training": (draw_learning(epochs, result), CAPTION)}
    return write_plain_page(run, results, figures, details)
