"""Interactive scatter plots of a front for the report: the only module that imports plotly."""

from __future__ import annotations

import html
import math

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dse.front_table import Front, Row, number
from dse.report_tables import shown

INK, QUIET, GRID, ACCENT, TEST = "#1d2733", "#6b7785", "#e8ecf0", "#d55e00", "#8a95a3"
_TITLES = {
    "validation_accuracy": "Accuracy [%]",
    "io_bytes": "IO traffic per inference",
    "energy_pj": "Energy per inference",
}
PAIRS = (
    ("io_bytes", "validation_accuracy"),
    ("energy_pj", "validation_accuracy"),
    ("io_bytes", "energy_pj"),
)
SELECTED_TRACE = 0
POINTS_TRACE = 1


def library() -> str:
    """The whole of plotly.js, to be written into a page once."""
    return get_plotlyjs()


def chart(front: Front, x: str, y: str, chosen: str, div: str) -> str:
    """One pair of objectives as a ``div`` with its script; hover shows the design.

    Traces: the ring around the selected design, validation (or the designs), and test where y is an
    accuracy.

    Args:
        front: The designs.
        x: Column on the horizontal axis.
        y: Column on the vertical axis.
        chosen: Id of the design that is selected at first.
        div: Element id; a fixed one keeps the report's bytes fixed.
    """
    third = next(column for column in _TITLES if column not in (x, y))
    xs, ys, colors = (_shown(front, column) for column in (x, y, third))
    accurate = y == "validation_accuracy"
    place = front.ids.index(chosen)
    traces = [
        go.Scatter(
            x=[xs[place]],
            y=[ys[place]],
            mode="markers",
            name="selected (at first the knee)",
            hoverinfo="skip",
            marker={
                "size": 22,
                "color": "rgba(0,0,0,0)",
                "line": {"color": ACCENT, "width": 2.5},
            },
        ),
        go.Scatter(
            x=xs,
            y=ys,
            mode="markers",
            showlegend=False,
            name="validation" if accurate else "design",
            text=[hover_text(front, row) for row in front.rows],
            hovertemplate="%{text}<extra></extra>",
            error_y=_bars(front, "validation", INK) if accurate else None,
            marker={
                "size": 11,
                "color": colors if third == "validation_accuracy" else _logs(colors),
                "colorscale": "Cividis",
                "line": {"color": INK, "width": 0.8},
                "colorbar": {
                    "title": {"text": _TITLES[third], "side": "right"},
                    **_ticks(third, colors, of_color=True),
                    "thickness": 10,
                    "outlinewidth": 0,
                },
            },
        ),
    ]
    if accurate and front.has("test_accuracy", "test_low", "test_high"):
        traces.append(
            go.Scatter(
                x=xs,
                y=[100 * value for value in front.values("test_accuracy")],
                mode="markers",
                name="test",
                text=[hover_text(front, row) for row in front.rows],
                hovertemplate="%{text}<extra></extra>",
                error_y=_bars(front, "test", TEST),
                marker={
                    "size": 8,
                    "symbol": "diamond",
                    "color": "white",
                    "line": {"color": TEST, "width": 1.4},
                },
            )
        )
    traces.append(  # what stands in the legend: points are coloured by the third objective
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            name="validation" if accurate else "design",
            hoverinfo="skip",
            marker={"size": 11, "color": "#7d7f7c", "line": {"color": INK, "width": 0.8}},
        )
    )
    figure = go.Figure(traces)
    figure.update_layout(
        template="none",
        margin={"l": 66, "r": 8, "t": 30, "b": 50},
        height=390,
        font={
            "family": "system-ui, -apple-system, 'Segoe UI', sans-serif",
            "color": INK,
            "size": 12,
        },
        hoverlabel={
            "bgcolor": "white",
            "bordercolor": QUIET,
            "font": {"color": INK},
            "align": "left",
        },
        legend={"orientation": "h", "y": 1.1, "x": 0, "itemclick": False, "itemdoubleclick": False},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    for axis, column in (("xaxis", x), ("yaxis", y)):
        values = xs if axis == "xaxis" else ys
        figure.update_layout({
            axis: {
                "title": {"text": _TITLES[column]},
                "type": "linear" if column == "validation_accuracy" else "log",
                **_ticks(column, values),
                "gridcolor": GRID,
                "zeroline": False,
                "linecolor": QUIET,
                "automargin": True,
            }
        })  # fmt: skip
    config = {"displayModeBar": False, "responsive": True}
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=div, config=config)


def hover_text(front: Front, row: Row) -> str:
    """What a point says of its design, escaped for plotly's markup."""

    def value(column: str) -> str:
        return shown(column, row[column]) if column in row else "not known"

    lines = [f"<b>{_safe(row['id'])}</b>"]
    for split in ("validation", "test"):
        if f"{split}_accuracy" in row:
            low, high = number(row, f"{split}_low"), number(row, f"{split}_high")
            lines.append(
                f"{split} {value(f'{split}_accuracy')} ({100 * low:.1f} to {100 * high:.1f})"
            )
    lines.append(
        f"IO {value('io_bytes')} ({value('link_bytes')} links, {value('dram_bytes')} DRAM)"
    )
    lines.append(f"energy {value('energy_pj')}, latency {value('latency_s')}")
    if front.boundaries:
        widths = ", ".join(
            shown("", row[f"width_{b}"]) if row.get(f"crossing_{b}", 1) else "·"
            for b in front.boundaries
        )
        lines.append(f"channels crossing {widths}")
    counts = {
        core: sum(row[f"core_{layer}"] == core for layer in front.layers) for core in front.cores
    }
    used = [f"{_safe(core)} {count}" for core, count in counts.items() if count]
    # A wide box would not fit into its chart: two cores a line, the names of layers by a click.
    for start in range(0, len(used), 2):
        lines.append(("layers on " if start == 0 else "") + ", ".join(used[start : start + 2]))
    return "<br>".join(lines)


def _safe(value: object) -> str:
    return html.escape(str(value), quote=True)


def _shown(front: Front, column: str) -> list[float]:
    factor = 100.0 if column == "validation_accuracy" else 1.0
    return [factor * value for value in front.values(column)]


def _logs(values: list[float]) -> list[float]:
    return [math.log10(max(value, 1e-30)) for value in values]


def _ticks(column: str, values: list[float], *, of_color: bool = False) -> dict[str, object]:
    """Tick places and labels of a cost; an accuracy keeps plotly's own.

    On a logarithmic axis ticks stand at 1, 2 and 5 times powers of ten, or evenly where the values
    span too little for three of those.
    """
    low, high = min(values), max(values)
    if column == "validation_accuracy" or low <= 0:
        return {}
    places = (
        [low]
        if low == high
        else [
            digit * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for digit in (1, 2, 5)
            if 0.9 * low <= digit * 10.0**power <= 1.1 * high
        ]
    )
    if low < high and len(places) < 3:
        power = 10.0 ** math.floor(math.log10((high - low) / 4))
        step = next(d * power for d in (1, 2, 5, 10) if d * power >= (high - low) / 5)
        places = [i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
        places = [place for place in places if place > 0]
    return {
        "tickmode": "array",
        # A colour scale is linear, so it is given logarithms.
        "tickvals": _logs(places) if of_color else places,
        "ticktext": [shown(column, place) for place in places],
    }


def _bars(front: Front, split: str, color: str) -> dict[str, object]:
    low, middle, high = (
        front.values(f"{split}_{end}") if front.has(f"{split}_{end}") else [0.0] * len(front)
        for end in ("low", "accuracy", "high")
    )
    return {
        "type": "data",
        "array": [100 * max(h - m, 0.0) for h, m in zip(high, middle, strict=True)],
        "arrayminus": [100 * max(m - k, 0.0) for k, m in zip(low, middle, strict=True)],
        "color": color,
        "thickness": 0.9,
        "width": 0,
    }
