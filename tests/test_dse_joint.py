"""The joint step is one program, whichever process makes it."""

import os
import subprocess
import sys

PROGRAM = """
import hashlib
from dse.config import parse_config
from dse.context import make_context
from dse.joint import JointPhase
from dse.tables import TablesPhase

context = make_context(parse_config({
    "name": "law",
    "method": "joint",
    "network": {"name": "cifar_resnet8", "bottlenecks": ["stem.out", "stage2.block0.mid1"],
                "largest_width": 1},
    "chip": "quad_equal",
    "hardware": {"mode": "fixed"},
}))
tables = TablesPhase(context)
state = tables.init({})
for index in range(tables.count({})):
    state, _ = tables.step(state, index)
phase = JointPhase(context)
phase.bind({"tables": tables.result(state)})
lower = phase.joint_step.lower

def report(*arguments):
    text = lower(*arguments).as_text()
    print(hashlib.sha256(text.encode()).hexdigest(), len(text))
    raise SystemExit

phase.joint_step = report
phase.step(phase.init({}), 0)
"""


def test_processes_with_unlike_hashes_lower_the_same_joint_step(tmp_path) -> None:
    """No order of a set may reach what is compiled: it would also defeat the compilation cache."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate()[0].split() for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert int(first[1]) > 100_000  # characters
    assert first == second
