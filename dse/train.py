"""`method: train`: one network on one data set; no chip, no bottleneck, nothing searched.

The baseline of every other method, and what makes teachers. Accuracy on validation pictures is
followed epoch by epoch; the test pictures are read once, after the last step, whatever they say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save as save_tensors

from dse.accuracy import interval_columns
from dse.context import plain_network
from dse.csv_rows import Row, write_rows
from dse.data import DataSet, load_data
from dse.devices import on_all_devices
from dse.experiment_spec import Experiment
from dse.rundir import EPOCHS_FILE, RESULT_FILE, WEIGHTS_FILE, write_atomically
from dse.training import (
    batch_indices,
    calc_learning_rate,
    make_chunk_step,
    make_evaluate,
    make_optimizer,
    make_train_step,
)
from models.functional import Functional, count_parameters

COLUMNS: tuple[str, ...] = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)
"""Of epochs.csv. Training figures are means over the epoch's augmented batches."""


@dataclass(frozen=True)
class TrainContext:
    """What the phases share.

    Attributes:
        config: the experiment.
        data: the data set.
        net: the network, without bottlenecks.
    """

    config: Experiment
    data: DataSet
    net: Functional

    @property
    def calibration(self) -> np.ndarray:
        """The fixed training pictures on which norms take their statistics."""
        return self.data.train.inputs(stop=self.config.training.calibration_pictures)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training pictures."""
        return max(1, len(self.data.train) // self.config.training.batch)

    @property
    def steps(self) -> int:
        """Training steps of the run."""
        return max(1, round(self.config.train.epochs * self.steps_per_epoch))

    @cached_property
    def evaluate(self) -> Any:
        """The compiled evaluation on one split."""
        return make_evaluate(self.net)


def make_train_context(
    config: Experiment, load: Callable[[str], DataSet] = load_data
) -> TrainContext:
    """Data and network of an experiment.

    Args:
        config: the experiment.
        load: gives the data set of a name.

    Raises:
        InputError: naming the key that does not fit.
    """
    data = load(config.data.name)
    return TrainContext(config, data, plain_network(config, data))


class TrainPhase:
    """Trains, `chunk` steps at a time. State: weights, optimizer, sums of the epoch, the curve."""

    name = "train"

    def __init__(self, context: TrainContext, run_dir: Path) -> None:
        """Bind the experiment and where its files go."""
        self.context = context
        self.run_dir = run_dir
        self.chunk = context.config.train.chunk
        self.steps = math.ceil(context.steps / self.chunk)
        config = context.config
        arguments = (context.net, config.training, config.seed, context.data.scaling)
        self.scanned = self.chunk > 1 and jax.default_backend() != "cpu"
        self.run_steps = self._scan if self.scanned else self._loop
        self.compiled = (make_chunk_step if self.scanned else make_train_step)(*arguments)

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Fresh weights."""
        params, stats = self.context.net.init(jax.random.key(self.context.config.seed))
        leaves = jax.tree.leaves(make_optimizer(self.context.config.training).init(params))
        sums = {"loss": jnp.zeros(()), "accuracy": jnp.zeros(())}
        return {
            "params": params,
            "stats": stats,
            "optimizer": leaves,
            "sums": sums,
            "summed": 0,
            "curve": [],
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One chunk; at the end of an epoch also the validation pictures."""
        first = index * self.chunk
        last = min(first + self.chunk, self.context.steps)
        state, metrics = self.run_steps(state, first, last)
        per_epoch = self.context.steps_per_epoch
        if last // per_epoch > first // per_epoch or last == self.context.steps:
            row, state = self._end_epoch(state, last)
            metrics = {**metrics, "validation_accuracy": row[-1]}
        return state, metrics

    def _loop(self, state: dict[str, Any], first: int, last: int) -> tuple[dict[str, Any], dict]:
        """Steps one by one: on CPU, a convolution inside a scan would be 60 times slower."""
        train, batch = self.context.data.train, self.context.config.training.batch
        params, leaves, sums = state["params"], state["optimizer"], state["sums"]
        metrics: dict[str, Any] = {}
        for index in range(first, last):
            rows = batch_indices(self.context.config.seed, index, batch, len(train))
            params, leaves, metrics = self.compiled(
                params,
                leaves,
                state["stats"],
                index,
                self._rate(index),
                train.pictures[rows],
                train.labels[rows],
            )
            sums = _add(sums, metrics)
        summed = state["summed"] + last - first
        state = {**state, "params": params, "optimizer": leaves, "sums": sums, "summed": summed}
        return state, metrics

    def _scan(self, state: dict[str, Any], first: int, last: int) -> tuple[dict[str, Any], dict]:
        """All steps in one call, the pictures on the device."""
        seed, batch = self.context.config.seed, self.context.config.training.batch
        count = len(self.context.data.train)
        steps = range(first, last)
        params, leaves, found = self.compiled(
            state["params"],
            state["optimizer"],
            state["stats"],
            first,
            np.array([self._rate(index) for index in steps], np.float32),
            np.stack([batch_indices(seed, index, batch, count) for index in steps]),
            *self._resident,
        )
        sums = _add(state["sums"], {name: jnp.sum(value) for name, value in found.items()})
        summed = state["summed"] + last - first
        state = {**state, "params": params, "optimizer": leaves, "sums": sums, "summed": summed}
        return state, {name: value[-1] for name, value in found.items()}

    @cached_property
    def _resident(self) -> Any:
        """Training pictures, as bytes where they are, and labels on the device."""
        train = self.context.data.train
        return on_all_devices((jnp.asarray(train.pictures), jnp.asarray(train.labels)))

    def _rate(self, index: int) -> float:
        return calc_learning_rate(self.context.config.training, index, self.context.steps)

    def _end_epoch(self, state: dict[str, Any], done: int) -> tuple[list[float], dict[str, Any]]:
        context = self.context
        found = context.evaluate(
            state["params"], state["stats"], context.calibration, context.data.validation
        )
        row = [
            done / context.steps_per_epoch,
            float(done),
            self._rate(done - 1),
            float(state["sums"]["loss"]) / state["summed"],
            float(state["sums"]["accuracy"]) / state["summed"],
            found.loss,
            found.correct / len(context.data.validation),
        ]
        sums = jax.tree.map(jnp.zeros_like, state["sums"])
        return row, {**state, "sums": sums, "summed": 0, "curve": [*state["curve"], row]}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write epochs.csv and the weights, with norms calibrated; both follow from the state."""
        net, params = self.context.net, state["params"]
        stats = net.measure(params, state["stats"], jnp.asarray(self.context.calibration))
        flat = {f"params/{name}": np.asarray(value) for name, value in params.items()}
        flat |= {f"stats/{name}": np.asarray(value) for name, value in stats.items()}
        write_atomically(self.run_dir / WEIGHTS_FILE, save_tensors(flat))
        curve = state["curve"]
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in curve]
        write_rows(self.run_dir / EPOCHS_FILE, rows)
        return {"params": params, "stats": state["stats"], "curve": curve}


class TestPhase:
    """Reads the test pictures, once, with the weights of the last step."""

    name = "test"
    steps = 1

    def __init__(self, context: TrainContext, run_dir: Path) -> None:
        """Bind the experiment and where its files go."""
        self.context = context
        self.run_dir = run_dir

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the trained weights."""
        self.trained = outputs["train"]

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Nothing counted."""
        return {"validation": 0, "test": 0}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Count correct predictions on both splits."""
        data, trained = self.context.data, self.trained
        found = {
            name: self.context.evaluate(
                trained["params"], trained["stats"], self.context.calibration, split
            ).correct
            for name, split in (("validation", data.validation), ("test", data.test))
        }
        return found, {
            "validation_accuracy": found["validation"] / len(data.validation),
            "test_accuracy": found["test"] / len(data.test),
        }

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write result.csv."""
        context = self.context
        row: Row = {
            "network": context.config.network.name,
            "data": context.data.name,
            "parameters": count_parameters(self.trained["params"]),
            "epochs": context.steps / context.steps_per_epoch,
            "steps": context.steps,
            "batch": context.config.training.batch,
        }
        for name, split in (
            ("validation", context.data.validation),
            ("test", context.data.test),
        ):
            row |= interval_columns(name, state[name], split)
        write_rows(self.run_dir / RESULT_FILE, [row])
        return dict(state)


@jax.jit
def _add(sums: dict[str, jax.Array], metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: total + metrics[name] for name, total in sums.items()}
