"""The points on which cost models differ, each a named option whose default is Timeloop's.

Static argument: hashed by value. What each tool does is listed in docs/theory/access_counts.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from costs.errors import InputError


@dataclass(frozen=True)
class Conventions:
    """How accesses, capacity and time are counted.

    Attributes:
        halo: what an input tile shares with the tile before it. "timeloop": the overlap is kept
            when the innermost loop outside the tile advances along the sliding window. "exact":
            only the words that the previous tile did not hold are fetched. "whole": every tile is
            fetched whole (AccelForge, ZigZag).
        padding: whether padding is "counted" as if it were stored and fetched (Timeloop), or
            "skipped" (ZigZag).
        drain_reads: whether reading a finished or spilled output tile on its way up is counted
            (AccelForge, ZigZag).
        first_read: whether the first accumulation into an output reads it: "elided" nowhere
            (Timeloop, AccelForge), "at_mac" only in the level next to the MACs (the analytical
            model of DOSA), "counted" wherever partial sums return (ZigZag).
        accesses: whether a tile that fills the last access of its transfer only in part pays that
            part, "fractional" (Timeloop), or all of it, "whole": tiles of one operand at one level
            count as all of the same, average, size (ZigZag).
        buffering: tiles of which every level keeps this many; divides the capacity.
        overlap: whether transfers and computation run at the same time; otherwise their times add.
        fill: whether loading the first tiles and draining the last outputs is added.
    """

    halo: Literal["timeloop", "exact", "whole"] = "timeloop"
    padding: Literal["counted", "skipped"] = "counted"
    drain_reads: bool = False
    first_read: Literal["elided", "at_mac", "counted"] = "elided"
    accesses: Literal["fractional", "whole"] = "fractional"
    buffering: Literal[1, 2] = 1
    overlap: bool = True
    fill: bool = False

    def __post_init__(self) -> None:
        """Refuses an unknown option, naming it.

        Raises:
            InputError: a value is not one of the listed ones.
        """
        hints = get_type_hints(Conventions)
        for item in fields(self):
            value = getattr(self, item.name)
            allowed = get_args(hints[item.name]) or (False, True)
            if not any(value == option and type(value) is type(option) for option in allowed):
                raise InputError(key=f"conventions.{item.name}", value=value, allowed=allowed)


TIMELOOP = Conventions()
"""Timeloop and Accelergy."""

ACCELFORGE = Conventions(halo="whole", drain_reads=True)
"""AccelForge."""

ZIGZAG = Conventions(
    halo="whole",
    padding="skipped",
    drain_reads=True,
    first_read="counted",
    accesses="whole",
    fill=True,
)
"""ZigZag: the counts; its stall model is not reproduced."""
