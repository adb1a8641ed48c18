"""`dse assign`: the core of every layer of a network on a chip; how near that is to the best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from costs.chip import Chip
from costs.errors import InputError
from costs.workload import Workload
from dse.console import follow, format_value, print_json, print_line, print_table

OBJECTIVES = {
    "interval": "interval_s",
    "energy": "energy_pj",
    "io": "io_bytes",
    "latency": "latency_s",
}
"""What can be minimised, and its cost."""


def assign_command(
    network: str,
    chip_name: str,
    *,
    solver: str,
    objective: str,
    split: bool,
    stages: str | None,
    seed: int,
    proof_s: float,
    as_json: bool,
) -> None:
    """Assign, price by the chip model, compare with the proved bound."""
    from costs.certificate import certify_assignment
    from costs.chip_cost import calc_chip_cost
    from costs.chip_tables import build_problem
    from costs.exact_search import improve_exactly
    from costs.library import load_chip
    from costs.problem_instance import instance_of
    from costs.tables import default_cache_dir
    from dse.assignment_solvers import PROOFS, find_solver, solve_in_order
    from dse.commands.evaluate import read_workload

    if objective not in OBJECTIVES:
        raise InputError(key="--objective", value=objective, allowed=OBJECTIVES)
    solve = find_solver(solver)
    workload, chip = read_workload(network, 1), load_chip(chip_name)
    order = _read_stages(stages, chip, solver, objective, split) if stages is not None else None
    start = None
    if split:
        workload, start = _split(workload, chip)
    widths, knobs = np.zeros(0, int), np.array([kind.default for kind in chip.types])
    mapped = objective if objective in ("energy", "latency") else "edp"
    problem = build_problem(
        workload,
        (),
        chip,
        mapped,
        only=(widths, knobs),
        cache_dir=default_cache_dir(),
        follow=lambda blocks: follow(blocks, "searching mappings"),
    )
    instance = instance_of(problem, widths, knobs)
    surrogate = "interval" if objective == "latency" else objective
    cost = OBJECTIVES[objective]
    if order is not None:
        found = solve_in_order(instance, order)
    else:
        found = solve(instance, objective=surrogate, seed=seed)

    def price(assignment: np.ndarray) -> dict[str, Any]:
        return calc_chip_cost(problem, widths[:, None], assignment[:, None], knobs[..., None])

    if start is not None and price(start)[cost][0] < price(found)[cost][0]:
        found = start
    if objective == "latency" and solver not in ("equal", "greedy"):
        found = improve_exactly(problem, widths, knobs, found, cost)
    bound, proved = math.nan, False
    if objective != "latency":
        proof = certify_assignment(
            problem, widths, knobs, objective, known=found, time_limit_s=proof_s
        )
        bound, proved = proof.bound, proof.proved
        if solver == "milp":
            found = proof.assignment
    costs = price(found)
    value = float(costs[cost][0])
    names = [layer.name for layer in workload.layers]
    cores = [
        {
            "core": core,
            "layers": [name for name, at in zip(names, found, strict=True) if at == k],
            "stage_s": float(costs["core_busy_s"][k, 0]),
        }
        for k, core in enumerate(chip.core_names)
    ]
    links = [
        {
            "link": link.name,
            "traffic_bytes": float(costs["each_link_bytes"][n, 0]),
            "busy_s": float(costs["each_link_bytes"][n, 0] / link.bandwidth_bytes_per_s),
        }
        for n, link in enumerate(chip.links)
    ]
    totals = {name: float(costs[name][0]) for name in (*OBJECTIVES.values(), "link_bytes")}
    totals["throughput_per_s"] = 1.0 / totals["interval_s"]
    gap = value / bound - 1.0 if bound > 0 else (0.0 if proved else math.nan)
    if as_json:
        assignment = {n: chip.core_names[k] for n, k in zip(names, found, strict=True)}
        certificate = {"bound": bound, "gap": gap, "proved": proved}
        print_json(
            {
                "network": network,
                "chip": chip.name,
                "solver": solver,
                "objective": objective,
                "assignment": assignment,
                "cores": cores,
                "links": links,
                "costs": totals,
                **{k: None if v != v else v for k, v in certificate.items()},
            }
        )
        return
    shown = [(c["core"], len(c["layers"]), c["stage_s"], _abridged(c["layers"])) for c in cores]
    title = f"{network} on {chip.name}, {solver}, least {objective}"
    print_table(("core", "count", "stage_s", "layers"), shown, title=title)
    if links:
        print_table(("link", "traffic_bytes", "busy_s"), [list(k.values()) for k in links])
    print_table(("cost", "value"), [(k, format_value(k, v)) for k, v in totals.items()])
    if objective == "latency":
        print_line("latency follows events: there is no bound to compare it with")
        return
    if proved and gap <= 1e-5:
        print_line("proved: no assignment of any layer to any core is better")
        return
    if math.isnan(gap):
        print_line(f"nothing was proved in {proof_s:g} s; --proof-s gives it longer")
        return
    best = "the proved optimum" if proved else f"the bound proved in {proof_s:g} s"
    if solver == "dp":
        best += " of any layer on any core; these are the best contiguous stages"
    advice = "" if solver in PROOFS else "; --solver milp looks for the optimum"
    print_line(f"{gap:.2%} over {best}{advice}")


def _read_stages(stages: str, chip: Chip, solver: str, objective: str, split: bool) -> list[int]:
    """The cores that `--stages` names, in its order."""
    if solver != "dp" or objective != "interval" or split:
        raise InputError(
            "stages in a given order are solved by the dynamic program",
            key="--stages",
            value=stages,
            allowed="beside --solver dp, for the interval, without --split",
        )
    names = [name.strip() for name in stages.split(",")]
    for name in names:
        if name not in chip.core_names or names.count(name) > 1:
            raise InputError(
                "not cores of this chip, each once",
                key="--stages",
                value=stages,
                allowed=", ".join(chip.core_names),
            )
    return [chip.core_names.index(name) for name in names]


def _split(workload: Workload, chip: Chip) -> tuple[Workload, np.ndarray]:
    """The workload with layers split over teams of the chip's cores, and the cores of the parts."""
    import functools
    from dataclasses import replace

    from costs.chip_tables import with_dram
    from costs.layer import Layer
    from costs.mapper import best_mapping
    from costs.split_stages import plan_teams

    if len({kind for _, kind in chip.cores}) > 1 or not chip.links:
        raise InputError(
            "layers are split over cores of one type",
            key="--split",
            value=chip.name,
            allowed="a chip of equal cores and links between them",
        )
    kind = chip.types[chip.cores[0][1]]
    core = with_dram(kind.at(kind.default), chip)

    @functools.cache
    def seconds(layer: Layer) -> float:
        return best_mapping(layer, core, "latency").cost.latency_s

    rate = min(link.bandwidth_bytes_per_s for link in chip.links)
    cores = len(chip.cores)
    plan = plan_teams(
        workload, cores, lambda k: seconds(replace(k, name="layer")), rate, range(1, cores + 1)
    )
    return plan.split.workload, plan.assignment


def _abridged(names: list[str]) -> str:
    """Names of layers, runs of a block's layers by the first and the last."""
    if len(names) <= 4:
        return ", ".join(names) or "-"
    return f"{names[0]}, {names[1]}, .. {names[-1]}"
