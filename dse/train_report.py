"""The report of a `method: train` run: its result, the curve of its epochs, how to do it again."""

from __future__ import annotations

import base64
import csv
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from costs import strict_yaml
from costs.errors import InputError
from dse.console import format_seconds
from dse.figures.learning import draw_learning
from dse.figures.style import save
from dse.report_tables import key_values, shown, table
from dse.rundir import EPOCHS_FILE, REPORT_FILE, RESULT_FILE, TIMING_FILE, RunDir, write_atomically

FIGURE = "training"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>
body {{ max-width: 960px; margin: 30px auto; padding: 0 24px; color: #1d2733;
 font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
 font-variant-numeric: tabular-nums; }}
table {{ border-collapse: collapse; font-size: 13.5px; }}
th, td {{ padding: 5px 10px; text-align: right; border-bottom: 1px solid #e2e7ec; }}
th:first-child, td:first-child, td.text {{ text-align: left; }}
img {{ max-width: 100%; }} figcaption, .lead {{ color: #5d6976; }}
</style></head><body><h1>{title}</h1><p class="lead">{lead}</p>{body}</body></html>
"""


def read_result(run_dir: str | Path) -> dict[str, Any]:
    """The one row of result.csv, with the speed of training as timing.jsonl has it.

    Raises:
        InputError: The run is not finished, or the file is damaged.
    """
    rows = read_csv(Path(run_dir) / RESULT_FILE)
    speed = calc_speed(Path(run_dir), int(rows[0].get("batch", 0)))
    return rows[0] | ({} if speed is None else {"pictures_per_s": speed})


def calc_speed(run_dir: Path, batch: int) -> float | None:
    """Pictures per second from first to last timed step, validation included; None if unknown.

    Of a run that was continued it is the mean over all its processes, weighted by their steps.
    """
    chunk = strict_yaml.load(run_dir / "config.yaml")["train"]["chunk"]
    pictures, seconds, last = 0.0, 0.0, None
    for record in _timing(run_dir):
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
    result, epochs = read_result(run.path), read_csv(run.path / EPOCHS_FILE)
    run.figures.mkdir(exist_ok=True)
    picture = run.figures / f"{FIGURE}.png"
    save(draw_learning(epochs, result), picture)
    config = strict_yaml.load(run.config_file)
    title = f"{config['name']}: {result['network']} on {result['data']}"
    write_atomically(
        run.path / REPORT_FILE,
        PAGE.format(
            title=html.escape(title),
            lead=html.escape(str(config.get("question", ""))),
            body=_body(run, result, epochs, picture),
        ).encode(),
    )
    return [run.path / REPORT_FILE, picture]


def _body(
    run: RunDir, result: Mapping[str, Any], epochs: list[dict[str, Any]], picture: Path
) -> str:
    accuracies = [
        [
            f"{name} ({result[f'{name}_pictures']:,} pictures)",
            shown("accuracy", result[f"{name}_accuracy"]),
            f"{100 * result[f'{name}_low']:.2f} to {100 * result[f'{name}_high']:.2f} %",
        ]
        for name in ("validation", "test")
    ]
    rows = [[shown(name, value) for name, value in row.items()] for row in epochs]
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    environment = json.loads(run.environment_file.read_text(encoding="utf-8"))
    config = html.escape(run.config_file.read_text(encoding="utf-8"))
    facts = {name: result[name] for name in ("parameters", "epochs", "steps", "batch")}
    if "pictures_per_s" in result:
        facts["pictures per second, validation included"] = f"{result['pictures_per_s']:,.0f}"
    spent = sum(
        float(record["seconds"])
        for record in _timing(run.path)
        if record.get("phase") == "train" and record.get("event") == "done"
    )
    facts["time of training, in the process that finished it"] = format_seconds(spent)
    return (
        "<h2>Accuracy after the last epoch</h2>"
        + table(["Split", "Accuracy", "Wilson, 95 %"], accuracies)
        + "<p>Test pictures were read once, after the last step; nothing was chosen by them.</p>"
        + key_values(facts)
        + f'<figure><img src="data:image/png;base64,{data}" alt="Loss and accuracy by epoch">'
        + "<figcaption>Training figures are means over each epoch's augmented batches."
        + "</figcaption></figure>"
        + table(list(epochs[0]), rows)
        + "<h2>To do it again</h2>"
        + key_values(environment)
        + f"<pre>{config}</pre>"
    )


def _timing(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / TIMING_FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that a run has written, numbers as numbers; at least one."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError("not there: the run is not finished", file=path) from None
    if not rows or any(None in row or None in row.values() for row in rows):
        raise InputError("damaged: no whole row in it", file=path)
    return [{name: _number(cell) for name, cell in row.items()} for row in rows]


def _number(cell: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
