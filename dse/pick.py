"""Choose one design of a front by a rule: an id, ``knee``, or bounds and an objective.

Accuracy in a rule is always validation accuracy: the test split never filters or re-ranks.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence

from costs.errors import InputError, nearest
from dse.front_table import Row, number

# name in a rule -> (column of front.csv, +1 where less is better and -1 where more is)
OBJECTIVES: dict[str, tuple[str, int]] = {
    "accuracy": ("validation_accuracy", -1),
    "io_bytes": ("io_bytes", 1),
    "link_bytes": ("link_bytes", 1),
    "dram_bytes": ("dram_bytes", 1),
    "energy": ("energy_pj", 1),
    "latency": ("latency_s", 1),
    "area": ("area_mm2", 1),
    "throughput": ("throughput_per_s", -1),
}
# The two-character operators first: a prefix would match them.
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_BOUND = re.compile(r"^\s*(?P<name>\w+)\s*(?P<op>>=|<=|>|<)\s*(?P<limit>\S+)\s*$")
_SHOWN_IDS = 12


def pick(rows: Sequence[Row], rule: str) -> Row:
    """The one design that a rule asks for.

    Args:
        rows: Rows of ``front.csv``; at least one.
        rule: A design's id; ``knee``; or comma-separated bounds and then the objective to be
            optimized within them, for instance ``accuracy>=0.95,energy``. Bounds are in the units
            of the columns: fractions, bytes, pJ, s, mm2, 1/s. Costs are minimized, accuracy and
            throughput maximized; ties go to more accuracy, then less traffic, then less energy.

    Raises:
        InputError: The rule names nothing that exists, or no design meets its bounds.
    """
    for row in rows:
        if row["id"] == rule:
            return row
    if rule.strip() == "knee":
        return rows[knee_index(rows)]
    *bounds, objective = (part.strip() for part in rule.split(","))
    if not bounds and objective not in OBJECTIVES and _BOUND.match(objective) is None:
        raise _unknown(rows, rule)
    if objective not in OBJECTIVES:
        raise InputError(
            "a rule of bounds ends with the objective to optimize",
            key="--pick",
            value=rule,
            allowed=", ".join(OBJECTIVES),
        )
    kept = list(rows)
    for bound in bounds:
        kept = _within(kept, bound, rows, rule)
    column, sign = _column(objective, rows, rule)
    return min(kept, key=lambda row: (sign * number(row, column), *_tie_break(row)))


def knee_index(rows: Sequence[Row]) -> int:
    """Index of the design nearest to the ideal point.

    The ideal point has the best validation accuracy, traffic and energy of the whole front.
    Distances are Euclidean after each axis (accuracy; logarithm of io_bytes; logarithm of energy)
    is scaled to [0, 1] over the front; an axis on which all designs are equal does not count.
    """
    axes = [
        [-number(row, "validation_accuracy") for row in rows],
        [math.log(max(number(row, "io_bytes"), 1.0)) for row in rows],
        [math.log(max(number(row, "energy_pj"), 1.0)) for row in rows],
    ]
    scaled = []
    for axis in axes:
        low, high = min(axis), max(axis)
        scaled.append([(x - low) / (high - low) if high > low else 0.0 for x in axis])
    distance = [math.hypot(*point) for point in zip(*scaled, strict=True)]
    return min(range(len(rows)), key=lambda i: (distance[i], *_tie_break(rows[i])))


def _within(kept: list[Row], bound: str, rows: Sequence[Row], rule: str) -> list[Row]:
    match = _BOUND.match(bound)
    if match is None or match["name"] not in OBJECTIVES:
        raise InputError(
            f"'{bound}' is not a bound",
            key="--pick",
            value=rule,
            allowed=f"NAME OP NUMBER, OP one of {' '.join(_OPERATORS)}, NAME one of "
            + ", ".join(OBJECTIVES),
        )
    try:
        limit = float(match["limit"])
    except ValueError:
        limit = math.nan
    if math.isnan(limit):
        raise InputError(
            f"'{match['limit']}' is not a number",
            key="--pick",
            value=rule,
            allowed="such as 0.95 or 2e6",
        )
    column, _ = _column(match["name"], rows, rule)
    compare = _OPERATORS[match["op"]]
    found = [row for row in kept if compare(number(row, column), limit)]
    if not found:
        # Only what the earlier bounds left can still be reached, so that is the range to show.
        values = [number(row, column) for row in kept]
        among = "the front" if len(kept) == len(rows) else "the designs the earlier bounds leave"
        raise InputError(
            f"no design meets {bound}: {among} spans {match['name']} "
            f"{min(values):.6g} to {max(values):.6g}",
            key="--pick",
            value=rule,
            allowed=f"a bound inside that range, knee, or an id: {_shown_ids(rows)}",
        )
    return found


def _column(name: str, rows: Sequence[Row], rule: str) -> tuple[str, int]:
    column, sign = OBJECTIVES[name]
    if any(math.isnan(number(row, column)) for row in rows):
        raise InputError(f"this front has no {column}", key="--pick", value=rule)
    return column, sign


def _tie_break(row: Row) -> tuple[float, float, float, str]:
    return (
        -number(row, "validation_accuracy"),
        number(row, "io_bytes"),
        number(row, "energy_pj"),
        str(row["id"]),
    )


def _unknown(rows: Sequence[Row], rule: str) -> InputError:
    guess = nearest(rule, [*(str(row["id"]) for row in rows), "knee", *OBJECTIVES])
    hint = f"; did you mean {guess}?" if guess else ""
    return InputError(
        f"no design and no rule has this name{hint}",
        key="--pick",
        value=rule,
        allowed="knee; bounds and an objective such as accuracy>=0.95,energy; or an id: "
        + _shown_ids(rows),
    )


def _shown_ids(rows: Sequence[Row]) -> str:
    ids = [str(row["id"]) for row in rows]
    more = len(ids) - _SHOWN_IDS
    return ", ".join(ids[:_SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
