"""Phase tables: the cost of every layer at every width on every core type's hardware grid."""

from __future__ import annotations

from typing import Any

from costs.chip_tables import assemble, calc_block, list_blocks
from costs.tables import default_cache_dir
from dse.context import Context
from dse.design_objective import reference_design
from dse.handover import budgets_of


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
        """One block; networks repeat their layers."""
        contents = [block.content for block in self.blocks[: index + 1]]
        first = contents.index(contents[index])
        if first < index:
            block = state["blocks"][first]
        else:
            block = calc_block(
                self.blocks[index],
                self.context.chip,
                self.context.config.mapping_objective,
                default_cache_dir(),
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
