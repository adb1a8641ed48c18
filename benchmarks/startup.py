"""How long the command line takes to answer, beside a bare interpreter in the same run.

    python benchmarks/startup.py

Out of scope: how long the work itself takes (`benchmarks/training_step.py`, the mapper's own).
"""

import statistics
import subprocess
import sys
import time

REPEATS = 5
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "dse --help": ["-m", "dse", "--help"],
    "dse list chips": ["-m", "dse", "list", "chips"],
    "dse validate (a chip)": ["-m", "dse", "validate", "costs/hardware/chips/quad_big_little.yaml"],
    "python -c import jax": ["-c", "import jax"],
    "dse evaluate (a network)": ["-m", "dse", "evaluate", "digits_resnet", "narrow_tile"],
}


def measure(arguments: list[str]) -> float:
    """Seconds from start to exit."""
    began_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began_s


def main() -> None:
    """Interleave the commands, so that a busy moment hits all of them; print medians and ratios."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        measure(arguments)  # compiles bytecode, fills the page cache
    for _ in range(REPEATS):
        for name, arguments in COMMANDS.items():
            times[name].append(measure(arguments))
    bare_s = statistics.median(times["python -c pass"])
    print(f"{'command':28} {'median s':>9} {'best s':>8} {'x bare python':>14}")
    for name, seconds in times.items():
        median_s = statistics.median(seconds)
        print(f"{name:28} {median_s:9.3f} {min(seconds):8.3f} {median_s / bare_s:14.1f}")


if __name__ == "__main__":
    main()
