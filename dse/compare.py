"""The surface against its baselines: equal passes, equal numbers of points, paired seeds.

Every (method, seed) is a cell, kept in a file of its own, so that a comparison that was stopped
goes on where it was. Designs are chosen on validation pictures and scored on test pictures, and
nothing is filtered by the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from scipy import stats

from costs.errors import InputError
from dse import baselines
from dse.baselines import Design, Trial
from dse.context import Context, make_context
from dse.experiment_spec import Experiment
from dse.finetune import FinetunePhase
from dse.greedy import greedy
from dse.handover import chosen_designs, final_params, objective_of
from dse.joint import JointPhase
from dse.policy import PolicyPhase
from dse.predictor import PredictorPhase
from dse.selection import SelectionPhase, most_measured
from dse.study import decisive, kept_cell
from dse.tables import TablesPhase
from dse.weights import WeightsPhase

EIGHT = "independent 8x"
COSTS = ("io_bytes", "energy_pj")


def surface(trial: Trial) -> list[Design]:
    """`method: surface`, all four phases."""
    context = trial.context
    phases = [
        WeightsPhase(context),
        PredictorPhase(context),
        PolicyPhase(context),
        SelectionPhase(context),
        FinetunePhase(context),
    ]
    outputs = baselines.run_phases(phases, trial.outputs)
    trial.spent = surface_passes(context)
    return taken(outputs)


def surface_passes(context: Context) -> float:
    """What a surface spends, measuring designs included."""
    part, batch = context.config.surface, context.config.training.batch
    calibration, validation = len(context.calibration), len(context.data.validation)
    few = part.predictor.pictures or calibration + validation
    predictor = min(few, calibration) + min(few, validation)
    looks = most_measured(part.selection)
    if part.finetune.steps:
        looks += 2 * part.selection.designs
    pictures = part.predictor.designs * predictor + looks * (calibration + validation)
    steps = part.weights.steps + part.finetune.together
    steps += part.selection.designs * part.finetune.steps
    return steps + baselines.FORWARD * pictures / batch


def independent(trial: Trial, runs: int) -> list[Design]:
    """`method: joint`, one run for each of so many preferences."""
    steps = int(trial.passes // runs)
    joint = trial.context.config.joint.model_copy(update={"steps": steps})
    config = trial.context.config.model_copy(update={"joint": joint})
    phase = JointPhase(replace(trial.context, config=config))
    phase.bind(trial.outputs)
    designs = []
    for preference in baselines.spread_preferences(runs):
        phase.preference = preference.astype(np.float32)
        designs += taken({**trial.outputs, "joint": baselines.run_bound(phase, trial.outputs)})
        trial.spent += steps
    return designs


def taken(outputs: dict[str, Any]) -> list[Design]:
    """The designs of a run's outputs."""
    chosen, params = chosen_designs(outputs), final_params(outputs)
    return [
        Design(
            chosen["ordinals"][:, i],
            chosen["assignment"][:, i],
            {name: array[i] for name, array in params.items()},
        )
        for i in range(chosen["ordinals"].shape[1])
    ]


METHODS: dict[str, tuple[Callable[[Trial], list[Design]], float]] = {
    "surface": (surface, 1.0),
    "independent 4": (lambda trial: independent(trial, 4), 1.0),
    "independent 8": (lambda trial: independent(trial, 8), 1.0),
    EIGHT: (lambda trial: independent(trial, 8), 8.0),
    "uniform": (baselines.uniform, 1.0),
    "random": (baselines.random_widths, 1.0),
    "greedy": (greedy, 1.0),
    "sequential": (baselines.sequential, 1.0),
}
"""Method -> (what runs it, its passes in those of the surface)."""


def run_cell(context: Context, outputs: dict[str, Any], method: str) -> list[dict[str, Any]]:
    """The designs of one method, scored.

    Args:
        context: the experiment at one seed.
        outputs: what its tables phase left.
        method: of `METHODS`.

    Returns:
        Rows with method, seed, design, accuracies, costs, whether validation keeps it, passes
        spent, and the costs of the unconstrained design.
    """
    unconstrained = outputs["tables"]["reference_costs"]
    reference = {f"reference_{name}": float(unconstrained[name]) for name in COSTS}
    function, factor = METHODS[method]
    trial = Trial(
        context,
        objective_of(context, outputs),
        outputs,
        factor * surface_passes(context),
        context.config.surface.selection.designs,
    )
    designs = function(trial)
    rows = [
        {"method": method, "seed": trial.seed, **score(trial, d, i)} for i, d in enumerate(designs)
    ]
    points = np.array([[-r["validation_accuracy"], r["io_bytes"], r["energy_pj"]] for r in rows])
    kept = moocore.is_nondominated(points, keep_weakly=False)
    return [
        {**row, "kept": int(keep), "passes": round(trial.spent, 1), **reference}
        for row, keep in zip(rows, kept, strict=True)
    ]


def score(trial: Trial, design: Design, number: int) -> dict[str, Any]:
    """Accuracies and costs of one design."""
    context = trial.context
    fresh = context.net.init(baselines.jax.random.key(trial.seed))[1]
    gates = trial.gates(design.ordinals, design.assignment)
    costs = trial.objective.costs(design.ordinals[:, None], design.assignment[:, None])
    accuracy = {
        name: context.evaluate(design.params, fresh, context.calibration, split, *gates).correct
        / len(split)
        for name, split in (("validation", context.data.validation), ("test", context.data.test))
    }
    return {
        "design": number,
        "validation_accuracy": accuracy["validation"],
        "test_accuracy": accuracy["test"],
        "io_bytes": float(costs["io_bytes"][0]),
        "energy_pj": float(costs["energy_pj"][0]),
    }


def run_cells(
    config: Experiment,
    methods: Sequence[str],
    seeds: int,
    folder: Path,
    progress: Callable[[str, int, int, int], None],
) -> list[dict[str, Any]]:
    """All cells, those that stand in the folder taken from there, also if none asks for them now.

    Args:
        config: an experiment with `method: surface`.
        methods: of `METHODS`.
        seeds: paired seeds, from the experiment's own on.
        folder: where each cell is kept; methods may have fewer seeds than others.
        progress: told (method, seed, number, of) before each.

    Raises:
        InputError: if the folder holds cells of another experiment, or a method is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise InputError(key="--method", value=method, allowed=list(METHODS))
    if config.network.ratio is not None:
        raise InputError(
            "the methods choose widths",
            key="network.ratio",
            value=config.network.ratio,
            allowed="null",
        )
    if config.hardware.mode == "shared":
        raise InputError(
            "the methods choose the hardware of each design",
            key="hardware.mode",
            value="shared",
            allowed="per_design, fixed",
        )
    folder.mkdir(parents=True, exist_ok=True)
    cells = [(m, config.seed + s) for s in range(seeds) for m in methods]
    asked = len(cells)
    for method in METHODS:
        kept = folder.glob(f"{method.replace(' ', '_')}-*.json")
        numbers = [file.stem.rpartition("-")[2] for file in kept]
        there = sorted(int(number) for number in numbers if number.isdecimal())
        cells += [(method, seed) for seed in there if (method, seed) not in cells]
    rows = []

    shared = make_context(config)
    passes = surface_passes(shared)
    tables = lru_cache(lambda: baselines.run_phases([TablesPhase(shared)], {}))

    @lru_cache(maxsize=1)  # what is compiled serves all methods of a seed
    def context_of(seed: int) -> Context:
        return replace(shared, config=config.model_copy(update={"seed": seed}))

    for number, (method, seed) in enumerate(cells):
        file = folder / f"{method.replace(' ', '_')}-{seed}.json"

        def make(method: str = method, seed: int = seed, number: int = number) -> list[dict]:
            progress(method, seed, number + 1, asked)
            return run_cell(context_of(seed), tables(), method)

        rows += kept_cell(file, settings_of(config, method, passes), make)
    return rows


def settings_of(config: Experiment, method: str, passes: float) -> dict[str, Any]:
    """What the cells of a method depend on, beside the seed: of the surface's own settings most
    baselines see only how much it spends and how many designs it gives.

    Args:
        config: the experiment.
        method: of `METHODS`.
        passes: of the surface.
    """
    given = decisive(config, exclude={"seed"})
    if method not in ("surface", "greedy"):
        del given["surface"]
    if not method.startswith("independent"):
        del given["joint"]
    return {**given, "passes": round(passes), "designs": config.surface.selection.designs}


def reference_point(rows: Sequence[Mapping[str, Any]], costs: Mapping[str, float]) -> np.ndarray:
    """[3] the worst that counts, in the units of `points`.

    Accuracy: the least of the designs of the independent runs at equal passes that move the fewest
    bytes, one for each seed; costs: of the unconstrained design.
    """
    narrow = []
    for method in ("independent 4", "independent 8"):
        for seed in {row["seed"] for row in rows if row["method"] == method}:
            mine = [row for row in rows if row["method"] == method and row["seed"] == seed]
            narrow.append(min(mine, key=lambda row: row["io_bytes"])["test_accuracy"])
    error = 1.0 - min(narrow) if narrow else 1.0
    return np.array([error, np.log(costs["io_bytes"]), np.log(costs["energy_pj"])])


def points(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """[n, 3] test error, log bytes, log energy of the designs kept on validation."""
    return np.array(
        [
            [1.0 - row["test_accuracy"], np.log(row["io_bytes"]), np.log(row["energy_pj"])]
            for row in rows
            if row["kept"]
        ]
    ).reshape(-1, 3)


def reference_costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Costs of the unconstrained design, as the rows carry them."""
    return {name: float(rows[0][f"reference_{name}"]) for name in COSTS}


def volumes(rows: Sequence[Mapping[str, Any]], reference: np.ndarray) -> dict[str, np.ndarray]:
    """Method -> hypervolume of each seed, by seed."""
    return {
        method: np.array([moocore.hypervolume(s, ref=reference) for s in sets_of(rows, method)])
        for method in dict.fromkeys(row["method"] for row in rows)
    }


def sets_of(rows: Sequence[Mapping[str, Any]], method: str) -> list[np.ndarray]:
    """Points of one method, a set for each of its seeds, by seed."""
    mine = [row for row in rows if row["method"] == method]
    seeds = sorted({row["seed"] for row in mine})
    return [points([row for row in mine if row["seed"] == seed]) for seed in seeds]


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each method: hypervolume, IGD+, and the paired difference to the surface.

    Args:
        rows: of `run_cells`, the surface among them; a method may have fewer seeds than it, which
            are its first, and is compared in these.
    """
    reference = reference_point(rows, reference_costs(rows))
    everything = points(rows)
    ideal = everything[moocore.is_nondominated(everything, keep_weakly=False)]
    volume = volumes(rows, reference)
    found = []
    for method in volume:
        seeds = len(volume[method])
        low, high = paired_interval(volume["surface"][:seeds] - volume[method])
        mine = [row for row in rows if row["method"] == method]
        found.append(
            {
                "method": method,
                "hypervolume": float(volume[method].mean()),
                "igd_plus": float(
                    np.mean([moocore.igd_plus(s, ref=ideal) for s in sets_of(rows, method)])
                ),
                "surface_minus_this_low": low,
                "surface_minus_this_high": high,
                "designs_kept": sum(row["kept"] for row in mine) / seeds,
                "passes": float(np.mean([row["passes"] for row in mine])),
                "seeds": seeds,
            }
        )
    return found


def paired_interval(differences: np.ndarray) -> tuple[float, float]:
    """Student's 95 % interval of the mean of paired differences; of one pair, that value twice."""
    mean = float(np.mean(differences))
    if len(differences) < 2 or np.ptp(differences) == 0:
        return mean, mean
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return mean - float(half), mean + float(half)
