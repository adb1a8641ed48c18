"""The front: final measurements of the chosen designs, and the files that hold them.

Rows are filtered on validation accuracy, IO bytes and energy alone; the test pictures are read
here, once for each design, and filter nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import moocore
import numpy as np
from safetensors.numpy import save as save_tensors

from dse.accuracy import interval_columns
from dse.context import Context
from dse.csv_rows import write_rows
from dse.design import COST_COLUMNS, cost_columns, describe
from dse.design_objective import DesignObjective
from dse.handover import ROUNDINGS, chosen_designs, final_params, objective_of, trained_weights
from dse.objective import COSTS, TERMS, calc_excess
from dse.outcomes import RunError
from dse.relaxed import extension_corners, split_ordinals
from dse.requests import limits_of, words_of
from dse.rundir import ANSWERS_FILE, DESIGNS, FRONT_FILE, write_atomically
from dse.search import assignment_gap, certify


class FrontPhase:
    """Measures each design with its final weights. State: counts and statistics."""

    name = "front"
    steps = 0  # see `count`

    def __init__(self, context: Context, run_dir: Path) -> None:
        """Bind the experiment and where its files go."""
        self.context = context
        self.run_dir = run_dir

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the designs and their weights."""
        self.objective: DesignObjective = objective_of(self.context, outputs)
        self.chosen, self.params = chosen_designs(outputs), final_params(outputs)
        self._certify()
        self.stats = trained_weights(outputs)["stats"]
        self.costs = self.objective.costs(self.chosen["ordinals"], self.chosen["assignment"])

    def _certify(self) -> None:
        """Give every design the proved best assignment of its network, where it can be listed."""
        chosen = {name: np.array(value) for name, value in self.chosen.items()}
        proved = np.full((2, chosen["ordinals"].shape[1]), np.nan)  # before and after
        requested = chosen.get("request", np.full(proved.shape[1], -1))
        for i in range(proved.shape[1]):
            objective = self.objective
            if requested[i] >= 0:
                limits = limits_of(self.context.config.requests[requested[i]].budget)
                objective = replace(objective, budgets={**objective.budgets, **limits})
            design = chosen["preference"][:, i], chosen["ordinals"][:, i]
            best, gap = certify(objective, *design, chosen["assignment"][:, i])
            proved[:, i] = gap, 0.0 * gap
            if gap > 0:
                chosen["assignment"][:, i] = best
                chosen["gaps"][1, i] = assignment_gap(objective, *design, best)
        self.chosen, self.proved = chosen, proved

    def count(self, outputs: dict[str, Any]) -> int:
        """Validation of every design, then what is left to say of those that stay."""
        return 2 * chosen_designs(outputs)["ordinals"].shape[1]

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Room for the measurements."""
        designs = chosen_designs(outputs)["ordinals"].shape[1]
        return {"correct": np.zeros((2, designs), int), "relaxed_accuracy": np.zeros(designs)}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Count correct predictions on validation; of a design that stays also those on test, and
        the mean over 16 roundings of the relaxed design that it came from.
        """
        context, shape = self.context, self.objective.shape
        designs = state["correct"].shape[1]
        last, design = divmod(index, designs)
        if last and design not in self._kept(state):
            return state, None
        validation = context.data.validation
        params = {name: array[design] for name, array in self.params.items()}
        crossing = context.crossing(self.costs["crossing"])[:, design]

        def correct(split: Any, widths: np.ndarray, crossing: np.ndarray = crossing) -> int:
            return context.evaluate(
                params, self.stats, context.calibration, split, widths, crossing
            ).correct

        widths = shape.widths(self.chosen["ordinals"])[:, design]
        state = {name: array.copy() for name, array in state.items()}
        if not last:
            state["correct"][0, design] = correct(validation, widths)
        else:
            state["correct"][1, design] = correct(context.data.test, widths)
            lower, fraction = split_ordinals(shape, self.chosen["relaxed"][:, design])
            rng = np.random.default_rng([context.config.seed, 6, design])
            rounded = lower + (rng.uniform(size=(ROUNDINGS, len(lower))) < fraction)
            drawn = drawn_assignments(self.chosen, design)
            ordinals = np.repeat(self.chosen["ordinals"][:, [design]], drawn.shape[1], axis=1)
            crossings = context.crossing(self.objective.costs(ordinals, drawn)["crossing"])
            found = [
                correct(validation, shape.widths(row), crossings[:, n % drawn.shape[1]])
                for n, row in enumerate(rounded)
            ]
            state["relaxed_accuracy"][design] = np.mean(found) / len(validation)
        metrics = {
            "design": design,
            "accuracy": state["correct"][0, design] / len(validation),
            "io_bytes": float(self.costs["io_bytes"][design]),
            "energy_pj": float(self.costs["energy_pj"][design]),
        }
        return state, metrics

    def _allowed(self) -> np.ndarray:
        """[designs] whether every layer can be mapped and every budget is kept.

        Raises:
            RunError: if no design is left.
        """
        budgets = self.objective.budgets
        excess = calc_excess(self.costs, budgets) + 0.0 * self.costs["io_bytes"]
        allowed = np.isfinite(self.costs["energy_pj"]) & (excess <= 0)
        if not allowed.any():
            best = {
                name: f"{limit:g} (best found {np.min(self.costs[COSTS[name]]):g})"
                for name, limit in budgets.items()
            }
            raise RunError(f"no design that was found keeps the budgets: {best}")
        return allowed

    def _kept(self, state: dict[str, Any]) -> np.ndarray:
        """Designs that no other dominates and those asked for, by IO bytes, then energy."""
        accuracy = state["correct"][0] / len(self.context.data.validation)
        points = np.stack([-accuracy, self.costs["io_bytes"], self.costs["energy_pj"]], axis=1)
        allowed = np.flatnonzero(self._allowed())
        kept = allowed[moocore.is_nondominated(points[allowed], keep_weakly=False)]
        asked = [index for index in self._answers(state) if index is not None]
        kept = np.unique([*kept, *asked]).astype(int)
        return kept[np.lexsort((points[kept, 2], points[kept, 1]))]

    def _answers(self, state: dict[str, Any]) -> list[int | None]:
        """The design that answers each request; None where none keeps its budget.

        With a preference its own; with budgets alone the most accurate on validation of all that
        keep them, then that of least IO bytes and energy.
        """
        answers: list[int | None] = []
        for number, request in enumerate(self.context.config.requests):
            excess = (
                calc_excess(self.costs, limits_of(request.budget)) + 0.0 * self.costs["io_bytes"]
            )
            keeps = np.flatnonzero(self._allowed() & (excess <= 0))
            if any(request.preference.model_dump().values()):
                keeps = keeps[self.chosen["request"][keeps] == number]
            order = np.lexsort((
                self.costs["energy_pj"][keeps],
                self.costs["io_bytes"][keeps],
                -state["correct"][0, keeps],
            ))  # fmt: skip
            answers.append(int(keeps[order[0]]) if len(keeps) else None)
        return answers

    def _answer_rows(self, state: dict[str, Any], names: dict[int, str]) -> list[dict[str, Any]]:
        """One row for each request: what was asked, and the id of its design; where none keeps the
        budget, what the nearest costs of it.
        """
        rows = []
        for request, index in zip(self.context.config.requests, self._answers(state), strict=True):
            row = {"request": words_of(request), "id": "", "nearest": ""}
            if index is None:
                row["nearest"] = self._nearest(limits_of(request.budget))
            else:
                row["id"] = names[index]
            rows.append(row)
        return rows

    def _nearest(self, limits: dict[str, float]) -> str:
        """The limited costs of the design that exceeds the limits least, in words."""
        excess = calc_excess(self.costs, limits) + 0.0 * self.costs["io_bytes"]
        nearest = int(np.argmin(np.where(self._allowed(), excess, np.inf)))
        costs = cost_columns(self.costs, nearest)
        return ", ".join(f"{name} {costs[COSTS[name]]:g}" for name in limits)

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write front.csv, answers.csv and the designs; all follow from the measurements alone."""
        kept = self._kept(state)
        rows = []
        folder = self.run_dir / DESIGNS
        folder.mkdir(exist_ok=True)
        for number, index in enumerate(kept):
            name = f"d{number:02d}"
            rows.append(self._row(name, int(index), state))
            weights = self._weights(int(index))
            write_atomically(folder / f"{name}.safetensors", save_tensors(weights))
        for stale in folder.iterdir():
            if stale.stem not in {row["id"] for row in rows}:
                stale.unlink()
        write_rows(self.run_dir / FRONT_FILE, rows)
        if self.context.config.requests:
            names = {int(index): row["id"] for index, row in zip(kept, rows, strict=True)}
            write_rows(self.run_dir / ANSWERS_FILE, self._answer_rows(state, names))
        return {"kept": kept, **state}

    def _weights(self, index: int) -> dict[str, np.ndarray]:
        """Flat arrays `params/...` and `stats/...` of one design, norms calibrated for it."""
        params = {name: jnp.asarray(array[index]) for name, array in self.params.items()}
        widths = self.objective.shape.widths(self.chosen["ordinals"])[:, index]
        crossing = self.context.crossing(self.costs["crossing"])[:, index]
        stats = self.context.net.measure(
            params,
            self.stats,
            jnp.asarray(self.context.calibration),
            jnp.asarray(widths, jnp.float32),
            jnp.asarray(crossing, jnp.float32),
        )
        flat = {f"params/{name}": np.asarray(array) for name, array in params.items()}
        return flat | {f"stats/{name}": np.asarray(array) for name, array in stats.items()}

    def _row(self, name: str, index: int, state: dict[str, Any]) -> dict[str, Any]:
        context, chosen = self.context, self.chosen
        preference = {term: float(chosen["preference"][i, index]) for i, term in enumerate(TERMS)}
        ordinals, assignment = chosen["ordinals"][:, index], chosen["assignment"][:, index]
        widths = self.objective.shape.widths(ordinals)
        knobs = self.objective.shape.knobs(ordinals)
        design = describe(context, name, widths, knobs, assignment, preference)
        design.save(self.run_dir / DESIGNS / f"{name}.yaml")
        row: dict[str, Any] = {"id": name}
        for part, split, correct in (
            ("validation", context.data.validation, state["correct"][0, index]),
            ("test", context.data.test, state["correct"][1, index]),
        ):
            row |= interval_columns(part, int(correct), split)
        row |= cost_columns(self.costs, index)
        row["relaxed_validation_accuracy"] = float(state["relaxed_accuracy"][index])
        drawn = drawn_assignments(chosen, index)
        extended = extended_costs(self.objective, chosen["relaxed"][:, index], drawn)
        row |= {f"relaxed_{column}": extended[column] for column in COST_COLUMNS}
        gaps = chosen["gaps"][:, index]
        row |= {
            "assignment_gap_before": float(gaps[0]),
            "assignment_gap_after": float(gaps[1]),
            "hardware_gap": float(gaps[2]),
        }
        for name, gap in zip(("before", "after"), self.proved[:, index], strict=True):
            row[f"proved_gap_{name}"] = float(gap) if np.isfinite(gap) else ""
        crossing = self.costs["crossing"]
        for i, boundary in enumerate(context.boundaries):
            edges = [
                e
                for e, edge in enumerate(self.objective.problem.edges)
                if edge.tensor == boundary.tensor
            ]
            row[f"width_{boundary.name}"] = int(widths[i])
            row[f"crossing_{boundary.name}"] = int(crossing[edges, index].any())
        row |= {f"core_{layer}": core for layer, core in design.assignment.items()}
        for kind, sizes in design.hardware.items():
            row |= {f"knob_{kind}_{knob}": size for knob, size in sizes.items()}
        row |= {f"preference_{term}": weight for term, weight in preference.items()}
        return row


def drawn_assignments(chosen: dict[str, Any], design: int) -> np.ndarray:
    """[layers, draws] of the relaxed assignment; the final one where only that is known."""
    if "drawn" in chosen:
        return chosen["drawn"][:, :, design]
    return chosen["assignment"][:, [design]]


def extended_costs(
    objective: DesignObjective, relaxed: np.ndarray, drawn: np.ndarray
) -> dict[str, float]:
    """The multilinear extension of each cost at a relaxed design, mean over drawn assignments.

    Args:
        objective: exact costs.
        relaxed: [ordinals] real.
        drawn: [layers, draws].
    """
    corners, chances = extension_corners(objective.shape, relaxed)
    total: dict[str, float] = dict.fromkeys(COST_COLUMNS, 0.0)
    for assignment in drawn.T:
        tiled = np.repeat(assignment[:, None], corners.shape[1], axis=1)
        costs = objective.costs(corners, tiled)
        costs["throughput_per_s"] = 1.0 / costs["interval_s"]
        for name in COST_COLUMNS:
            total[name] += float(np.sum(costs[name] * chances)) / drawn.shape[1]
    return total
