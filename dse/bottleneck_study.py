"""The bottleneck study: accuracy and bytes moved against the ratio, for networks of several depths.

Bottlenecks stand where a residual network is cut between its stages, each part on a core of its
own, so that all of them cross; `network.ratio` fixes their widths. Every (network, seed, ratio) is
a cell that reads the test pictures once, after its last step. The ratios of one network and seed
see the same pictures and may have the first part of the training in common.

Source of the question: Lin, Zhu, Eshraghian, arXiv 2410.09650 (MCSoC 2024).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from costs.errors import InputError
from dse.baselines import run_phases
from dse.config import load_config
from dse.context import Context, make_context
from dse.csv_rows import read_rows
from dse.experiment_spec import Experiment
from dse.handover import objective_of
from dse.rundir import CONFIG_FILE, FRONT_FILE, write_atomically
from dse.study import decisive, kept_cell
from dse.tables import TablesPhase
from dse.training import (
    batch_indices,
    calc_learning_rate,
    make_evaluate,
    make_optimizer,
    make_train_step,
)
from models.functional import Functional
from models.resnet import SPECS

Row = dict[str, Any]
CUTS = 3
COSTS = ("link_bytes", "io_bytes", "energy_pj", "latency_s")
DECIDING = {"data", "network", "chip", "mapping_objective", "training", "train"}
"""Parts of an experiment that a cell depends on, beside its ratio."""


def cuts_of(network: str) -> list[str]:
    """The last three boundaries between stages of a residual network, the stem being one.

    Raises:
        InputError: if it is no residual network.
    """
    if network not in SPECS:
        raise InputError(key="bottlenecks.networks", value=network, allowed=sorted(SPECS))
    stages = SPECS[network].stages[:-1]
    ends = [f"stage{i}.block{stage.blocks - 1}.out" for i, stage in enumerate(stages, start=1)]
    return ["stem.out", *ends][-CUTS:]


@dataclass(frozen=True)
class Design:
    """What one ratio means: widths [boundaries], crossing flags [network edges], exact costs."""

    widths: np.ndarray
    crossing: np.ndarray
    costs: dict[str, float]


class Subject:
    """One network: its compiled parts, and the design of each ratio."""

    def __init__(self, config: Experiment, network: str) -> None:
        """Bind an experiment's data, chip and training to a network with cuts."""
        chosen = config.network.model_copy(
            update={"name": network, "bottlenecks": cuts_of(network)}
        )
        hardware = config.hardware.model_copy(update={"mode": "fixed"})
        self.config = config.model_copy(update={"network": chosen, "hardware": hardware})
        self.name = network

    @cache  # noqa: B019 - as many as there are ratios
    def context(self, ratio: float) -> Context:
        """The experiment at one ratio."""
        network = self.config.network.model_copy(update={"ratio": ratio})
        return make_context(self.config.model_copy(update={"network": network}))

    @cached_property
    def any_context(self) -> Context:
        """The experiment at the first ratio, for what does not depend on it."""
        return self.context(self.config.bottlenecks.ratios[0])

    @cached_property
    def net(self) -> Functional:
        """The network, its norms not told of the design.

        A ratio is fixed, so that telling would only raise the learning rate of norms, more so for
        narrow designs, whose features are larger.
        """
        return Functional.from_architecture(
            replace(self.any_context.net.operations, modulate=False)
        )

    @cached_property
    def step(self) -> Callable[..., Any]:
        """The compiled training step; ratios are values, seeds an offset of the step's index."""
        context = self.any_context
        return make_train_step(self.net, context.config.training, 0, context.data.scaling)

    @cached_property
    def evaluate(self) -> Callable[..., Any]:
        """The compiled evaluation."""
        return make_evaluate(self.net)

    @property
    def steps(self) -> int:
        """Training steps of each ratio, the shared ones included."""
        per_epoch = max(1, len(self.any_context.data.train) // self.config.training.batch)
        return max(1, round(self.config.train.epochs * per_epoch))

    @property
    def shared(self) -> int:
        """Steps that the ratios have in common."""
        return int(self.config.bottlenecks.shared * self.steps)

    def design(self, ratio: float) -> Design:
        """Widths of a ratio and what it costs with each part on the core that costs least energy.

        Raises:
            InputError: if the chip has fewer cores than the network has parts.
        """
        context = self.context(ratio)
        objective = objective_of(context, run_phases([TablesPhase(context)], {}))
        shape = objective.shape
        producers = [context.workload.tensors[b.tensor].producer for b in context.boundaries]
        part = np.array([sum(layer > p for p in producers) for layer in range(shape.layers)])
        orders = np.array(list(itertools.permutations(range(shape.cores), len(producers) + 1)))
        if not len(orders):
            raise InputError(
                "fewer cores than parts of the network",
                key="chip",
                value=shape.cores,
                allowed=f"at least {len(producers) + 1} cores",
            )
        assignments = orders.T[part]
        ordinals = np.repeat(shape.ordinal_low.astype(int)[:, None], len(orders), axis=1)
        costs = objective.costs(ordinals, assignments)
        best = int(np.argmin(costs["energy_pj"]))
        return Design(
            shape.widths(ordinals)[:, best].astype(np.float32),
            context.crossing(costs["crossing"])[:, best].astype(np.float32),
            {name: float(costs[name][best]) for name in COSTS},
        )

    def fresh(self, seed: int) -> dict[str, Any]:
        """Weights and optimizer before the first step."""
        params = self.net.init(jax.random.key(seed))[0]
        state = make_optimizer(self.config.training).init(params)
        return {"params": params, "leaves": jax.tree.leaves(state)}

    @cached_property
    def stats(self) -> dict[str, jax.Array]:
        """Statistics that nothing reads: every step takes those of its batch."""
        return self.net.init(jax.random.key(0))[1]

    def train(
        self, state: dict[str, Any], seed: int, first: int, last: int, design: Design | None
    ) -> dict[str, Any]:
        """The state after steps `first` to `last` of the one schedule, without pairs or with."""
        gates = (None, None) if design is None else (design.widths, design.crossing)
        data, settings = self.any_context.data.train, self.config.training
        params, leaves = (jax.tree.map(lambda x: x.copy(), state[k]) for k in ("params", "leaves"))
        for index in range(first, last):
            rows = batch_indices(seed, index, settings.batch, len(data))
            params, leaves, _ = self.step(
                params,
                leaves,
                self.stats,
                index + seed * self.steps,
                calc_learning_rate(settings, index, self.steps),
                data.pictures[rows],
                data.labels[rows],
                *gates,
            )
        return {"params": params, "leaves": leaves}

    def trunk(self, seed: int, file: Path) -> dict[str, Any]:
        """The state where the ratios part, kept in a file."""
        if not file.exists():
            state = self.train(self.fresh(seed), seed, 0, self.shared, None)
            flat = {f"params/{k}": np.asarray(v) for k, v in state["params"].items()}
            flat |= {f"leaves/{i:04d}": np.asarray(v) for i, v in enumerate(state["leaves"])}
            write_atomically(file, save_tensors(flat))
        flat = load_tensors(file.read_bytes())
        leaves = sorted(name for name in flat if name.startswith("leaves/"))
        return {
            "params": {k[7:]: jax.numpy.asarray(v) for k, v in flat.items() if k[:7] == "params/"},
            "leaves": [jax.numpy.asarray(flat[name]) for name in leaves],
        }

    def measure(self, ratio: float, seed: int, start: dict[str, Any]) -> Row:
        """Train one ratio to its end and read the test pictures."""
        design, context = self.design(ratio), self.any_context
        state = self.train(start, seed, self.shared, self.steps, design)
        found = self.evaluate(
            state["params"],
            self.stats,
            context.calibration,
            context.data.test,
            design.widths,
            design.crossing,
        )
        pictures = len(context.data.test)
        return {
            "method": "ratio",
            "network": self.name,
            "seed": seed,
            "ratio": ratio,
            "test_accuracy": found.correct / pictures,
            "test_correct": found.correct,
            "test_pictures": pictures,
            "test_loss": found.loss,
            **design.costs,
            "widths": " ".join(str(int(width)) for width in design.widths),
        }


def run_cells(
    config: Experiment,
    folder: Path,
    progress: Callable[[str, float, int, int, int], None],
    *,
    run_missing: bool = True,
) -> list[Row]:
    """All cells, seed by seed, those that stand in the folder taken from there.

    Args:
        config: the experiment; its `bottlenecks` say which cells.
        folder: where each cell is kept, and each state where ratios part.
        progress: told (network, ratio, seed, number, of) before each.
        run_missing: whether to run cells that are missing, or leave them out.

    Raises:
        InputError: if the folder holds cells of another experiment, or none at all, or a key does
            not fit.
    """
    study = config.bottlenecks
    folder.mkdir(parents=True, exist_ok=True)
    fixed = decisive(config, include=DECIDING)
    fixed["shared"] = study.shared
    subject = lru_cache(maxsize=1)(lambda name: Subject(config, name))
    cells = [
        (name, config.seed + seed, ratio)
        for seed in range(study.seeds)
        for name in study.networks
        for ratio in study.ratios
    ]
    rows = []
    for number, (name, seed, ratio) in enumerate(cells):

        def make(name: str = name, seed: int = seed, ratio: float = ratio, at: int = number) -> Row:
            progress(name, ratio, seed, at + 1, len(cells))
            trunk = subject(name).trunk(seed, folder / f"{name}-{seed}.safetensors")
            return subject(name).measure(ratio, seed, trunk)

        file = folder / f"{name}-{seed}-{ratio:g}.json"
        if run_missing or file.exists():
            rows.append(kept_cell(file, fixed, make))
    if not rows:
        raise InputError("holds no cell of this study", file=folder)
    return rows


def surface_rows(run: Path) -> list[Row]:
    """The front of a finished run, as rows beside those of the ratios."""
    config = load_config(run / CONFIG_FILE, [])
    if not (run / FRONT_FILE).is_file():
        raise InputError("has no front yet", file=run / FRONT_FILE)
    found = []
    for row in read_rows(run / FRONT_FILE):
        widths = [value for name, value in row.items() if name.startswith("width_")]
        found.append(
            {
                "method": "surface",
                "network": config.network.name,
                "seed": config.seed,
                "ratio": "",
                **{n: row[n] for n in ("test_accuracy", "test_correct", "test_pictures")},
                "test_loss": "",
                **{name: row[name] for name in COSTS},
                "widths": " ".join(str(width) for width in widths),
            }
        )
    return found
