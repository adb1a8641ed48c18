"""`dse ask`: a design for a preference or a budget, from a finished surface, at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from costs.errors import InputError
from dse.console import print_json, print_line, print_table


def ask_command(
    run: Path, prefer: Sequence[str], budget: Sequence[str], out: Path | None, *, as_json: bool
) -> None:
    """Print the design that the run's policy gives, and write it as YAML where asked."""
    from dse.answer import answer, load_surface
    from dse.design import cost_columns, describe
    from dse.objective import COSTS, TERMS

    preference = _weights(prefer, "--prefer", list(COSTS))
    limits = _weights(budget, "--budget", list(COSTS))
    if sum(preference.values()) >= 1.0:
        raise InputError(
            key="--prefer", value=list(prefer), allowed="weights that sum to less than 1"
        )
    if not preference and not limits:
        raise InputError(
            "give at least one --prefer or --budget", allowed=f"COST=NUMBER with {', '.join(COSTS)}"
        )
    surface = load_surface(run)
    began_s = time.perf_counter()
    found = answer(surface, preference, limits)
    spent_s = time.perf_counter() - began_s
    shape, context = surface.objective.shape, surface.context
    full = {"task": 1.0 - sum(preference.values())}
    full |= {name: preference.get(name, 0.0) for name in TERMS[1:]}
    design = describe(
        context,
        "asked",
        shape.widths(found.ordinals),
        shape.knobs(found.ordinals),
        found.assignment,
        full,
    )
    if out is not None:
        design.save(out)
    costs = cost_columns(found.costs, 0)
    if as_json:
        print_json(
            {
                "widths": design.widths,
                "assignment": design.assignment,
                "hardware": design.hardware,
                "costs": costs,
                "predicted_cross_entropy": found.predicted_loss,
                "seconds": spent_s,
            }
        )
        return
    shown = ("io_bytes", "link_bytes", "dram_bytes", "energy_pj", "latency_s", "area_mm2")
    print_table(
        ["predicted_cross_entropy", *shown], [[found.predicted_loss, *(costs[n] for n in shown)]]
    )
    print_table(["boundary", "channels"], [[n, w] for n, w in design.widths.items()])
    print_table(["layer", "core"], [[n, c] for n, c in design.assignment.items()])
    sizes = [
        [kind, knob, v] for kind, knobs in design.hardware.items() for knob, v in knobs.items()
    ]
    print_table(["core_type", "knob", "size"], sizes)
    print_line(f"answered in {1e3 * spent_s:.0f} ms; not fine-tuned, its accuracy is predicted")
    if out is not None:
        print_line(f"{out}: `dse evaluate {out}` prices it from that file alone")


def _weights(given: Sequence[str], option: str, known: Sequence[str]) -> dict[str, float]:
    """COST=NUMBER each, the numbers positive."""
    found = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in known or not 0.0 < number < float("inf"):
            raise InputError(
                key=option, value=text, allowed=f"COST=NUMBER, COST one of {', '.join(known)}"
            )
        found[name] = number
    return found
