"""Phase tables: the cost of every layer at every width on every core type's hardware grid."""

from __future__ import annotations

from typing import Any

from costs.chip_tables import assemble, calc_block, list_blocks
from dse.context import Context
from dse.design_objective import DesignObjective, reference_design
from dse.objective import COSTS


class TablesPhase:
    """Builds the cost tables block by block. State: the blocks done so far."""

    name = "tables"
    steps = 0  # see `count`

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.blocks = list_blocks(context.boundaries, context.workload, context.chip)

    def count(self, outputs: dict[str, Any]) -> int:
        """One step for each (layer family, core type)."""
        return len(self.blocks)

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """No block done."""
        return {"blocks": []}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One block."""
        block = calc_block(
            self.blocks[index], self.context.chip, self.context.config.mapping_objective
        )
        return {"blocks": [*state["blocks"], block]}, None

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The table and the reference design."""
        problem = assemble(
            self.context.workload,
            self.context.boundaries,
            self.context.chip,
            self.blocks,
            state["blocks"],
        )
        ordinals, assignment, reference = reference_design(problem, budgets_of(self.context))
        return {
            "table": problem.table,
            "reference": (ordinals, assignment),
            "reference_costs": reference,
        }


def objective_of(context: Context, outputs: dict[str, Any]) -> DesignObjective:
    """The objective of an experiment whose tables (and predictor, if any) are there."""
    problem = assemble(context.workload, context.boundaries, context.chip, (), (), outputs["tables"]["table"])
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


def trained(outputs: dict[str, Any]) -> dict[str, Any]:
    """Weights and statistics, of whichever phase trained them."""
    return outputs["joint"] if "joint" in outputs else outputs["weights"]


def budgets_of(context: Context) -> dict[str, float]:
    """Hard limits of an experiment by the names of `COSTS`: the area, and those of `joint`."""
    limits: dict[str, float] = {}
    if context.config.hardware.area_budget_mm2 is not None:
        limits["area"] = context.config.hardware.area_budget_mm2
    if context.config.method == "joint":
        given = context.config.joint.budget.model_dump()
        limits |= {name: given[name] for name in COSTS if given[name] is not None}
    return limits
