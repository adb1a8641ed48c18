"""The look that all figures share: colours, units, sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

INK, QUIET, HAIR = "#1d2733", "#6b7785", "#dfe4ea"
ACCENT, TEST = "#d55e00", "#8a95a3"
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8a95a3")
DPI = 150
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": HAIR,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.5,
}
# column -> (label, factor to the SI unit, SI unit)
COSTS = {
    "io_bytes": ("IO traffic per inference", 1.0, "B"),
    "link_bytes": ("Link traffic per inference", 1.0, "B"),
    "dram_bytes": ("DRAM traffic per inference", 1.0, "B"),
    "energy_pj": ("Energy per inference", 1e-12, "J"),
    "latency_s": ("Latency of one inference", 1.0, "s"),
    "interval_s": ("Interval between inferences", 1.0, "s"),
    "area_mm2": ("Area [mm²]", 1.0, ""),
}


_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a drawing function under the style, leaving matplotlib's own settings as they were."""

    @functools.wraps(draw)
    def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def part_colors(parts: Iterable[str]) -> dict[str, str]:
    """A colour for each part of the energy, the same wherever that part is drawn."""
    fixed = {"mac": "#0072b2", "dram": "#d55e00", "link": "#cc79a7", "idle": "#b9c1ca"}
    levels = ("#009e73", "#e69f00", "#56b4e9", "#f0e442", "#5b7f95", "#a6761d")
    others = [part for part in parts if part not in fixed]
    return fixed | {part: levels[i % len(levels)] for i, part in enumerate(others)}


def core_colors(cores: Sequence[str]) -> dict[str, str]:
    """A colour for each core, the same wherever that core is drawn."""
    return {core: PALETTE[i % len(PALETTE)] for i, core in enumerate(cores)}


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG without anything that changes from one machine or day to the next."""
    with matplotlib.rc_context(_STYLE):
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return path


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure [inches] and its panels, row by row.

    ``options`` are ``sharex``, ``sharey``, ``width_ratios`` and ``height_ratios`` of
    ``Figure.subplots``.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.ravel())


def log_axis(axis: Axis, values: Iterable[float], cost: tuple[str, float, str]) -> None:
    """Ticks that read well on a logarithmic axis whether it spans a tenth or five decades."""
    label, _, unit = cost
    finite = [v for v in values if math.isfinite(v) and v > 0]
    span = max(finite) / min(finite) if finite else 1.0
    if span > 50:
        axis.set_major_locator(LogLocator(subs=(1.0,)))
    elif span > 4:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(
        EngFormatter(unit=unit) if unit else FuncFormatter(lambda v, _: f"{v:g}")
    )
    axis.set_label_text(label)


def words(name: str) -> str:
    """A column's or a part's name as a label."""
    if name in COSTS:
        return COSTS[name][0].removesuffix(" [mm²]").split(" per ")[0].split(" of ")[0]
    fixed = {
        "mac": "MACs",
        "dram": "DRAM",
        "link": "links",
        "idle": "idle power",
        "assignment_gap_before": "assignment\nas relaxed",
        "assignment_gap_after": "assignment\npolished",
        "proved_gap_before": "any, same\nnetwork,\nsearched",
        "proved_gap_after": "any, same\nnetwork,\nfinal",
        "hardware_gap": "hardware",
        "throughput_per_s": "throughput",
        "cores_used": "cores",
    }
    return fixed.get(name, name.replace("_", " "))


def core_legend(axes: Axes, colors: dict[str, str]) -> None:
    """Which colour is which core, to the right of the panel."""
    handles = [Patch(color=color, label=core) for core, color in colors.items()]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
