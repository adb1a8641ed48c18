"""Assignments of the quickstart's network evaluated per second, in one process.

    python benchmarks/chip.py [CHIP]

One by one: `calc_chip_cost` on one design at a time. Vectorised: the same on 65,536 at once in
numpy, float64. Compiled: `compile_assignments`, the same function under jit in float32, one call
for 1,048,576 assignments: energy with idle, link and DRAM bytes, interval and latency; detailed:
with the busy time and weights of every core and the bytes of every link beside them. The target is
1,000,000 per second in one call on two cores.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np

from costs.chip_batch import TOTALS, compile_assignments
from costs.chip_cost import calc_chip_cost
from costs.chip_tables import build_problem
from dse.config import load_config
from dse.context import make_context, with_fixed_hardware

TARGET_PER_S = 1e6
ROUNDS = 3
DETAIL = ("core_busy_s", "core_weight_bytes", "each_link_bytes")


def best_rate(call: Callable[[], object], designs: int) -> float:
    """Designs per second in the fastest of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return designs / min(seconds)


def main() -> None:
    """Print rates and ratios."""
    overrides = [f"chip={sys.argv[1]}"] if len(sys.argv) > 1 else []
    context = make_context(load_config("experiments/quickstart.yaml", overrides))
    chip = with_fixed_hardware(context.chip)
    widths = np.array([min(4, b.channels) for b in context.boundaries])
    knobs = np.zeros((len(chip.types), 3), int)
    problem = build_problem(
        context.workload, context.boundaries, chip, "energy", only=(widths, knobs)
    )
    layers, cores = len(problem.workload.layers), len(chip.cores)
    rng = np.random.default_rng(0)
    many = rng.integers(0, cores, (layers, 1 << 20))

    def in_numpy(part: np.ndarray) -> object:
        shape = part.shape[1]
        return calc_chip_cost(
            problem,
            np.repeat(widths[:, None], shape, 1),
            part,
            np.repeat(knobs[:, :, None], shape, 2),
        )

    compiled = compile_assignments(problem, widths, knobs)
    detailed = compile_assignments(problem, widths, knobs, TOTALS + DETAIL)
    for function in (compiled, detailed):
        function(many[:, :1])  # compile
    rates = {
        "one by one": best_rate(lambda: [in_numpy(many[:, d : d + 1]) for d in range(100)], 100),
        "vectorised": best_rate(lambda: in_numpy(many[:, :65536]), 65536),
        "compiled": best_rate(lambda: compiled(many), many.shape[1]),
        "detailed": best_rate(lambda: detailed(many), many.shape[1]),
    }
    print(f"{layers} layers, {len(problem.slots)} slots, {cores} cores, {chip.name}")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} beside this process")
    for name, rate in rates.items():
        ratio = rate / rates["one by one"]
        print(f"{name:<12} {rate:12,.0f} per second, {ratio:9,.1f} times one by one")
    print(f"compiled / vectorised {rates['compiled'] / rates['vectorised']:.1f}")
    print(f"detailed / target {rates['detailed'] / TARGET_PER_S:.2f}")


if __name__ == "__main__":
    main()
