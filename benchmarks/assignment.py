"""How fast assignments are evaluated and solved, side by side in one run.

Prints, in seconds of the processor and (linear program) by the clock:
* assignments per second in one vectorised call and one after the other, 20 layers on 4 cores;
* dynamic program over ordered and unordered cores, distribution algorithm, linear program.

    python benchmarks/assignment.py [--assignments 1000000]
"""

import argparse
import os
import statistics
import time

import numpy as np

from costs.distribute import distribute
from costs.distribution import solve_stages
from costs.instance_cost import CostTables, calc_instance_cost
from costs.milp import solve_milp
from costs.random_instance import TOPOLOGIES, random_instance
from costs.stages import calc_stage_costs


def seconds(function, repeat):
    """Median processor time of some calls [s]."""
    taken = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assignments", type=int, default=1_000_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} beside this process")
    for topology in TOPOLOGIES:
        instance = random_instance(1, 20, 4, topology)
        tables = CostTables.of(instance)
        options = rng.integers(0, 4, (20, args.assignments))
        together = args.assignments / seconds(
            lambda t=tables, o=options: calc_instance_cost(t, o), 3
        )
        few = options[:, :500]

        def one_by_one(tables=tables, few=few):
            for n in range(few.shape[1]):
                calc_instance_cost(tables, few[:, n : n + 1])

        alone = few.shape[1] / seconds(one_by_one, 3)
        print(
            f"{instance.name}: {together / 1e6:.2f} M assignments/s in one call,"
            f" {alone / 1e3:.1f} k/s one by one: x{together / alone:.0f}"
        )
    for topology in ("ports", "bus"):
        instance = random_instance(0, 50, 8, topology)
        costs = calc_stage_costs(instance, ordered=True)
        stages = seconds(lambda i=instance: calc_stage_costs(i, ordered=True), 9)
        ordered = seconds(lambda c=costs: solve_stages(c, ordered=True), 9)
        unordered = seconds(lambda c=costs: solve_stages(c, ordered=False), 3)
        greedy = seconds(lambda c=costs: distribute(c, 8), 9)
        print(
            f"50 layers, 8 cores, {topology}: stage costs {1e3 * stages:.2f} ms, dynamic program"
            f" {1e3 * ordered:.2f} ms ordered, {1e3 * unordered:.1f} ms unordered"
            f" (x{unordered / ordered:.0f}), distribution algorithm {1e3 * greedy:.2f} ms"
        )
    for seed, topology in enumerate(TOPOLOGIES):
        instance = random_instance(seed, 20, 4, topology)
        start = time.process_time()
        found = solve_milp(instance)
        spent = time.process_time() - start
        stage = calc_stage_costs(instance, ordered=False) if topology != "ring" else None
        beside = ""
        if stage is not None:
            row = solve_stages(stage, ordered=False).interval_s
            beside = f", {row / found.value - 1:.1%} below the best stages"
        print(
            f"{instance.name}: linear program {spent:.2f} s, {found.seconds:.2f} s by the clock,"
            f" proved {found.proved}{beside}"
        )


if __name__ == "__main__":
    main()
