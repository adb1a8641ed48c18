"""How well assignments are found without an exact solver, on 200 random instances.

Question: does a relaxation followed by moves and swaps come within 2 % of the optimum on average,
and how far off is each relaxation by itself, next to equal split and greedy?

    python experiments/assignment_study.py bound             # lower bounds, by sets of layers
    python experiments/assignment_study.py prove             # and by milp, some seconds each
    python experiments/assignment_study.py run softmax cuts  # methods, raw and with search
    python experiments/assignment_study.py draw              # table and figure from the CSV files

`bound`, `prove` and `run` continue where they stopped: one row for each instance, appended. Several
may run side by side with --part 0/2, --part 1/2. No assignment is below its instance's bound, so
that a gap over the bound is at least the gap over the optimum.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from costs.annealing import anneal
from costs.instance_cost import CostTables, calc_objective
from costs.interval_bound import CLOSED, bound_interval
from costs.local_search import assign_greedily
from costs.milp import solve_milp
from costs.random_instance import random_instance
from dse.assignment_solvers import find_solver

FOLDER = Path(__file__).parent / "results" / "assignment_study"
INSTANCES = range(200)
BOUNDS = ("instance", "layers", "cores", "links", "value", "bound", "cpu_s")
PROOFS = (*BOUNDS[:-1], "seconds")
ANSWERS = ("instance", "method", "raw", "searched", "cpu_s", "search_cpu_s", "cores")


def bound(part: slice) -> None:
    """Lower bounds of the instances that lack them, from the answers that are there."""
    answers = _read(FOLDER / "answers.csv")
    for seed in _missing(FOLDER / "bounds.csv", INSTANCES[part], lambda row: True):
        instance = random_instance(seed)
        layers, cores = instance.shape
        known = [list(map(int, r["cores"])) for r in answers if int(r["instance"]) == seed]
        known = np.array(known or [anneal(instance, assign_greedily(instance), seed=seed)]).T
        value = calc_objective(instance, known).min()
        start = time.process_time()
        proved = bound_interval(instance, known)
        spent = round(time.process_time() - start, 2)
        links = instance.name.rsplit("-", 1)[1]
        _append(FOLDER / "bounds.csv", BOUNDS, (seed, layers, cores, links, value, proved, spent))


def prove(part: slice, limit_s: float) -> None:
    """Bounds by milp of what is still open, from the best known: small ones first, rings last."""

    def effort(seed: int) -> tuple[bool, int]:
        layers, cores = random_instance(seed).shape
        return random_instance(seed).name.endswith("ring") and cores > 4, layers * cores

    for seed in sorted(INSTANCES[part], key=effort):
        instance = random_instance(seed)
        layers, cores = instance.shape
        mine = [r for r in _read(FOLDER / "answers.csv") if int(r["instance"]) == seed]
        best = min(mine, key=lambda row: float(row["searched"]), default=None)
        known = (
            list(map(int, best["cores"])) if best else anneal(instance, assign_greedily(instance))
        )
        value = float(calc_objective(instance, np.array(known)[:, None])[0])
        tried = [r for r in _read(FOLDER / "proofs.csv") if int(r["instance"]) == seed]
        bounds = [r for r in _read(FOLDER / "bounds.csv") if int(r["instance"]) == seed]
        least = max((float(r["bound"]) for r in tried + bounds), default=0.0)
        longest = max((float(r["seconds"]) for r in tried), default=0.0)
        if (
            least >= min([value, *(float(r["value"]) for r in tried)]) * (1 - CLOSED)
            or longest >= 0.9 * limit_s
        ):
            continue
        found = solve_milp(instance, known=np.array(known), time_limit_s=limit_s, gap=CLOSED)
        links = instance.name.rsplit("-", 1)[1]
        row = (seed, layers, cores, links, found.value, found.bound, round(found.seconds, 2))
        _append(FOLDER / "proofs.csv", PROOFS, row)
        print(*row, f"gap {found.value / max(least, found.bound) - 1:.2%}", flush=True)


def run(method: str, part: slice) -> None:
    """What a method answers, by itself and followed by the search."""
    solve = find_solver(method)
    mine = FOLDER / "answers.csv", INSTANCES[part], lambda row: row["method"] == method
    for seed in _missing(*mine):
        instance = random_instance(seed)
        start = time.process_time()
        raw = solve(instance, seed=seed)
        solved = time.process_time()
        tables = CostTables.of(instance)
        searched = anneal(tables, raw, seed=seed)
        end = time.process_time()
        values = calc_objective(tables, np.stack([raw, searched], axis=1))
        spent = round(solved - start, 3), round(end - solved, 3)
        row = (seed, method, *values.tolist(), *spent, "".join(map(str, searched)))
        _append(FOLDER / "answers.csv", ANSWERS, row)


def draw() -> None:
    """The tables and the figure."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    proofs = {int(row["instance"]): row for row in _read(FOLDER / "bounds.csv")}
    answers = [row for row in _read(FOLDER / "answers.csv") if int(row["instance"]) in proofs]
    lower = {i: float(row["bound"]) for i, row in proofs.items()}
    best = {i: float(row["value"]) for i, row in proofs.items()}
    for row in _read(FOLDER / "proofs.csv"):
        i = int(row["instance"])
        if i in lower:
            lower[i] = max(lower[i], float(row["bound"]))
            best[i] = min(best[i], float(row["value"]))
    for row in answers:
        i = int(row["instance"])
        best[i] = min(best[i], float(row["searched"] or "inf"))
    known = np.array([best[i] / lower[i] - 1 for i in proofs])
    closed = {i for i in proofs if best[i] * (1 - CLOSED) <= lower[i] * (1 + 1e-9)}
    lines = [
        f"{len(proofs)} instances, {len(closed)} closed to {CLOSED:.1%}; the best known is"
        f" {known.mean():.2%} above the bound on average, {known.max():.1%} at worst. All gaps are"
        " over the bound: no gap over the optimum is larger.",
        "",
        "| method | raw on | mean | worst | no fit | with moves and swaps on | mean | worst"
        " | where closed: mean | worst | CPU s: method | search |",
        "|" + "---|" * 12,
    ]
    methods = list(dict.fromkeys(row["method"] for row in answers))
    gaps: dict[str, dict[str, np.ndarray]] = {}
    for method in methods:
        rows = [row for row in answers if row["method"] == method]
        over = {
            kind: np.array([float(r[kind] or "nan") / lower[int(r["instance"])] - 1 for r in rows])
            for kind in ("raw", "searched")
        }
        gaps[method] = over
        raw, ran = over["raw"][np.isfinite(over["raw"])], ~np.isnan(over["searched"])
        searched = over["searched"][ran]
        inside = over["searched"][ran & [int(r["instance"]) in closed for r in rows]]
        cells = [method, len(rows), f"{raw.mean():.1%}", f"{raw.max():.1%}", len(rows) - len(raw)]
        if ran.any():
            of = [r for r, here in zip(rows, ran, strict=True) if here]
            spent = [np.mean([float(r[k]) for r in of]) for k in ("cpu_s", "search_cpu_s")]
            cells += [ran.sum(), f"{searched.mean():.2%}", f"{searched.max():.1%}"]
            cells += [f"{inside.mean():.2%}", f"{inside.max():.1%}", *(f"{s:.2f}" for s in spent)]
        else:
            cells += [0, *["not run"] * 6]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        "| links | cores | instances | closed | best known over the bound: mean | worst |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for links in sorted({row["links"] for row in proofs.values()}):
        for cores in ((2, 3), (4, 5), (6, 7, 8)):
            of = [i for i, r in proofs.items() if r["links"] == links and int(r["cores"]) in cores]
            if of:
                each = [best[i] / lower[i] - 1 for i in of]
                lines.append(
                    f"| {links} | {cores[0]} to {cores[-1]} | {len(of)} | {len(closed & set(of))} |"
                    f" {np.mean(each):.2%} | {np.max(each):.1%} |"
                )
    (FOLDER / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    titles = {"raw": "by itself", "searched": "followed by moves and swaps"}
    for axis, (kind, title) in zip(axes, titles.items(), strict=True):
        for number, method in enumerate(methods):
            values = 100 * gaps[method][kind]
            values = np.sort(values[~np.isnan(values)])  # infinite where the weights do not fit
            shown = np.maximum(values[np.isfinite(values)], 0.05)
            if len(shown):
                axis.plot(
                    shown,
                    np.arange(1, len(shown) + 1) / len(values),
                    label=method,
                    color=f"C{number}",
                )
        axis.set(xscale="log", xlabel="above the proved bound [%]", title=title, ylim=(0, 1))
        axis.axvline(2.0, color="0.6", linewidth=1)
        axis.text(2.1, 0.03, "target: 2 % on average", color="0.4", fontsize="small")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("part of the instances")
    axes[0].legend()
    figure.savefig(FOLDER / "gaps.png", dpi=150)


def _missing(path: Path, instances: range, mine: Callable[[dict[str, str]], bool]) -> list[int]:
    done = {int(row["instance"]) for row in _read(path) if mine(row)}
    return [seed for seed in instances if seed not in done]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return sorted(rows, key=lambda row: (row.get("method", ""), int(row["instance"])))


def _append(path: Path, header: tuple[str, ...], row: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(header)
        writer.writerow(row)


def main() -> None:
    """One of bound, prove, run and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("bound", "prove", "run", "draw"))
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--part", default="0/1", help="this of so many parts, as 0/2")
    parser.add_argument("--limit", type=float, default=12.0, help="of prove [s]")
    args = parser.parse_args()
    print(f"{platform.machine()}, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}")
    first, step = map(int, args.part.split("/"))
    if args.what == "bound":
        bound(slice(first, None, step))
    elif args.what == "prove":
        prove(slice(first, None, step), args.limit)
    elif args.what == "run":
        for method in args.methods:
            run(method, slice(first, None, step))
    else:
        draw()


if __name__ == "__main__":
    main()
