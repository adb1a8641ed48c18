"""The report of a run that compares a few networks (`method: insitu`, `method: skipping`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dse.csv_rows import read_rows
from dse.figures.comparison import SHARES, draw_comparison, heading
from dse.figures.training import draw_training
from dse.page import json_lines, write_plain_page
from dse.report_tables import shown, table
from dse.rundir import METRICS_FILE, RESULT_FILE, RunDir

TABLES = {"blocks.csv": "What each block keeps"}
"""Further tables that a method may write, and their headings."""
MEASURING = ("compare", "measure")
"""Phases whose steps are networks that are measured one after the other, not a training."""
CAPTION = "Accuracies with 95 % intervals; costs over those of the first network."
HEADINGS = ("id", "validation_accuracy", "test_accuracy")
"""Columns that stand first."""


def result_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The main columns of result.csv."""
    return [name for name in (*HEADINGS, *SHARES) if name in rows[0]]


def write_comparison_report(run_dir: str | Path) -> list[Path]:
    """Draw the figures of a finished run and write its ``report.html``.

    Returns:
        The files written, ``report.html`` first.

    Raises:
        InputError: The run is not finished, or one of its files is damaged.
    """
    run = RunDir(Path(run_dir))
    run.require_run()
    rows = read_rows(run.path / RESULT_FILE)
    metrics = [
        line for line in json_lines(run.path / METRICS_FILE) if line["phase"] not in MEASURING
    ]
    results = [
        "<h2>Result</h2>",
        _as_table(rows, result_columns(rows)),
        "<p>The test pictures were read once, at the end; nothing was chosen by them.</p>",
    ]
    for name, title in TABLES.items():
        if (run.path / name).exists():
            found = read_rows(run.path / name)
            results += [f"<h2>{title}</h2>", _as_table(found, list(found[0]))]
    figures = {
        "comparison": (
            draw_comparison(rows),
            "Accuracies with 95 % intervals; costs over those of the first network.",
        ),
        "training": (draw_training(metrics), "What each phase logged."),
    }
    return write_plain_page(run, results, figures)


def _as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    cells = [[shown(name, row[name]) for name in columns] for row in rows]
    return table([heading(name) for name in columns], cells)
