"""Figures of a whole front: its objectives, its energy, its choices, its rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter
from matplotlib.transforms import ScaledTranslation

from dse.figures.style import (
    ACCENT,
    COSTS,
    INK,
    PALETTE,
    QUIET,
    TEST,
    core_colors,
    core_legend,
    log_axis,
    new_figure,
    part_colors,
    styled,
    words,
)
from dse.front_table import Front, knob_size

LINEAR = 20.0  # an axis of changes is linear up to so many per cent where some are far larger


@styled
def draw_front(front: Front, x: str, y: str, chosen: str) -> Figure:
    """The front in two of its objectives; the third one is the colour, one design is marked.

    Args:
        front: The designs.
        x: Column of the horizontal axis, one of ``COSTS``.
        y: ``validation_accuracy`` or one of ``COSTS``.
        chosen: Id of the design to mark.
    """
    figure, (axes,) = new_figure(7.0, 4.3)
    third = next(c for c in ("energy_pj", "io_bytes", "validation_accuracy") if c not in (x, y))
    xs, ys, colors = (np.array(_shown(front, column)) for column in (x, y, third))
    if y == "validation_accuracy":
        offset = axes.transData + ScaledTranslation(4 / 72, 0, figure.dpi_scale_trans)
        if front.has("test_accuracy", "test_low", "test_high"):
            _intervals(axes, front, xs, "test", TEST, transform=offset)
            axes.scatter(
                xs, _shown(front, "test_accuracy"), s=22, marker="D", facecolors="white",
                edgecolors=TEST, linewidths=1.1, transform=offset, zorder=3, 
                label="test (read once)",
            )  # fmt: skip
        if front.has("validation_low", "validation_high"):
            _intervals(axes, front, xs, "validation", "#4a5663")
        axes.set_ylabel("Accuracy with 95 % interval [%]")
        axes.set_ylim(_limits(front))
    else:
        axes.set_yscale("log")
        log_axis(axes.yaxis, ys, COSTS[y])
    points = axes.scatter(
        xs, ys, c=colors, s=52, cmap="cividis", edgecolors=INK, linewidths=0.6, zorder=4,
        norm=Normalize() if third == "validation_accuracy" else LogNorm(),
        label="validation (selected on it)" if y == "validation_accuracy" else "design",
    )  # fmt: skip
    place = front.ids.index(chosen)
    axes.scatter(
        xs[place], ys[place], s=190, facecolors="none", edgecolors=ACCENT, linewidths=2.2, zorder=5,
        label=f"chosen: {chosen}",
    )  # fmt: skip
    axes.set_xscale("log")
    log_axis(axes.xaxis, xs, COSTS[x])
    bar = figure.colorbar(points, ax=axes, pad=0.02, aspect=32)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if third == "validation_accuracy":
        bar.set_label("Validation accuracy [%]")
    else:
        log_axis(bar.ax.yaxis, colors, COSTS[third])
    bar.ax.grid(False)
    # nothing lies where a design costs most and knows least
    where = "lower right" if y == "validation_accuracy" else "best"
    axes.legend(loc=where, handletextpad=0.4)
    title = f"{_short(y)} against {_short(x)}, {len(front)} designs"
    axes.set_title(title[0].upper() + title[1:])
    return figure


@styled
def draw_energy_along_front(front: Front, chosen: str) -> Figure:
    """Where the energy goes in each design, absolute and as shares, in order of IO traffic."""
    figure, (top, bottom) = new_figure(max(7.0, 0.34 * len(front) + 2.6), 5.4, 2, 1, sharex=True)
    parts = front.energy_parts
    colors = part_colors(parts)
    x = np.arange(len(front))
    values = {part: np.nan_to_num(front.values(column)) * 1e-12 for part, column in parts.items()}
    total = np.sum(list(values.values()), axis=0)
    for axes, scale in ((top, np.ones(len(front))), (bottom, 100 / np.where(total > 0, total, 1))):
        base = np.zeros(len(front))
        for part, energy in values.items():
            axes.bar(
                x, energy * scale, bottom=base, color=colors[part], width=0.78, label=words(part)
            )
            base = base + energy * scale
        axes.grid(axis="x", visible=False)
    top.yaxis.set_major_formatter(EngFormatter(unit="J"))
    top.set_ylabel("Energy per inference")
    top.set_title("Where the energy goes, from least to most IO traffic")
    handles, labels = top.get_legend_handles_labels()
    top.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0))
    bottom.set_ylabel("Share [%]")
    bottom.set_ylim(0, 100)
    _design_ticks(bottom, front, chosen)
    return figure


@styled
def draw_choices(
    front: Front, chosen: str, cores: Sequence[str], channels: Mapping[str, int] | None = None
) -> Figure:
    """Widths, cores and hardware of every design along the front.

    Args:
        front: The designs.
        chosen: Id of the design to mark.
        cores: The chip's cores, in the order that gives them their colours.
        channels: Of each boundary, where known.
    """
    counts = [len(front.boundaries), len(front.layers), len(front.knobs)]
    kept = [i for i, count in enumerate(counts) if count]
    figure, panels = new_figure(
        max(7.4, 0.36 * len(front) + 3.0),
        0.25 * sum(counts) + 0.45 * len(kept) + 1.0,
        len(kept),
        1,
        sharex=True,
        height_ratios=[counts[i] for i in kept],
    )
    draws = (
        partial(_width_cells, channels=channels or {}),
        partial(_core_cells, cores=cores),
        _knob_cells,
    )
    for axes, i in zip(panels, kept, strict=True):
        draws[i](axes, front)
        axes.set_xticks(np.arange(-0.5, len(front)), minor=True)
        axes.set_yticks(np.arange(-0.5, counts[i]), minor=True)
        axes.grid(False)
        axes.grid(which="minor", color="white", lw=1.2)
        axes.tick_params(which="both", length=0)
        axes.tick_params(axis="y", labelsize=7.5)
        axes.spines[:].set_visible(False)
    _design_ticks(panels[-1], front, chosen)
    return figure


def _change(now: Sequence[float], before: Sequence[float]) -> np.ndarray:
    """Relative changes; 0 where nothing became nothing, NaN where nothing became something."""
    new, old = np.array(now), np.array(before)
    without = np.where(new == old, 0.0, np.nan)
    return np.divide(new - old, old, out=without, where=old != 0)


@styled
def draw_rounding(front: Front) -> Figure | None:
    """What rounding and polishing changed, design by design; None where nothing was recorded."""
    costs = [c for c in front.relaxed if c in COSTS and c != "interval_s"]
    names = ("assignment_gap_before", "assignment_gap_after", "proved_gap_before")
    gaps = [c for c in (*names, "proved_gap_after", "hardware_gap") if front.has(c)]
    if not costs and not gaps:
        return None
    groups: list[tuple[str, str, dict[str, np.ndarray]]] = []
    if costs:
        change = {
            words(c): 100 * _change(front.values(c), front.values(f"relaxed_{c}")) for c in costs
        }
        groups.append(("Costs", "discrete / extended − 1 [%]", change))
    if "validation_accuracy" in front.relaxed:
        before = np.array(front.values("relaxed_validation_accuracy"))
        points = 100 * (np.array(front.values("validation_accuracy")) - before)
        groups.append(("Accuracy", "change [points]", {"validation": points}))
    if gaps:
        excess = {words(c): 100 * np.array(front.values(c)) for c in gaps}
        groups.append(("Optimality gaps", "excess objective [%]", excess))
    figure, panels = new_figure(
        9.6, 4.0, 1, len(groups), width_ratios=[max(1.8, len(columns)) for _, _, columns in groups]
    )
    for axes, (title, label, columns) in zip(panels, groups, strict=True):
        for i, values in enumerate(columns.values()):
            jitter = 0.16 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1)
            axes.scatter(i + jitter, values, s=20, color=PALETTE[0], alpha=0.75, lw=0, zorder=3)
            if np.isfinite(values).any():
                axes.plot(
                    [i - 0.26, i + 0.26], [np.nanmedian(values)] * 2, color=ACCENT, lw=2, zorder=4
                )
        axes.axhline(0, color=QUIET, lw=0.9)
        worst = max(np.nanmax(np.abs(v), initial=0.0) for v in columns.values())
        if worst > 5 * LINEAR:
            axes.set_yscale("symlog", linthresh=LINEAR)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            label += f", linear to ±{LINEAR:g}"
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_xlim(-0.6, len(columns) - 0.4)
        axes.grid(axis="x", visible=False)
        axes.set_title(title)
        axes.set_ylabel(label)
    return figure


def _shown(front: Front, column: str) -> list[float]:
    """A column in the unit it is drawn in: percent, or the SI unit of ``COSTS``."""
    factor = 100.0 if column not in COSTS else COSTS[column][1]
    return [factor * value for value in front.values(column)]


def _intervals(
    axes: Axes, front: Front, x: np.ndarray, split: str, color: str, **options: Any
) -> None:
    low, middle, high = (
        np.array(_shown(front, f"{split}_{end}")) for end in ("low", "accuracy", "high")
    )
    axes.errorbar(
        x, middle, yerr=[np.maximum(middle - low, 0), np.maximum(high - middle, 0)],
        fmt="none", ecolor=color, elinewidth=1.0, alpha=0.75, zorder=2, **options,
    )  # fmt: skip


def _limits(front: Front) -> tuple[float, float]:
    """Lowest and highest end of all accuracies' intervals with a margin [%]."""
    ends = [
        value
        for column in front.columns
        if column.startswith(("validation_", "test_"))
        and column.endswith(("accuracy", "low", "high"))
        for value in _shown(front, column)
        if np.isfinite(value)
    ]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _design_ticks(axes: Axes, front: Front, chosen: str) -> None:
    axes.set_xticks(range(len(front)), front.ids, rotation=90, fontsize=7.5)
    label = axes.get_xticklabels()[front.ids.index(chosen)]
    label.set_color(ACCENT)
    label.set_fontweight("bold")


def _short(column: str) -> str:
    return {"validation_accuracy": "accuracy", "io_bytes": "IO traffic", "energy_pj": "energy"}[
        column
    ]


def _width_cells(axes: Axes, front: Front, channels: Mapping[str, int]) -> None:
    table = np.array([front.values(f"width_{b}") for b in front.boundaries])
    active = np.ones_like(table)
    for i, boundary in enumerate(front.boundaries):
        if front.has(f"crossing_{boundary}"):
            active[i] = front.values(f"crossing_{boundary}")
    widest = max(2.0, float(np.nanmax(table)))
    shown = np.where(active > 0, table, np.nan)
    axes.imshow(shown, aspect="auto", cmap="cividis", norm=LogNorm(1, widest))
    for (i, j), width in np.ndenumerate(table):
        if active[i, j] <= 0:
            text, ink = "·", QUIET
        else:
            text, ink = f"{width:.0f}", INK if width**2 > widest else "white"
        axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=ink)
    names = [f"{b}, of {channels[b]}" if b in channels else b for b in front.boundaries]
    axes.set_yticks(range(len(names)), names)
    axes.set_title("Channels that cross (· stays on one core)")


def _core_cells(axes: Axes, front: Front, cores: Sequence[str]) -> None:
    colors = core_colors(cores)
    rgb = [
        [to_rgb(colors[str(row[f"core_{layer}"])]) for row in front.rows] for layer in front.layers
    ]
    axes.imshow(np.array(rgb), aspect="auto")
    axes.set_yticks(range(len(front.layers)), front.layers)
    axes.set_title("Core that runs each layer")
    core_legend(axes, colors)


def _knob_cells(axes: Axes, front: Front) -> None:
    table = np.array([front.values(f"knob_{knob}") for knob in front.knobs])
    low, high = table.min(1, keepdims=True), table.max(1, keepdims=True)
    axes.imshow(
        (table - low) / np.where(high > low, high - low, 1), aspect="auto", cmap="Blues", vmax=2.2
    )
    for (i, j), value in np.ndenumerate(table):
        text = knob_size(front.knobs[i], value)
        axes.text(j, i, text, ha="center", va="center", fontsize=6.5)
    axes.set_yticks(range(len(front.knobs)), [knob.replace("_", " ") for knob in front.knobs])
    one = (table == table[:, :1]).all() and len(front) > 1
    what = "the same for all designs" if one else "darker is larger in its row"
    axes.set_title(f"Hardware of each core type ({what})")
