"""What a phase takes from the results of earlier ones, whichever method made them."""

from __future__ import annotations

from typing import Any

from costs.chip_tables import assemble
from dse.context import Context
from dse.design_objective import DesignObjective
from dse.objective import COSTS

ROUNDINGS = 16  # of a relaxed design whose accuracy and costs before rounding are told


def objective_of(context: Context, outputs: dict[str, Any]) -> DesignObjective:
    """The objective of an experiment whose tables (and predictor, if any) are there."""
    problem = assemble(
        context.workload, context.boundaries, context.chip, (), (), outputs["tables"]["table"]
    )
    predictor = outputs.get("predictor")
    return DesignObjective(
        problem=problem,
        settings=context.config.objective,
        reference=outputs["tables"]["reference_costs"],
        budgets=budgets_of(context),
        boundary_of_edge=context.boundary_of_edge,
        edge_index=context.edge_index,
        model=None if predictor is None else predictor["model"],
    )


def trained_weights(outputs: dict[str, Any]) -> dict[str, Any]:
    """`params` and `stats` of whichever phase trained them."""
    return outputs["joint"] if "joint" in outputs else outputs["weights"]


def chosen_designs(outputs: dict[str, Any]) -> dict[str, Any]:
    """The chosen designs: ordinals, relaxed, assignment, gaps, preference, [.., designs] each."""
    if "joint" in outputs:
        return outputs["joint"]["chosen"]
    return outputs.get("requests", outputs["selection"])


def final_params(outputs: dict[str, Any]) -> dict[str, Any]:
    """Parameters of each chosen design, [designs, ...] each."""
    if "joint" in outputs:
        return {name: value[None] for name, value in outputs["joint"]["params"].items()}
    return outputs["finetune"]["params"]


def budgets_of(context: Context) -> dict[str, float]:
    """Hard limits of an experiment by the names of `COSTS`: the area, and those of `joint`."""
    limits: dict[str, float] = {}
    if context.config.hardware.area_budget_mm2 is not None:
        limits["area"] = context.config.hardware.area_budget_mm2
    if context.config.method == "joint":
        given = context.config.joint.budget.model_dump()
        limits |= {name: given[name] for name in COSTS if given[name] is not None}
    return limits
