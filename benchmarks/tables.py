"""Cost tables from nothing: time and peak memory, each case in a process of its own.

* `resnet20`: CIFAR ResNet-20 with 16 relaxed boundaries of 16 to 64 channels, all integer widths
  of each, 512 hardware points: two core types of 8 x 8 x 4 (arrays, activation and weight buffers).
* `quickstart`: the tables of experiments/quickstart.yaml.

    python benchmarks/tables.py [resnet20] [quickstart]

Every layer and pair stands on both types under four sets of homes (`costs.problem.VARIANTS`).
Nothing is read from or written to the cache of tables. Targets: ten minutes and 20 s on two cores.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import sys
import time

TARGET_S = {"resnet20": 600.0, "quickstart": 20.0}
BOUNDARIES = [
    "stem.out",
    *(f"stage{s}.block{b}.out" for s in (1, 2, 3) for b in range(3) if (s, b) != (3, 2)),
    *(f"stage{s}.block{b}.mid1" for s in (1, 2, 3) for b in range(3) if (s, b) > (1, 1)),
]
KNOBS = {
    "array": (2, 4, 6, 8, 12, 16, 24, 32),
    "global_buffer": tuple(1024 * 2**i for i in range(8)),
    "weight_buffer": (8192, 16384, 32768, 65536),
}


def describe(case: str):
    """(workload, boundaries, chip, objective) of a case."""
    from costs.library import load_chip
    from dse.config import load_config
    from dse.context import cost_boundaries, make_context
    from models.functional import Functional
    from models.resnet import resnet_architecture
    from models.trace import workload_of

    if case == "quickstart":
        context = make_context(load_config("experiments/quickstart.yaml", []))
        mapped = context.config.mapping_objective
        return context.workload, context.boundaries, context.chip, mapped
    shape = (32, 32, 3)
    net = Functional.from_architecture(
        resnet_architecture(
            "cifar_resnet20", input_shape=shape, classes=100, bottlenecks=tuple(BOUNDARIES)
        )
    )
    workload = workload_of(net.abstract, shape, pooling="fused", name="cifar_resnet20")
    chip = load_chip("quad_big_little")
    types = tuple(
        dataclasses.replace(kind, knobs=tuple((name, KNOBS[name], 0) for name, _, _ in kind.knobs))
        for kind in chip.types
    )
    chip = dataclasses.replace(chip, types=types)
    return workload, cost_boundaries(net, workload), chip, "energy"


def measure(case: str) -> None:
    """Builds all tables of a case and prints what it took."""
    from costs.chip_tables import build_problem

    workload, boundaries, chip, objective = describe(case)
    points = sum(len(kind.points()) for kind in chip.types)
    began, cpu = time.perf_counter(), time.process_time()
    problem = build_problem(workload, boundaries, chip, objective)
    took, busy = time.perf_counter() - began, time.process_time() - cpu
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    widths = [len(boundary.reduce) for boundary in boundaries]
    print(
        f"{case}: {len(workload.layers)} layers, {len(boundaries)} boundaries of {min(widths)} to "
        f"{max(widths)} widths, {points} hardware points, {len(problem.table):,} entries"
    )
    print(
        f"{case}: {took:.1f} s, {busy:.1f} CPU s ({took / TARGET_S[case]:.2f} of the target), "
        f"peak memory {peak_gb:.2f} GB",
        flush=True,
    )


def main() -> None:
    """Each case in a fresh process."""
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} beside this process")
    context = multiprocessing.get_context("spawn")
    for case in sys.argv[1:] or TARGET_S:
        process = context.Process(target=measure, args=(case,))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
