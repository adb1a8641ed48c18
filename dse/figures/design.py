"""Figures of one design: its layers, its chip, its schedule."""

from __future__ import annotations

import itertools
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from dse.breakdown import Breakdown
from dse.figures.style import (
    ACCENT,
    HAIR,
    INK,
    PALETTE,
    QUIET,
    core_colors,
    new_figure,
    part_colors,
    styled,
    words,
)

Point = tuple[float, float]

_LISTED = 12  # layers named in a core's box before "and n more"
_BOX_WIDTH = 2.1  # [inches]
_GAP = 0.85  # between boxes [inches]


@styled
def draw_layers(design: Breakdown, name: str | None = None) -> Figure:
    """Energy of each layer by part, and how long it keeps its core, for one design.

    Args:
        design: the design.
        name: what the title calls it; by default the design and its id.
    """
    rows = design.layers
    figure, (left, right) = new_figure(
        8.6, 0.27 * len(rows) + 1.5, 1, 2, sharey=True, width_ratios=(2.2, 1)
    )
    parts = list(dict.fromkeys(part for row in rows for part in row.energy_pj))
    colors, by_core = part_colors(parts), core_colors(design.cores)
    y, base = np.arange(len(rows)), np.zeros(len(rows))
    for part in parts:
        energy = np.array([row.energy_pj.get(part, 0.0) for row in rows]) * 1e-12
        left.barh(y, energy, left=base, color=colors[part], height=0.74, label=words(part))
        base = base + energy
    right.barh(y, [row.time_s for row in rows], color=[by_core[r.core] for r in rows], height=0.74)
    left.set_yticks(y, [row.name for row in rows])
    left.invert_yaxis()
    left.set_title(f"{name or f'Design {design.id}'}: energy by layer")
    left.set_xlabel("Energy per inference")
    left.xaxis.set_major_formatter(EngFormatter(unit="J"))
    right.set_title("Time on its core")
    right.set_xlabel("Time per inference")
    right.xaxis.set_major_formatter(EngFormatter(unit="s"))
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5 if axes is left else 2))
    used = {row.core for row in rows}
    blank = [Patch(color="none", label=label) for label in ("Energy in", " ", "Time on")]
    right.legend(
        handles=[
            blank[0],
            *(Patch(color=colors[part], label=words(part)) for part in parts),
            *blank[1:],
            *(Patch(color=color, label=core) for core, color in by_core.items() if core in used),
        ],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
    return figure


@styled
def draw_chip(design: Breakdown) -> Figure:
    """The chip with its layers on its cores and the bytes per inference on its links."""
    lines = min(max(len(design.on_core(core)) for core in design.cores), _LISTED)
    box = (_BOX_WIDTH, 0.72 + 0.165 * lines)
    pitch = (box[0] + _GAP, box[1] + _GAP)
    places = _places(design)
    columns, rows = (1 + max(place[i] for place in places.values()) for i in (0, 1))
    corner = {c: (x * pitch[0], -y * pitch[1]) for c, (x, y) in places.items()}
    # A bus has its hub where rows leave room in the middle, else under them.
    hub_below = rows % 2 == 1 and any(len(link.cores) > 2 for link in design.links)
    width = columns * pitch[0] - _GAP + 0.2
    height = rows * pitch[1] - _GAP + 0.2 + (_GAP if hub_below else 0.0)
    figure, (axes,) = new_figure(width, height + 0.35)
    axes.set(xlim=(-0.1, width - 0.1), ylim=(0.1 - height, 0.1), aspect="equal")
    axes.set_axis_off()
    bus_y = 0.1 - height + _GAP / 2 if hub_below else _GAP / 2 - pitch[1] * rows / 2
    most = max((link.traffic_bytes for link in design.links), default=0.0) or 1.0
    middle = {core: (x + box[0] / 2, y - box[1] / 2) for core, (x, y) in corner.items()}
    # The port of a die stands under the first core of its column.
    for port, cores in _dies(design).items():
        x, y = middle[cores[0]]
        middle[port] = (x, y - pitch[1] / 2)
    for link in design.links:
        thickness = 0.8 + 3.2 * link.traffic_bytes / most
        ends = [middle[core] for core in link.cores]
        ports = [middle[node] for node in link.cores if node not in corner]
        hub = ports[0] if len(ends) > 2 and ports else _hub(ends, bus_y)
        for end in ends:
            axes.plot(
                [hub[0], end[0]], [hub[1], end[1]], lw=thickness, zorder=1,
                color=QUIET if link.traffic_bytes else HAIR,
            )  # fmt: skip
        label = EngFormatter(unit="B")(link.traffic_bytes)
        if len(ends) > 2:
            label = f"{link.name}\n{label}"
        axes.text(
            *hub, label, ha="center", va="center", zorder=6,
            fontsize=7.6, color=INK if link.traffic_bytes else QUIET,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
    for core, color in core_colors(design.cores).items():
        _core_box(axes, design, core, corner[core], box, color)
    axes.set_title(f"Design {design.id}: traffic per inference on links and with DRAM")
    return figure


def _hub(ends: list[Point], bus_y: float) -> Point:
    """Where a link shows its bytes: between two cores, or at the middle of a bus."""
    if len(ends) > 2:
        return sum(x for x, _ in ends) / len(ends), bus_y
    (x0, y0), (x1, y1) = ends
    # Crossing diagonals would otherwise show their figures on top of one another.
    share = 0.5 if x0 == x1 or y0 == y1 else 0.44
    return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _dies(design: Breakdown) -> dict[str, list[str]]:
    """Port of each die -> the cores on its bus."""
    known = set(design.cores)
    return {
        port: [core for core in link.cores if core in known]
        for link in design.links
        if len(link.cores) > 2
        for port in set(link.cores) - known
    }


def _places(design: Breakdown) -> dict[str, tuple[int, int]]:
    """Column and row of each core: of some grids, in rows or in a snake, that of shortest links.

    The cores of a die with a port stand in one column.
    """
    if dies := list(_dies(design).values()):
        inside = {core for die in dies for core in die}
        columns = [*dies, *([core] for core in design.cores if core not in inside)]
        columns.sort(key=lambda die: design.cores.index(die[0]))
        return {core: (x, y) for x, die in enumerate(columns) for y, core in enumerate(die)}
    count = len(design.cores)
    square = math.ceil(math.sqrt(count))
    grids = [square, *(n for n in range(2, min(count, 6) + 1) if count % n == 0 and n != square)]
    options = []
    for columns in grids:
        plain = {core: (i % columns, i // columns) for i, core in enumerate(design.cores)}
        snake = {c: (columns - 1 - x if y % 2 else x, y) for c, (x, y) in plain.items()}
        options += [plain, snake]

    def length(places: dict[str, tuple[int, int]]) -> float:
        chains = [[core for core in link.cores if core in places] for link in design.links]
        return sum(
            math.dist(places[a], places[b]) for c in chains for a, b in itertools.pairwise(c)
        )

    return min(options, key=lambda places: round(length(places), 6))


def _core_box(
    axes: Axes, design: Breakdown, core: str, corner: Point, box: Point, color: str
) -> None:
    x, y = corner
    layers = design.on_core(core)
    axes.add_patch(
        FancyBboxPatch(
            (x, y - box[1]), *box, boxstyle="round,pad=0.0,rounding_size=0.07", zorder=2,
            facecolor="white", edgecolor="none",
        )
    )  # fmt: skip
    axes.add_patch(
        FancyBboxPatch(
            (x, y - box[1]), *box, boxstyle="round,pad=0.0,rounding_size=0.07", zorder=3,
            facecolor=to_rgba(color, 0.14 if layers else 0.04),
            edgecolor=color, lw=1.6, ls="-" if layers else ":",
        )
    )  # fmt: skip
    axes.text(x + 0.1, y - 0.09, core, va="top", fontweight="bold", fontsize=9.5, zorder=4)
    names = [layer.name for layer in layers]
    hidden = len(names) - _LISTED
    listed = [*names[: _LISTED - 1], f"and {hidden + 1} more"] if hidden > 0 else names
    axes.text(
        x + 0.1, y - 0.34, "\n".join(listed) or "unused", va="top", fontsize=7.4, zorder=4,
        color=INK if names else QUIET, linespacing=1.45,
    )  # fmt: skip
    if layers:
        moved = EngFormatter(unit="B")(design.dram_bytes[core])
        axes.text(
            x + box[0] - 0.1, y - box[1] + 0.08, f"DRAM {moved}",
            va="bottom", ha="right", fontsize=7.0, color=QUIET, zorder=4,
        )  # fmt: skip


@styled
def draw_gantt(design: Breakdown) -> Figure:
    """When each layer runs for several inputs that are there at once, one line per core."""
    cores = [core for core in design.cores if design.on_core(core)]
    figure, (axes,) = new_figure(10.0, 0.6 * len(cores) + 1.4)
    inputs = range(len(design.layers[0].starts_s))
    ends_s = [max(row.starts_s[n] + row.time_s for row in design.layers) for n in inputs]
    end_s = max(ends_s)
    for number, row in itertools.product(inputs, design.layers):
        start_s = row.starts_s[number]
        y, odd = cores.index(row.core), design.on_core(row.core).index(row) % 2
        axes.barh(
            y, row.time_s, left=start_s, height=0.72, color=PALETTE[number],
            alpha=0.35 if odd else 0.55, edgecolor="white", lw=0.8,
        )  # fmt: skip
        parts = row.name.split(".")
        if row.time_s / end_s > 0.0085 * max(len(part) for part in parts):
            axes.text(
                start_s + row.time_s / 2, y, "\n".join(parts), ha="center", va="center",
                fontsize=6.5, linespacing=1.05,
            )  # fmt: skip
    for done_s in ends_s:
        axes.axvline(done_s, color=ACCENT, lw=1.2, ls="--", zorder=0.5)
    axes.set_yticks(range(len(cores)), cores)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.set_xlabel("Time since the inputs were there; dashed: one is done")
    last, again = (EngFormatter(unit="s", places=2)(v) for v in (end_s, design.costs["interval_s"]))
    axes.set_title(
        f"Design {design.id}: {len(inputs)} inputs take {last}; in the long run one every {again}"
    )
    handles = [Patch(color=PALETTE[n], alpha=0.55, label=f"input {n + 1}") for n in inputs]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
