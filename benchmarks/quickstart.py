"""The whole quickstart: seconds of every phase, compilation apart, and peak memory.

    python benchmarks/quickstart.py [EXPERIMENT.yaml] [KEY=VALUE ...]

Runs `dse run` in a process of its own with an empty table cache. Shares are of that one run; the
target is three minutes on two cores, compilation included, and 2 GB.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET_S = 180.0
TARGET_GB = 2.0


def main() -> None:
    """Run and report."""
    experiment = sys.argv[1] if len(sys.argv) > 1 else "experiments/quickstart.yaml"
    overrides = [word for key in sys.argv[2:] for word in ("--set", key)]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-m", "dse", "run", experiment, "--out", str(run), *overrides]
        began = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        total_s = time.perf_counter() - began
        lines = (run / "timing.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    print(f"{'phase':<10} {'seconds':>8} {'share':>7} {'to first step':>14}")
    first_step_s = {e["phase"]: e["seconds"] for e in events if e["event"] == "first step"}
    for done in (event for event in events if event["event"] == "done"):
        first = first_step_s.get(done["phase"], 0.0)
        share = done["seconds"] / total_s
        print(f"{done['phase']:<10} {done['seconds']:8.1f} {share:7.1%} {first:14.1f}")
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"total {total_s:.0f} s ({total_s / TARGET_S:.2f} of the target {TARGET_S:.0f} s)")
    print(
        f"peak memory {peak_gb:.2f} GB ({peak_gb / TARGET_GB:.2f} of the target {TARGET_GB:g} GB)"
    )


if __name__ == "__main__":
    main()
