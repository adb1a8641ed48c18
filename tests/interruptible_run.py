"""The command `dse` with a small experiment of four phases that tests can interrupt.

    python tests/interruptible_run.py run CONFIG --out RUN

Environment: STEP_S seconds per step, COMPILE_AT step of phase `weights` at which a compilation of
half a minute begins, NAN_AT step whose loss is NaN, FILE_LIMIT_AT step after which no file may grow
beyond 8 KiB (as on a full disk).
"""

import csv
import os
import resource
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np

WEIGHT_STEPS = 120
STEP_S = float(os.environ.get("STEP_S", "0"))
COMPILE_AT = int(os.environ.get("COMPILE_AT", "-1"))
NAN_AT = int(os.environ.get("NAN_AT", "-1"))
FILE_LIMIT_AT = int(os.environ.get("FILE_LIMIT_AT", "-1"))


class Tables:
    """Grows a dict of numpy tables, one layer a step."""

    name = "tables"
    steps = 6

    def init(self, outputs):
        return {"layers": {}, "labels": ("a", None, 2)}

    def step(self, state, index):
        time.sleep(3 * STEP_S)
        table = np.linspace(0.0, 1.0, 7 + index) ** index
        layers = {**state["layers"], f"layer{index}": table, f"none{index}": np.zeros((0, 3))}
        return {**state, "layers": layers}, {"layers": index + 1}

    def result(self, state):
        return state["layers"]


class Weights:
    """Donated buffers, randomness from the step index, metrics left on the device."""

    name = "weights"
    steps = WEIGHT_STEPS

    def __init__(self, seed):
        self.seed = seed

    def init(self, outputs):
        size = outputs["tables"]["layer5"].size
        return {
            "params": {"w": jnp.ones((size, 200)) * 0.1, 3: jnp.zeros((200,), jnp.bfloat16)},
            "moments": [jnp.zeros((size, 200)), jnp.asarray(1.0)],
            "key": jax.random.key(self.seed),
        }

    def step(self, state, index):
        time.sleep(STEP_S)
        if index == COMPILE_AT:
            compile_for_long()
        if index == FILE_LIMIT_AT:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        state, loss = train_step(state, index)
        task = float("nan") if index == NAN_AT else loss * 0.5
        return state, {"task": task, "loss": loss}

    def result(self, state):
        return {"w": state["params"]["w"], "share": float(state["moments"][1])}


class Policy:
    """A float64 state on the host, its length taken from earlier results."""

    name = "policy"

    def count(self, outputs):
        return len(outputs["tables"]) * 2

    def init(self, outputs):
        return {"x": np.asarray(outputs["weights"]["w"], np.float64)[0], "sum": 0.0}

    def step(self, state, index):
        time.sleep(STEP_S)
        x = np.cos(state["x"] + index)
        return {"x": x, "sum": state["sum"] + float(x[0])}, {"loss": float(x.mean())}

    def result(self, state):
        return state


class Report:
    """Writes front.csv from the results of all phases."""

    name = "report"
    steps = 2

    def __init__(self, rundir):
        self.rundir = rundir

    def init(self, outputs):
        total = float(np.asarray(outputs["weights"]["w"]).sum())
        return {"energy": total, "io": outputs["policy"]["sum"], "written": 0}

    def step(self, state, index):
        time.sleep(STEP_S)
        with open(self.rundir.path / "front.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "validation_accuracy", "io_bytes", "energy_pj"])
            writer.writerow(["d0", 0.5, repr(state["io"]), repr(state["energy"])])
        return {**state, "written": index + 1}, None

    def result(self, state):
        return state


@jax.jit
def _train(w, b, moment, share, key, index):
    noise = jax.random.normal(jax.random.fold_in(key, index), w.shape)
    moment = 0.9 * moment + 0.1 * (noise - w)
    w = jnp.tanh(w + 0.05 * moment)
    loss = jnp.mean(w * w)
    return w, b + 1, moment, share * 0.99, key, loss


_donating = jax.jit(_train, donate_argnums=(0, 1, 2))


def train_step(state, index):
    w, b, moment, share, key, loss = _donating(
        state["params"]["w"], state["params"][3], *state["moments"], state["key"], index
    )
    return {"params": {"w": w, 3: b}, "moments": [moment, share], "key": key}, loss


def compile_for_long():
    """About half a minute inside XLA, where Python handles no signal of this thread."""

    def chain(x):
        for i in range(300):
            x = jnp.cumsum(jnp.sort(jnp.sin(x + i)), axis=i % 2)
        return x

    return jax.jit(chain)(jnp.ones((32, 33)))


def phases(config, rundir):
    return [Tables(), Weights(config.seed), Policy(), Report(rundir)]


if __name__ == "__main__":
    experiment = types.ModuleType("dse.experiment")
    experiment.phases = phases  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules["dse.experiment"] = experiment
    from dse.cli import main

    main()
