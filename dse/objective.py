"""What is minimised: task loss and log costs, weighted by a preference, under hard budgets.

Every cost enters as log(cost / reference), the reference being one stored design, so that
optimizing hardware cannot move its own yardstick.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from costs.ordered import ordered_sum

COSTS = {
    "io_bytes": "io_bytes",
    "energy": "energy_pj",
    "latency": "latency_s",
    "area": "area_mm2",
}
"""Name in a preference or budget -> name among the costs of a chip."""

TERMS = ("task", *COSTS)
"""Order of a preference vector; its entries are positive and sum to one."""

CORNER_SHARE = 0.2  # of random preferences: almost all weight on one term


def calc_terms(task: Any, costs: dict, reference: dict, task_scale: float, xp: Any = np) -> list:
    """The terms of the objective, in the order of `TERMS`.

    Args:
        task: [designs] cross-entropy [nat].
        costs: of `calc_chip_cost`.
        reference: cost of the reference design, by the same names.
        task_scale: how many units of log cost one nat of cross-entropy weighs.
        xp: numpy or jax.numpy.

    Returns:
        One array [designs] for each term: scaled task loss, then log(cost / reference).
    """
    logs = [xp.log(costs[name] / reference[name]) for name in COSTS.values()]
    return [task * task_scale, *logs]


def scalarise(preference: Any, terms: list, kind: str, smoothness: float, xp: Any = np) -> Any:
    """One number to minimise, for each design.

    Args:
        preference: [5, designs] or [5, 1], in the order of `TERMS`.
        terms: of `calc_terms`.
        kind: `linear` (weighted sum) or `tchebycheff` (smooth maximum of the weighted terms, which
            reaches concave parts of the front; Lin et al., ICML 2024).
        smoothness: temperature of the smooth maximum.
        xp: numpy or jax.numpy.
    """
    weighted = [preference[i] * term for i, term in enumerate(terms)]
    if kind == "linear":
        return ordered_sum(weighted)
    stacked = xp.stack([w / smoothness for w in weighted])
    top = stacked.max(axis=0)
    return smoothness * (top + xp.log(xp.exp(stacked - top).sum(axis=0)))


def calc_excess(costs: dict, budgets: dict[str, float], xp: Any = np) -> Any:
    """[designs] sum over the exceeded budgets of log(cost / budget); zero where all are met.

    Args:
        costs: of `calc_chip_cost`.
        budgets: limit by the names of `COSTS`, in that cost's unit.
        xp: numpy or jax.numpy.
    """
    return ordered_sum(
        xp.maximum(xp.log(costs[COSTS[name]] / limit), 0.0) for name, limit in budgets.items()
    )


def sample_preferences(
    rng: np.random.Generator, count: int, terms: list[str], corner_share: float = CORNER_SHARE
) -> np.ndarray:
    """[5, count] preferences over task and given costs, uniform on the simplex plus corners."""
    active = [0, *(TERMS.index(term) for term in terms)]
    weights = rng.dirichlet(np.ones(len(active)), size=count)
    corner = np.eye(len(active))[rng.integers(len(active), size=count)]
    near = rng.uniform(size=(count, 1)) < corner_share
    weights = np.where(near, 0.1 * weights + 0.9 * corner, weights)
    full = np.zeros((len(TERMS), count), np.float32)
    full[active] = weights.T
    return full
