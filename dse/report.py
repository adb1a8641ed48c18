"""The report of a run: figures as PNG and one self-contained ``report.html``.

Everything is read from the run directory, so the same files give the same bytes: no clock, no
paths, no random identifiers. What a file says is escaped before it enters the page.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from costs import strict_yaml
from dse import charts, figures
from dse.breakdown import Breakdown, break_down
from dse.csv_rows import read_rows
from dse.front_table import Front, answer_words, read_front
from dse.page import embed, folded, json_lines, lead, provenance, timing
from dse.pick import knee_index
from dse.report_tables import (
    accuracy_notes,
    design_card,
    front_table,
    gap_table,
    shown,
    summary,
    table,
    tiles,
)
from dse.rundir import ANSWERS_FILE, DESIGNS, FRONT_FILE, REPORT_FILE, RunDir, write_atomically

Pictures = dict[str, str]  # name of a figure -> its caption
ANSWERED = {
    "validation_accuracy": "Validation",
    "test_accuracy": "Test",
    "io_bytes": "IO traffic",
    "energy_pj": "Energy",
    "latency_s": "Latency",
    "area_mm2": "Area [mm²]",
}
"""What the report says of a design that answers a request."""


def write_report(
    run_dir: str | Path, *, evaluate: Callable[[Path], Breakdown] = break_down
) -> list[Path]:
    """Draw the figures of a finished run and write its ``report.html``.

    Args:
        run_dir: A run directory with ``front.csv``.
        evaluate: Gives the costs of a design layer by layer from the design's file.

    Returns:
        The files written, ``report.html`` first.

    Raises:
        InputError: The run has no front yet, or one of its files is damaged.
    """
    run = RunDir(Path(run_dir))
    run.require_run()
    front = read_front(run.path / FRONT_FILE)
    knee = front.ids[knee_index(front.rows)]
    shown = {
        design: evaluate(run.designs / f"{design}.yaml") for design in _worth_showing(front, knee)
    }
    metrics = json_lines(run.path / "metrics.jsonl")
    run.figures.mkdir(exist_ok=True)
    drawn = _draw(run.figures, front, knee, shown, metrics)
    page = _page(run, front, knee, shown, drawn)
    write_atomically(run.path / REPORT_FILE, page.encode())
    return [run.path / REPORT_FILE, *(run.figures / f"{name}.png" for name in drawn)]


def _worth_showing(front: Front, knee: str) -> list[str]:
    """The knee, the design with the least traffic and the most accurate one."""
    accuracy = front.values("validation_accuracy")
    ends = (
        min(range(len(front)), key=front.values("io_bytes").__getitem__),
        max(range(len(front)), key=accuracy.__getitem__),
    )
    return list(dict.fromkeys([knee, *(front.ids[i] for i in ends)]))


def _draw(
    folder: Path,
    front: Front,
    knee: str,
    shown: Mapping[str, Breakdown],
    metrics: Sequence[Mapping[str, object]],
) -> Pictures:
    """Draw every figure there are data for, and remove pictures of an earlier front."""
    cores = shown[knee].cores
    wanted: dict[str, tuple[Any, str]] = {}
    for x, y in _pairs(front):
        name = f"front_{_stem(y)}_{_stem(x)}"
        wanted[name] = figures.draw_front(front, x, y, knee), "The front in two objectives."
    wanted["choices"] = (
        figures.draw_choices(front, knee, cores, shown[knee].channels),
        "Bottleneck widths (all channels: the tensor crosses uncompressed, without a pair), the "
        "core of each layer and the hardware of each core type. Designs stand in order of IO "
        "traffic; the chosen one is marked.",
    )
    if front.energy_parts:
        wanted["energy"] = (
            figures.draw_energy_along_front(front, knee),
            "Energy per inference by part, absolute and as shares; the chosen design is marked.",
        )
    wanted["accuracies"] = (
        figures.draw_accuracies(front, knee),
        "Wilson intervals; the chosen design is marked.",
    )
    wanted["chip"] = (
        figures.draw_chip(shown[knee]),
        "The chosen design on its chip: bytes per inference on each link, and between each core "
        "and DRAM (weights, what spills, input and output of the network).",
    )
    wanted["schedule"] = (
        figures.draw_gantt(shown[knee]),
        "Several inputs at once on the chosen design: every core takes the oldest that is ready; "
        "at a dashed line one is done. Reduce and expand layers of active bottlenecks are layers "
        "like any other.",
    )
    for number, (design, breakdown) in enumerate(shown.items()):
        caption = f"Energy and time of each layer of {design}; links and idle power stand apart."
        wanted[f"layers_{number}"] = figures.draw_layers(breakdown), caption
    wanted["rounding"] = (
        figures.draw_rounding(front),
        "One point per design; the bar is the median. Costs: the discrete, polished design against "
        "the extended value that steered the optimizer, far apart where the polish moved a layer. "
        "Accuracy: same weights, same pictures. Assignments are compared with the exact optimum "
        "over contiguous ones: one that returns to a core may beat it, by far where its weights "
        "then stay on the chip, and is below zero. "
        "Hardware: the rounded one against what the search on its grid ends at.",
    )
    wanted["training"] = (
        figures.draw_training(metrics),
        "What each phase logged. Thin: raw values; thick: moving mean.",
    )
    kept = {name: pair for name, pair in wanted.items() if pair[0] is not None}
    for stale in folder.glob("*.png"):
        if stale.stem not in kept:
            stale.unlink()
    for name, (figure, _) in kept.items():
        figures.save(figure, folder / f"{name}.png")
    return {name: caption for name, (_, caption) in kept.items()}


def _page(
    run: RunDir, front: Front, knee: str, shown: Mapping[str, Breakdown], drawn: Pictures
) -> str:
    config = strict_yaml.load(run.config_file)
    config = config if isinstance(config, dict) else {}
    divs = {f"chart-{_stem(y)}-{_stem(x)}": (x, y) for x, y in _pairs(front)}
    count = "1 design" if len(front) == 1 else f"{len(front)} designs"
    template = Template(
        resources.files("dse").joinpath("report_template.html").read_text(encoding="utf-8")
    )
    return template.substitute(
        title=html.escape(f"{config.get('name', 'A run')}: {count}"),
        lead=lead(config),
        summary=html.escape(summary(front, knee) if divs else _asked(config)),
        tiles=tiles(front, knee),
        body=_body(run, front, knee, shown, drawn, divs),
        library=charts.library() if divs else "",
        ids=_script_json(list(front.ids)),
        charts=_script_json(list(divs)),
        chosen=_script_json(knee),
        selected_trace=charts.SELECTED_TRACE,
        points_trace=charts.POINTS_TRACE,
    )


def _body(
    run: RunDir,
    front: Front,
    knee: str,
    shown: Mapping[str, Breakdown],
    drawn: Pictures,
    divs: Mapping[str, tuple[str, str]],
) -> str:
    def picture(name: str) -> str:
        return embed(run.figures / f"{name}.png", drawn[name]) if name in drawn else ""

    design = html.escape(knee)
    take = (
        f"<p>To take it: <code>dse export RUN --pick {design} --out DIR</code>; its file is "
        f'<a href="{DESIGNS}/{design}.yaml">{DESIGNS}/{design}.yaml</a>.</p>'
    )
    plots = [charts.chart(front, x, y, knee, div) for div, (x, y) in divs.items()]
    cards = "".join(design_card(front, row, knee) for row in front.rows)
    others = "".join(picture(f"layers_{number}") for number in range(1, len(shown)))
    surface = [
        _section(
            "The surface",
            "Every point is a discrete design: integer widths, one core per layer, hardware sizes "
            "on their grid. Hover for the design, click to select it; the knee is selected at "
            "first. Bars are 95 % Wilson intervals.",
            '<div class="grid">'
            + "".join(f"<div>{plot}</div>" for plot in plots)
            + f"<div>{cards}</div></div>",
        ),
        _section(
            "All designs",
            "Costs are exact costs of the discrete design and equal what evaluating its file alone "
            "gives. IO traffic is link traffic plus DRAM traffic. Click a heading to sort.",
            front_table(front, knee),
        ),
    ]  # fmt: skip
    nearest = (
        "The knee: nearest to the best accuracy, traffic and energy of the whole front at "
        "once, each scaled to its range over the front (costs as logarithms)."
    )
    sections = [
        *(surface if divs else [_section("The design", "", cards)]),
        _section(
            "Asked for by name",
            "With a preference, its own design; with budgets alone, the most accurate on "
            "validation pictures of all that keep them.",
            _answers(run, front),
        ),
        _section(
            "What changes along the front" if divs else "What was chosen",
            "",
            picture("choices") + picture("energy"),
        ),
        _section(
            f"The chosen design, {knee}" if divs else "On its chip",
            nearest if divs else "",
            take
            + picture("chip")
            + picture("schedule")
            + picture("layers_0")
            + folded("The ends of the front, layer by layer", others),
        ),
        _section(
            "How sure the accuracies are", "", picture("accuracies") + accuracy_notes(front, knee)
        ),
        _section(
            "What rounding cost, and how near the optimum",
            "The optimizer is steered by extended costs and rounded widths at random; what is "
            "reported is the discrete design. The difference is a result, not a claim.",
            picture("rounding") + gap_table(front),
        ),
        _section("Training", "", picture("training") + timing(run)),
        _section(
            "Files of the run",
            "Links work where the page stands in its run directory.",
            _files(run),
        ),
        _section("To do it again", "", provenance(run)),
    ]  # fmt: skip
    return "\n".join(sections)


def _pairs(front: Front) -> list[tuple[str, str]]:
    """Objectives that are drawn against one another; one design alone is no surface."""
    return list(charts.PAIRS) if len(front) > 1 else []


def _asked(config: Mapping[str, Any]) -> str:
    """What `method: joint` was asked for, in one sentence."""
    joint = config.get("joint") or {}
    limits = [f"{k} at most {v:g}" for k, v in joint.get("budget", {}).items() if v is not None]
    weights = [f"{k} {v:g}" for k, v in joint.get("preference", {}).items() if v]
    asked = [", ".join(limits)] * bool(limits)
    asked += [f"with the weights {', '.join(weights)}"] * bool(weights)
    return f"One design, asked for: {'; '.join(asked)}." if asked else "One design."


def _section(title: str, text: str, content: str) -> str:
    if not content:
        return ""
    paragraph = f"<p>{html.escape(text)}</p>" if text else ""
    return f"<section><h2>{html.escape(title)}</h2>{paragraph}{content}</section>"


def _answers(run: RunDir, front: Front) -> str:
    """The designs that answer the experiment's requests, and what they cost."""
    if not (run.path / ANSWERS_FILE).exists():
        return ""
    columns = [name for name in ANSWERED if front.has(name)]
    rows = []
    for answer in read_rows(run.path / ANSWERS_FILE):
        found = front.row(answer["id"]) if answer["id"] else None
        cells = [shown(name, found[name]) if found else "" for name in columns]
        rows.append([answer["request"], answer_words(answer), *cells])
    return table(["Request", "Design", *(ANSWERED[name] for name in columns)], rows)


def _files(run: RunDir) -> str:
    """What else the run directory holds, as links relative to the page."""
    said = {
        ANSWERS_FILE: "which design answers each request",
        FRONT_FILE: "every design with all its columns",
        DESIGNS: "each design as YAML, and its weights",
        run.figures.name: "the pictures of this page as PNG",
        run.config_file.name: "the resolved configuration",
        "metrics.jsonl": "what each phase logged",
        "timing.jsonl": "all wall-clock figures",
    }
    rows = "".join(
        f'<tr><td><a href="{name}">{name}</a></td><td class="text wrap">{text}</td></tr>'
        for name, text in said.items()
        if (run.path / name).exists()
    )
    return f'<div class="scroll"><table class="plain">{rows}</table></div>'


def _script_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _stem(column: str) -> str:
    return {"validation_accuracy": "accuracy", "io_bytes": "io", "energy_pj": "energy"}[column]
