"""Tables and figures of speech of the report, as HTML: everything from a file is escaped here."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence

from dse.console import format_value
from dse.front_table import Front, Row, knob_size, number

_COSTS = {
    "io_bytes": "IO traffic",
    "link_bytes": "Links",
    "dram_bytes": "DRAM",
    "energy_pj": "Energy",
    "latency_s": "Latency",
    "interval_s": "Interval",
    "throughput_per_s": "Throughput [1/s]",
    "area_mm2": "Area [mm²]",
    "cores_used": "Cores used",
}
_GAPS = {
    "assignment_gap_before": "Assignment against the best contiguous one, as relaxed",
    "assignment_gap_after": "Assignment against the best contiguous one, polished",
    "proved_gap_before": "Assignment against the best of any that makes the same network, searched",
    "proved_gap_after": "Assignment against the best of any that makes the same network, final",
    "hardware_gap": "Objective before the search on the hardware grid, against after",
}


def shown(column: str, value: object) -> str:
    """A value in its column's unit, for a page rather than a terminal."""
    if column == "throughput_per_s" and isinstance(value, float):
        return f"{value:,.0f}"
    return format_value(column, value).replace(" u", " µ")


def table(head: Sequence[str], rows: Sequence[Sequence[object]], kind: str = "plain") -> str:
    """A table of plain text; the first column is words, the others figures."""
    heads = "".join(f"<th>{_safe(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def key_values(values: Mapping[str, object]) -> str:
    """A two-column table of names and values, nested ones written as ``outer.inner``."""
    rows = "".join(
        f'<tr><td>{_safe(key)}</td><td class="text wrap">{_safe(value)}</td></tr>'
        for key, value in _flattened(values)
    )
    return f'<div class="scroll"><table class="plain">{rows}</table></div>' if rows else ""


def tiles(front: Front, knee: str) -> str:
    """The headline figures."""
    row = front.row(knee)
    if len(front) == 1:
        return _tiles([
            (shown(c, row[c]), name)
            for c, name in {
                "validation_accuracy": "on validation pictures",
                "test_accuracy": "on test pictures",
                "io_bytes": "of IO traffic per inference",
                "energy_pj": "per inference",
                "latency_s": "for one input",
                "cores_used": "cores used",
            }.items()
            if front.has(c)
        ])  # fmt: skip
    io_bytes, energy = front.values("io_bytes"), front.values("energy_pj")
    accuracy = front.values("validation_accuracy")
    several = sum(number(r, "cores_used") >= 2 for r in front.rows)
    figures = [
        (str(len(front)), f"designs, {several} of them on two or more cores"),
        (
            f"{100 * min(accuracy):.1f}–{100 * max(accuracy):.1f} %",
            "validation accuracy over the front",
        ),
        (_ratio(io_bytes), f"in IO traffic: {_span('io_bytes', io_bytes)}"),
        (_ratio(energy), f"in energy: {_span('energy_pj', energy)}"),
        (
            f"{shown('accuracy', row['validation_accuracy'])}",
            f"the knee, {knee}: {shown('io_bytes', row['io_bytes'])} of IO and "
            f"{shown('energy_pj', row['energy_pj'])} per inference",
        ),
    ]
    if front.has("test_accuracy", "test_low", "test_high"):
        low, high = number(row, "test_low"), number(row, "test_high")
        figures.append((
            shown("accuracy", row["test_accuracy"]),
            f"the knee on test pictures, 95 % interval {100 * low:.1f} to {100 * high:.1f}",
        ))  # fmt: skip
    return _tiles(figures)


def _tiles(figures: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<div class="tile"><b>{_safe(a)}</b><span>{_safe(b)}</span></div>' for a, b in figures
    )


def summary(front: Front, knee: str) -> str:
    """What the chosen design gives up and saves against the most accurate one, in one sentence."""
    best = max(front.rows, key=lambda row: number(row, "validation_accuracy"))
    row = front.row(knee)
    accuracy = shown("accuracy", row["validation_accuracy"])
    if best["id"] == row["id"]:
        return (
            f"The chosen design, {knee} (the knee), is the most accurate: {accuracy} on validation."
        )
    lost = 100 * (number(best, "validation_accuracy") - number(row, "validation_accuracy"))
    apart = number(row, "validation_high") < number(best, "validation_low")
    sure = (
        ""
        if math.isnan(number(row, "validation_high"))
        else (", more than the 95 % intervals explain" if apart else ", within the 95 % intervals")
    )
    changes = [
        f"{_less(number(row, column), number(best, column))} {name}"
        for column, name in (("io_bytes", "IO traffic"), ("energy_pj", "energy"))
    ]
    return (
        f"The chosen design, {knee} (the knee), takes {' and '.join(changes)} than the most "
        f"accurate one, {best['id']}, and is {lost:.2f} points less accurate on validation "
        f"pictures{sure}."
    )


def _less(value: float, base: float) -> str:
    """How much less or more than a base, as a factor from two on."""
    if value <= 0 or base <= 0:
        return f"{value:g} instead of {base:g}"
    ratio = base / value
    if ratio >= 2 or ratio <= 0.5:
        return f"{max(ratio, 1 / ratio):.1f} times {'less' if ratio > 1 else 'more'}"
    return f"{abs(1 - value / base):.0%} {'less' if value <= base else 'more'}".replace("%", " %")


def front_table(front: Front, knee: str) -> str:
    """Every design with its accuracies and costs; a row selects its design."""
    costs = [column for column in _COSTS if front.has(column) and column != "interval_s"]
    splits = [split for split in ("validation", "test") if front.has(f"{split}_accuracy")]
    heads = ["Design", *(f"{s.capitalize()} [%]" for s in splits), *(_COSTS[c] for c in costs)]
    body = []
    for row in front.rows:
        mark = '<span class="tag">knee</span>' if row["id"] == knee else ""
        cells = [f'<td data-value="{_safe(row["id"])}">{_safe(row["id"])}{mark}</td>']
        for split in splits:
            value = 100 * number(row, f"{split}_accuracy")
            low, high = 100 * number(row, f"{split}_low"), 100 * number(row, f"{split}_high")
            interval = "" if math.isnan(low) else f' <span class="note">{low:.1f}–{high:.1f}</span>'
            cells.append(f'<td data-value="{value!r}">{value:.2f}{interval}</td>')
        for column in costs:
            value = number(row, column)
            cells.append(f'<td data-value="{value!r}">{_safe(shown(column, value))}</td>')
        body.append(f'<tr data-id="{_safe(row["id"])}">{"".join(cells)}</tr>')
    head = "".join(f"<th>{_safe(name)}</th>" for name in heads)
    return (
        f'<div class="scroll"><table class="front"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def design_card(front: Front, row: Row, knee: str) -> str:
    """One design in detail; all cards but the selected one are hidden."""
    hidden = "" if row["id"] == knee else " hidden"
    several = len(front) > 1
    mark = '<span class="tag">knee</span>' if row["id"] == knee and several else ""
    facts = [
        (label, shown(column, row[column])) for column, label in _COSTS.items() if column in row
    ]
    layers = [
        (core, ", ".join(layer for layer in front.layers if row[f"core_{layer}"] == core))
        for core in front.cores
    ]
    widths = [
        (
            b,
            shown("", row[f"width_{b}"]) if row.get(f"crossing_{b}", 1) else "stays on one core",
        )
        for b in front.boundaries
    ]
    knobs = [
        (knob.replace("_", " "), knob_size(knob, number(row, f"knob_{knob}")))
        for knob in front.knobs
    ]
    energy = [
        (part.replace("_", " "), shown(column, row[column]))
        for part, column in front.energy_parts.items()
    ]
    parts = [
        _facts("", [*_accuracies(row), *facts]),
        _facts("Channels that cross", widths),
        _facts("Layers by core", [(core, names) for core, names in layers if names]),
        _facts("Hardware of each core type", knobs),
        _facts("Energy by part", energy),
    ]
    return (
        f'<div class="card{"" if several else " whole"}" data-card="{_safe(row["id"])}"{hidden}>'
        f"<h3>{_safe(row['id'])}{mark}</h3>{''.join(parts)}</div>"
    )


def accuracy_notes(front: Front, knee: str) -> str:
    """What the intervals allow to be said, in words and figures."""
    if not front.has("validation_low", "validation_high", "test_accuracy"):
        return ""
    validation, test = front.values("validation_accuracy"), front.values("test_accuracy")
    low, high = front.values("validation_low"), front.values("validation_high")
    half = statistics.mean((h - k) / 2 for k, h in zip(low, high, strict=True))
    shift = statistics.mean(t - v for v, t in zip(validation, test, strict=True))
    inside = sum(k <= t <= h for k, t, h in zip(low, test, high, strict=True))
    place = front.ids.index(knee)
    overlap = sum(k <= high[place] and h >= low[place] for k, h in zip(low, high, strict=True)) - 1
    sentences = [
        "Designs, preferences and weights were chosen on the validation pictures, so validation "
        "accuracies are optimistic: the best of many designs on few pictures is luck too. The test "
        "pictures were read once, for this table, and neither filtered nor re-ranked anything.",
        f"The 95 % Wilson interval is on average ±{100 * half:.1f} points wide."
        + (
            f" {overlap} other designs have an interval that overlaps that of {knee}: these "
            "pictures alone cannot tell them from it."
            if overlap
            else ""
        ),
    ]
    pictures = [
        f"{front.rows[0][f'{split}_pictures']} {split} pictures"
        for split in ("validation", "test")
        if front.has(f"{split}_pictures")
    ]
    facts = {"Pictures": ", ".join(pictures)} if pictures else {}
    facts |= {
        "Test minus validation, mean over designs": f"{100 * shift:+.2f} points",
        "Test accuracy inside the validation interval": f"{inside} of {len(front)} designs",
    }
    paragraphs = "".join(f"<p>{_safe(sentence)}</p>" for sentence in sentences)
    return paragraphs + key_values(facts)


def gap_table(front: Front) -> str:
    """Median and worst change by rounding of each cost and accuracy, and the optimality gaps."""
    rows = []
    for column in front.relaxed:
        before, after = front.values(f"relaxed_{column}"), front.values(column)
        if "accuracy" in column:
            change = [100 * (a - b) for a, b in zip(after, before, strict=True)]
            unit, label = "points", "Validation accuracy, final minus mean of 16 roundings"
        else:
            change = [100 * (a / b - 1) if b else 0.0 for a, b in zip(after, before, strict=True)]
            unit, label = "%", f"{_COSTS.get(column, column)}, discrete against extended"
        rows.append(_spread(label, change, unit))
    for column, label in _GAPS.items():
        if front.has(column):
            rows.append(_spread(label, [100 * value for value in front.values(column)], "%"))
    return table(["Gap", "Median", "Mean", "Lowest", "Highest"], rows) if rows else ""


def _spread(label: str, values: Sequence[float], unit: str) -> list[str]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [label, *["not known"] * 4]
    figures = (statistics.median(finite), statistics.mean(finite), min(finite), max(finite))
    return [label, *(f"{value:+.2f} {unit}" for value in figures)]


def _accuracies(row: Row) -> list[tuple[str, str]]:
    found = []
    for split in ("validation", "test"):
        if f"{split}_accuracy" in row:
            low, high = number(row, f"{split}_low"), number(row, f"{split}_high")
            value = shown("accuracy", row[f"{split}_accuracy"])
            found.append((f"Accuracy, {split}", f"{value}  ({100 * low:.1f} to {100 * high:.1f})"))
    return found


def _facts(title: str, facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr><td>{_safe(name)}</td><td class="wrap">{_safe(value)}</td></tr>'
        for name, value in facts
    )
    heading = f"<h3>{_safe(title)}</h3>" if title else ""
    return f"{heading}<table>{rows}</table>"


def _flattened(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flattened(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _ratio(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{high / low:.{1 if high > 2 * low else 2}f}×" if low > 0 else "from zero"


def _span(column: str, values: Sequence[float]) -> str:
    return f"{shown(column, min(values))} to {shown(column, max(values))}"


def _safe(value: object) -> str:
    return html.escape(str(value), quote=True)
