"""The objective of integer designs: exact costs of the chip, predicted task loss, budgets.

One function of arrays for both uses, as in `costs.chip_cost`: numpy for search and reports,
`jax.numpy` inside the policy's step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from costs.assignment import count_contiguous, enumerate_contiguous, solve_contiguous
from costs.chip_cost import calc_chip_cost
from costs.problem import Problem
from dse.experiment_spec import Objective
from dse.objective import COSTS, calc_excess, calc_terms, scalarise
from dse.predictor import calc_features, predict
from dse.relaxed import Shape

EXCESS_WEIGHT = 20.0  # steeper than any preference
EXCESS_STEP = 1e3  # in searches any excess, however small, is worse than every design without
UNMAPPABLE = 1e18  # stands for infinity in gradients, where inf - inf would be NaN
ENUMERABLE = 20_000  # contiguous partitions that are cheaper to list than to solve


@dataclass(frozen=True)
class DesignObjective:
    """Evaluates integer designs for preferences.

    Attributes:
        problem: workload, chip, tables.
        settings: task scale and scalarisation.
        reference: cost of the reference design.
        budgets: hard limits by the names of `COSTS`.
        boundary_of_edge: [network edges] boundary of each.
        edge_index: [network edges] index among the problem's edges.
        model: fitted predictor of the task loss; None where the network itself gives it.
    """

    problem: Problem
    settings: Objective
    reference: dict[str, float]
    budgets: dict[str, float]
    boundary_of_edge: np.ndarray
    edge_index: np.ndarray
    model: dict[str, Any] | None

    @property
    def shape(self) -> Shape:
        """Sizes of the design space."""
        return Shape.of(self.problem)

    def for_jax(self, table: Any, model: Any = None) -> DesignObjective:
        """The same objective over a traced cost table, and a traced predictor where there is one:
        in float32 and with finite numbers.
        """
        return replace(self, problem=replace(self.problem, table=table), model=model)

    def finite_model(self) -> dict[str, Any] | None:
        """The predictor in float32."""
        return self.model and {k: np.asarray(v, np.float32) for k, v in self.model.items()}

    def finite_table(self) -> np.ndarray:
        """The cost table in float32, infeasible entries very dear."""
        return np.nan_to_num(self.problem.table, posinf=UNMAPPABLE).astype(np.float32)

    def costs(self, ordinals: Any, assignment: Any, xp: Any = np) -> dict[str, Any]:
        """Exact costs of designs: ordinals [ordinals, designs], assignment [layers, designs]."""
        whole = ordinals.astype(int)
        return calc_chip_cost(
            self.problem, self.shape.widths(whole), assignment, self.shape.knobs(whole), xp
        )

    def predicted_loss(self, ordinals: Any, costs: dict[str, Any], xp: Any = np) -> Any:
        """[designs] predicted cross-entropy [nat]; zero without a predictor."""
        if self.model is None:
            return 0.0 * costs["energy_pj"]
        widths, crossing = self.shape.widths(ordinals), costs["crossing"][self.edge_index]
        inverse = slice(None)
        if xp is np:  # among assignments of the same widths few patterns of crossing differ
            told = np.concatenate([widths, crossing]).T.astype(np.int64)
            _, first, inverse = np.unique(_codes(told), return_index=True, return_inverse=True)
            widths, crossing = widths[:, first], crossing[:, first]
        features = calc_features(
            widths * 1.0, crossing * 1.0, self.shape.max_widths, self.boundary_of_edge, xp
        )
        return xp.exp(predict(self.model, features, xp))[inverse]

    def value(self, preference: Any, ordinals: Any, assignment: Any, xp: Any = np) -> Any:
        """[designs] the objective to minimise.

        Args:
            preference: [5, designs] or [5, 1], in the order of `dse.objective.TERMS`.
            ordinals: [ordinals, designs].
            assignment: [layers, designs].
            xp: numpy or jax.numpy.
        """
        costs = self.costs(ordinals, assignment, xp)
        task = self.predicted_loss(ordinals, costs, xp)
        terms = calc_terms(task, costs, self.reference, self.settings.task_scale, xp)
        value = scalarise(
            preference, terms, self.settings.scalarisation, self.settings.smoothness, xp
        )
        return value + self.penalty(costs, xp)

    def penalty(self, costs: dict[str, Any], xp: Any = np) -> Any:
        """[designs] what exceeding budgets adds: a slope, and in searches a step as well."""
        excess = calc_excess(costs, self.budgets, xp)
        step = EXCESS_STEP * (excess > 0) if xp is np else 0.0
        return EXCESS_WEIGHT * excess + step


def _codes(rows: np.ndarray) -> np.ndarray:
    """[rows] one comparable value for each row of integers [rows, columns]."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def contiguous_candidates(problem: Problem, ordinals: np.ndarray) -> np.ndarray:
    """Contiguous assignments that hold the optimum: all of them, or those the DP keeps.

    Args:
        problem: workload, chip, tables.
        ordinals: [ordinals] integers.

    Returns:
        [layers, count].
    """
    shape = Shape.of(problem)
    if count_contiguous(shape.layers, shape.cores) <= ENUMERABLE:
        on_bus = len(problem.chip.links) == 1
        kinds = tuple(int(k) for k in problem.core_types) if on_bus else None
        return enumerate_contiguous(shape.layers, shape.cores, kinds)
    whole = ordinals.astype(int)
    return solve_contiguous(problem, shape.widths(whole), shape.knobs(whole))


def reference_design(
    problem: Problem, budgets: dict[str, float]
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """The reference: no bottlenecks, the chip as described, exact assignment for energy and IO.

    Returns:
        [ordinals] and [layers] of the design, and its costs by name.
    """
    shape = Shape.of(problem)
    knobs = np.ravel([t.default for t in problem.chip.types])
    ordinals = np.concatenate([np.array(shape.largest_pairs) + 1, knobs]).astype(int)
    options = contiguous_candidates(problem, ordinals)
    tiled = np.repeat(ordinals[:, None], options.shape[1], axis=1)
    costs = calc_chip_cost(problem, shape.widths(tiled), options, shape.knobs(tiled))
    with np.errstate(divide="ignore"):
        score = np.log(costs["energy_pj"]) + np.log(costs["io_bytes"])
    excess = calc_excess(costs, budgets)
    best = int(np.argmin(score + EXCESS_WEIGHT * excess + EXCESS_STEP * (excess > 0)))
    return ordinals, options[:, best], {name: float(costs[name][best]) for name in COSTS.values()}


Value = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(ordinals [n, designs], assignment [layers, designs]) to the objective [designs]."""
