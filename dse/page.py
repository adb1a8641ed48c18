"""Parts of every report page, and the plain page of the runs that have no front.

Everything is read from the run directory, so the same files give the same bytes. What a file says
is escaped before it enters the page.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costs import strict_yaml
from dse.console import format_seconds
from dse.figures.style import save
from dse.report_tables import key_values, table
from dse.rundir import REPORT_FILE, TIMING_FILE, RunDir, write_atomically

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
th {{ vertical-align: bottom; font-weight: 600; }} .scroll {{ overflow-x: auto; margin: 10px 0; }}
summary {{ cursor: pointer; }} img {{ max-width: 100%; }} figure {{ margin: 14px 0; }}
figcaption, .lead {{ color: #5d6976; }}
</style></head><body><h1>{title}</h1><p class="lead">{lead}</p>{body}</body></html>
"""


def write_plain_page(
    run: RunDir,
    results: Sequence[str],
    figures: Mapping[str, tuple[Any, str]],
    details: Sequence[str] = (),
) -> list[Path]:
    """Draw figures and write ``report.html``: results, figures, details, how to do it again.

    Args:
        run: The run.
        results: HTML that comes first.
        figures: Name -> (figure or None for none, caption).
        details: HTML after the figures.

    Returns:
        The files written, ``report.html`` first.
    """
    run.figures.mkdir(exist_ok=True)
    pictures = {
        save(figure, run.figures / f"{name}.png"): caption
        for name, (figure, caption) in figures.items()
        if figure is not None
    }
    config = strict_yaml.load(run.config_file)
    parts = [
        *results,
        *(embed(path, caption) for path, caption in pictures.items()),
        *details,
        timing(run),
        "<h2>To do it again</h2>",
        provenance(run),
    ]
    page = PAGE.format(
        title=html.escape(str(config["name"])), lead=lead(config), body="".join(parts)
    )
    write_atomically(run.path / REPORT_FILE, page.encode())
    return [run.path / REPORT_FILE, *pictures]


def folded(summary: str, content: str) -> str:
    """Content that a click unfolds."""
    return f"<details><summary>{summary}</summary>{content}</details>" if content else ""


def embed(path: Path, caption: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    safe = html.escape(caption, quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{safe}">'
        f"<figcaption>{safe}</figcaption></figure>"
    )


def lead(config: Mapping[str, Any]) -> str:
    """What was asked, and the run in one line."""

    def name(key: str) -> object:
        part = config.get(key)
        return part.get("name") if isinstance(part, dict) else part

    facts = [
        f"{label} <b>{html.escape(str(name(key)))}</b>"
        for key, label in (
            ("network", "network"),
            ("data", "data"),
            ("chip", "chip"),
            ("method", "method"),
            ("seed", "seed"),
        )
        if name(key) is not None
    ]
    hardware = config.get("hardware")
    if isinstance(hardware, dict) and config.get("chip") is not None:
        mode = html.escape(str(hardware.get("mode")).replace("_", " "))
        budget = hardware.get("area_budget_mm2")
        limit = "" if budget is None else f", at most {html.escape(str(budget))} mm²"
        facts.insert(3, f"hardware <b>{mode}</b>{limit}")
    question = config.get("question")
    asked = f"{html.escape(str(question))}<br>" if question else ""
    return asked + " · ".join(facts)


def timing(run: RunDir) -> str:
    """How long each phase took in the process that finished it."""
    spent: dict[str, float] = {}
    for record in json_lines(run.path / TIMING_FILE):
        seconds = record.get("seconds")
        phase = str(record.get("phase"))
        # The report cannot know its own time, so a later one leaves it out too.
        if phase == "report" or record.get("event", "done") != "done":
            continue
        if isinstance(seconds, int | float):
            spent[phase] = spent.get(phase, 0.0) + seconds
    if not spent:
        return ""
    rows = [[phase, format_seconds(seconds)] for phase, seconds in spent.items()]
    rows.append(["all phases", format_seconds(sum(spent.values()))])
    return "<h3>Time</h3>" + table(["Phase", "Wall clock [min:s]"], rows)


def provenance(run: RunDir) -> str:
    """Command, versions, device and configuration."""
    environment = {}
    if run.environment_file.is_file():
        environment = json.loads(run.environment_file.read_text(encoding="utf-8"))
    config = html.escape(run.config_file.read_text(encoding="utf-8"))
    again = f"<p><code>dse run {run.config_file.name} --out DIR</code> in the run directory.</p>"
    resolved = folded("The resolved configuration", f"<pre>{config}</pre>")
    return again + key_values(environment) + resolved


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a growing file; a last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records
