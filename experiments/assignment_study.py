"""How well assignments are found without an exact solver, on 200 random instances.

Question: does a relaxation followed by moves and swaps come within 2 % of the proved optimum on
average, and how far off is each relaxation by itself, next to equal split and greedy?

    python experiments/assignment_study.py prove            # optima or bounds, by milp
    python experiments/assignment_study.py run greedy cuts  # methods, raw and with search
    python experiments/assignment_study.py run cuts --proved  # where the optimum is proved alone
    python experiments/assignment_study.py draw             # table and figure from the CSV files

`prove` and `run` continue where they stopped: one row for each instance, appended.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from pathlib import Path

import numpy as np

from costs.annealing import anneal
from costs.instance_cost import CostTables, calc_objective
from costs.local_search import improve
from costs.milp import solve_milp
from costs.random_instance import random_instance
from dse.assignment_solvers import find_solver

FOLDER = Path(__file__).parent / "results" / "assignment_study"
INSTANCES = range(200)
PROOF_GAP = 1e-3  # value and bound this close count as proved
PROOFS = ("instance", "layers", "cores", "links", "value", "bound", "seconds")
ANSWERS = ("instance", "method", "raw", "descended", "annealed", "seconds", "search_seconds")


def prove(limit_s: float) -> None:
    """Optima, or the bounds that are proved in time, of the instances that lack them."""
    for seed in _missing(FOLDER / "proofs.csv", lambda row: True):
        instance = random_instance(seed)
        layers, cores = instance.shape
        fastest = np.argmin(np.where(instance.possible, instance.layers.time_s, np.inf), axis=1)
        known = anneal(instance, fastest, steps=3000, seed=1000 + seed)
        found = solve_milp(instance, known=known, time_limit_s=limit_s, gap=PROOF_GAP)
        links = instance.name.rsplit("-", 1)[1]
        row = (seed, layers, cores, links, found.value, found.bound, round(found.seconds, 2))
        _append(FOLDER / "proofs.csv", PROOFS, row)


def run(method: str, steps: int, proved: bool) -> None:
    """What a method answers, by itself and followed by the search."""
    solve = find_solver(method)
    missing = _missing(FOLDER / "answers.csv", lambda row: row["method"] == method)
    for seed in sorted(set(missing) & _proved()) if proved else missing:
        instance = random_instance(seed)
        start = time.perf_counter()
        raw = solve(instance, seed=seed)
        solved = time.perf_counter()
        tables = CostTables.of(instance)
        descended = improve(tables, raw)
        annealed = anneal(tables, raw, steps=steps, seed=seed)
        end = time.perf_counter()
        values = calc_objective(tables, np.stack([raw, descended, annealed], axis=1))
        row = (seed, method, *values.tolist(), round(solved - start, 3), round(end - solved, 3))
        _append(FOLDER / "answers.csv", ANSWERS, row)


def _proved() -> set[int]:
    rows = _read(FOLDER / "proofs.csv")
    near = 1 + 2 * PROOF_GAP
    return {int(r["instance"]) for r in rows if float(r["value"]) <= float(r["bound"]) * near}


def draw() -> None:
    """The table and the figure."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    proofs = {int(row["instance"]): row for row in _read(FOLDER / "proofs.csv")}
    answers = _read(FOLDER / "answers.csv")
    bound = {i: float(row["bound"]) for i, row in proofs.items()}
    proved = _proved()
    methods = list(dict.fromkeys(row["method"] for row in answers))
    # the optimum is no higher, so that a gap to the best known is a lower limit of the true gap
    best = {i: float(row["value"]) for i, row in proofs.items()}
    for row in answers:
        number = int(row["instance"])
        best[number] = min(best.get(number, np.inf), float(row["annealed"]))
    lines = [
        f"{len(proofs)} instances tried, {len(proved)} proved to {PROOF_GAP:.1%}; gaps are over the"
        " bound, which is at most the optimum",
        "",
        "| method | raw mean | worst | no fit | moves and swaps mean | worst"
        " | annealed moves and swaps mean | worst | all 200, over the best known, mean"
        " | s per instance: method | search |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    gaps: dict[str, np.ndarray] = {}
    for method in methods:
        rows = [row for row in answers if row["method"] == method]
        inside = [row for row in rows if int(row["instance"]) in proved]

        def over(kind: str, rows: list[dict[str, str]]) -> np.ndarray:
            return np.array([float(r[kind]) / bound[int(r["instance"])] - 1 for r in rows])

        raw = over("raw", inside)
        fits = np.isfinite(raw)
        descended, gaps[method] = over("descended", inside), over("annealed", inside)
        known = [float(r["annealed"]) / best[int(r["instance"])] - 1 for r in rows]
        every = f"{np.mean(known):.2%}" if len(rows) == len(INSTANCES) else "not run"
        taken = [np.mean([float(r[k]) for r in rows]) for k in ("seconds", "search_seconds")]
        finite = descended[np.isfinite(descended)]
        lines.append(
            f"| {method} | {raw[fits].mean():.1%} | {raw[fits].max():.1%} | {(~fits).sum()} of"
            f" {len(inside)} | {finite.mean():.1%} | {finite.max():.1%} |"
            f" {gaps[method].mean():.2%} | {gaps[method].max():.1%} | {every} |"
            f" {taken[0]:.2f} | {taken[1]:.2f} |"
        )
    (FOLDER / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for method in methods:
        rows = [r for r in answers if r["method"] == method and int(r["instance"]) in proved]
        for axis, kind in zip(axes, ("raw", "annealed"), strict=True):
            values = [float(r[kind]) / bound[int(r["instance"])] - 1 for r in rows]
            shown = np.sort([100 * v for v in values if np.isfinite(v)])
            axis.plot(np.maximum(shown, 0.01), np.linspace(0, 1, len(shown)), label=method)
    for axis, title in zip(axes, ("by itself", "followed by moves and swaps"), strict=True):
        axis.set(xscale="log", xlabel="over the proved optimum [%]", title=title, ylim=(0, 1))
        axis.axvline(2.0, color="0.6", linewidth=1)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("part of the proved instances")
    axes[0].legend()
    figure.savefig(FOLDER / "gaps.png", dpi=150)


def _missing(path: Path, mine) -> list[int]:
    done = {int(row["instance"]) for row in _read(path) if mine(row)}
    return [seed for seed in INSTANCES if seed not in done]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def _append(path: Path, header: tuple[str, ...], row: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(header)
        writer.writerow(row)


def main() -> None:
    """One of prove, run and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("prove", "run", "draw"))
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--limit", type=float, default=15.0, help="of a proof [s]")
    parser.add_argument("--steps", type=int, default=1000, help="of the annealed search")
    parser.add_argument("--proved", action="store_true", help="run where the optimum is proved")
    args = parser.parse_args()
    print(f"{platform.machine()}, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}")
    if args.what == "prove":
        prove(args.limit)
    elif args.what == "run":
        for method in args.methods:
            run(method, args.steps, args.proved)
    else:
        draw()


if __name__ == "__main__":
    main()
