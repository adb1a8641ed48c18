"""The report of a run that compares a few networks (`method: insitu`, `method: skipping`)."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costs import strict_yaml
from dse.figures.comparison import draw_comparison
from dse.figures.style import save
from dse.figures.training import draw_training
from dse.report_tables import key_values, shown, table
from dse.rundir import METRICS_FILE, REPORT_FILE, RESULT_FILE, RunDir, write_atomically
from dse.train_report import PAGE, read_csv

TABLES = {"blocks.csv": "What each block keeps"}
"""Further tables that a method may write, and their headings."""
MEASURING = ("compare", "measure")
"""Phases whose steps are networks that are measured one after the other, not a training."""
HEADINGS = ("id", "validation_accuracy", "test_accuracy")
"""Columns that stand first."""
FURTHER = (
    "parameter_ratio",
    "memory_ratio",
    "weight_dram_bytes",
    "macs_share_formula",
    "macs_share_measured",
    "traffic_share_formula",
    "traffic_share_measured",
    "energy_pj",
    "latency_s",
)
"""Columns that a person sees, where the table has them."""


def result_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The main columns of result.csv."""
    return [name for name in (*HEADINGS, *FURTHER) if name in rows[0]]


def read_rows(run_dir: str | Path) -> list[dict[str, Any]]:
    """The rows of a finished run's result.csv.

    Raises:
        InputError: The run is not finished, or the file is damaged.
    """
    return read_csv(Path(run_dir) / RESULT_FILE)


def write_comparison_report(run_dir: str | Path) -> list[Path]:
    """Draw the figures of a finished run and write its ``report.html``.

    Returns:
        The files written, ``report.html`` first.

    Raises:
        InputError: The run is not finished, or one of its files is damaged.
    """
    run = RunDir(Path(run_dir))
    run.require_run()
    rows = read_rows(run.path)
    run.figures.mkdir(exist_ok=True)
    metrics = [json.loads(line) for line in (run.path / METRICS_FILE).read_text().splitlines()]
    metrics = [line for line in metrics if line["phase"] not in MEASURING]
    drawn = {"comparison": draw_comparison(rows), "training": draw_training(metrics)}
    pictures = []
    for name, figure in drawn.items():
        if figure is not None:
            pictures.append(save(figure, run.figures / f"{name}.png"))
    config = strict_yaml.load(run.config_file)
    page = PAGE.format(
        title=html.escape(f"{config['name']}: {config['network']['name']}"),
        lead=html.escape(str(config.get("question", ""))),
        body=_body(run, rows, pictures),
    )
    write_atomically(run.path / REPORT_FILE, page.encode())
    return [run.path / REPORT_FILE, *pictures]


def _body(run: RunDir, rows: Sequence[Mapping[str, Any]], pictures: Sequence[Path]) -> str:
    parts = ["<h2>Result</h2>", _as_table(rows, result_columns(rows))]
    parts.append("<p>The test pictures were read once, at the end; nothing was chosen by them.</p>")
    for name, heading in TABLES.items():
        if (run.path / name).exists():
            found = read_csv(run.path / name)
            parts += [f"<h2>{heading}</h2>", _as_table(found, list(found[0]))]
    for path in pictures:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        parts.append(f'<figure><img src="data:image/png;base64,{data}" alt="{path.stem}"></figure>')
    environment = json.loads(run.environment_file.read_text(encoding="utf-8"))
    config = html.escape(run.config_file.read_text(encoding="utf-8"))
    parts += ["<h2>To do it again</h2>", key_values(environment), f"<pre>{config}</pre>"]
    return "".join(parts)


def _as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    return table(list(columns), [[shown(name, row[name]) for name in columns] for row in rows])
