"""Core types: the few cores of a sweep that serve all networks together.

The choice of k core types is exact: among all subsets of k cores the one whose geometric mean over
networks, each on the best core of the subset, is least.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from costs.errors import InputError
from dse.core_sweep import Sweep

GOALS = ("energy_pj", "edp_pjs")
MOST_SUBSETS = 20_000_000


def choose_types(values: np.ndarray, count: int) -> tuple[int, ...]:
    """The `count` cores whose best, network by network, has the least geometric mean.

    Cores that another core undercuts or equals on every network are left out first, which loses
    nothing; of the others all subsets are compared.

    Args:
        values: [networks, cores] what is to be small, above 0; infinite where a network does not
            run.
        count: number of core types.

    Raises:
        InputError: more types than cores, or too many subsets to compare.
    """
    if count > values.shape[1]:
        raise InputError(key="types", value=count, allowed=f"at most the {values.shape[1]} cores")
    scores = np.log(values)
    order = np.argsort(scores.sum(axis=0), kind="stable")
    kept: list[int] = []
    for core in order:
        if not any((scores[:, k] <= scores[:, core]).all() for k in kept):
            kept.append(int(core))
    if len(kept) < count:
        kept += [int(core) for core in order if core not in kept][: count - len(kept)]
    total = np.prod([len(kept) - i for i in range(count)]) / np.prod(range(1, count + 1))
    if total > MOST_SUBSETS:
        raise InputError(
            f"{total:.3g} subsets of {len(kept)} cores are too many to compare",
            key="types",
            value=count,
            allowed="fewer types or fewer sizes",
        )
    best, found = np.inf, ()
    subsets = itertools.combinations(kept, count)
    while chunk := list(itertools.islice(subsets, 100_000)):
        value = scores[:, np.array(chunk)].min(axis=-1).sum(axis=0)
        if value.min() < best:
            best, found = value.min(), chunk[int(value.argmin())]
    return tuple(sorted(found))


@dataclass(frozen=True)
class Choice:
    """One row of choices.csv: a network on the core types chosen for a goal.

    Attributes:
        goal: `energy_pj` or `edp_pjs`.
        types: number of core types.
        network: its name.
        core: the core of the choice on which it runs.
        value: what it costs there.
        single: what it costs on the best single core.
        best: what it costs on the best core of the sweep for it alone.
        best_core: that core.
    """

    goal: str
    types: int
    network: str
    core: str
    value: float
    single: float
    best: float
    best_core: str

    @property
    def saved(self) -> float:
        """Part of the cost that is saved against the best single core [1]; may be negative."""
        return 1.0 - self.value / self.single


def list_choices(sweep: Sweep, counts: Iterable[int]) -> list[Choice]:
    """Every network on the best one, two, three.. core types, for both goals."""
    rows = []
    for goal in GOALS:
        values = sweep.values(goal)
        (single,) = choose_types(values, 1)
        for count in counts:
            chosen = list(choose_types(values, count))
            for n, network in enumerate(sweep.networks):
                core = chosen[int(np.argmin(values[n, chosen]))]
                best = int(np.argmin(values[n]))
                rows.append(
                    Choice(
                        goal,
                        count,
                        network,
                        sweep.cores[core].label,
                        float(values[n, core]),
                        float(values[n, single]),
                        float(values[n, best]),
                        sweep.cores[best].label,
                    )
                )
    return rows


def write_choices(path: Path, rows: Iterable[Choice]) -> None:
    """The rows of `list_choices` as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*Choice.__dataclass_fields__, "saved"))
        for row in rows:
            writer.writerow((*vars(row).values(), row.saved))


def compare_single(sweep: Sweep) -> list[dict[str, float | str]]:
    """For each goal what a network saves on its own best core, by the core it would run on else.

    That core is the best single one for all, the cores of the sweep on average (geometric mean),
    or the one that is best for another network (each other network in turn).
    """
    rows: list[dict[str, float | str]] = []
    for goal in GOALS:
        values = sweep.values(goal)
        best = values.min(axis=1, keepdims=True)
        others = values[:, values.argmin(axis=1)]
        finite = np.where(np.isfinite(values), values, np.nan)
        (single,) = choose_types(values, 1)
        instead = {
            "best single core": values[:, [single]],
            "all cores, mean": np.exp(np.nanmean(np.log(finite), axis=1, keepdims=True)),
            "best core of another network": np.where(np.eye(len(best), dtype=bool), np.nan, others),
        }
        for name, cost in instead.items():
            saved = 1.0 - best / cost
            largest = int(np.nanargmax(saved)) // saved.shape[1]
            rows.append(
                {
                    "goal": goal,
                    "instead_of": name,
                    "largest_saved": float(np.nanmax(saved)),
                    "network": sweep.networks[largest],
                    "mean_saved": float(np.nanmean(saved)),
                }
            )
    return rows


def summarise(rows: Iterable[Choice]) -> list[dict[str, float | str]]:
    """For each goal and number of types: largest and mean saving, and the distance to the best.

    `mean_saved` follows from the geometric mean, which the choice minimises.
    """
    groups: dict[tuple[str, int], list[Choice]] = {}
    for row in rows:
        groups.setdefault((row.goal, row.types), []).append(row)
    return [
        {
            "goal": goal,
            "types": types,
            "cores": "; ".join(dict.fromkeys(row.core for row in part)),
            "largest_saved": max(row.saved for row in part),
            "mean_saved": 1.0 - float(np.exp(np.mean([np.log(r.value / r.single) for r in part]))),
            "above_own_best": float(np.exp(np.mean([np.log(r.value / r.best) for r in part])))
            - 1.0,
        }
        for (goal, types), part in groups.items()
    ]
