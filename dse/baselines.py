"""What the surface is compared with, from the same training step, tables and search.

Each method is a function of one `Trial`; it spends at most the trial's passes and gives as many
designs as it is asked for, each with its weights. A pass is one forward and backward of one batch;
a forward alone is a third of one (the usual count of its multiply-accumulates). Search counts as
well: whatever the network evaluates, it pays for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dse.context import Context
from dse.design_objective import DesignObjective
from dse.objective import TERMS
from dse.relaxed import Shape
from dse.runner import Phase
from dse.search import improve
from dse.selection import free_ordinals
from dse.training import batch_indices, make_optimizer, one_cycle

FORWARD = 1 / 3  # of a pass
RATIOS = (1, 2, 3, 4, 6, 8, 16, 32)
COSTS_ALONE = np.array([0.0, 0.5, 0.5, 0.0, 0.0])  # traffic and energy: widths are given

Params = dict[str, Any]


@dataclass(frozen=True)
class Design:
    """A discrete design and the weights that it runs with.

    Attributes:
        ordinals: [ordinals] integers.
        assignment: [layers].
        params: trained parameters.
    """

    ordinals: np.ndarray
    assignment: np.ndarray
    params: Params


@dataclass
class Trial:
    """One method's attempt at one seed.

    Attributes:
        context: the experiment.
        objective: exact costs, without a predictor.
        outputs: what the tables phase left.
        passes: how many it may spend.
        count: how many designs it gives.
        spent: passes so far.
    """

    context: Context
    objective: DesignObjective
    outputs: dict[str, Any]
    passes: float
    count: int
    spent: float = field(default=0.0)

    @property
    def seed(self) -> int:
        """Of the experiment."""
        return self.context.config.seed

    @property
    def shape(self) -> Shape:
        """Sizes of the design space."""
        return self.objective.shape

    @property
    def steps_each(self) -> int:
        """Training steps of each design where all that is left is shared out evenly."""
        return int((self.passes - self.spent) // self.count)

    def forward(self, pictures: int) -> None:
        """Pay for predicting so many pictures."""
        self.spent += FORWARD * pictures / self.context.config.training.batch

    def gates(self, ordinals: np.ndarray, assignment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Widths [boundaries] and crossing flags [network edges] of a design."""
        costs = self.objective.costs(ordinals[:, None], assignment[:, None])
        crossing = self.context.crossing(costs["crossing"])[:, 0]
        return self.shape.widths(ordinals).astype(np.float32), crossing.astype(np.float32)


def fresh_params(trial: Trial) -> Params:
    """Weights before any training."""
    return trial.context.net.init(jax.random.key(trial.seed))[0]


def train(
    trial: Trial,
    params: Params,
    steps: int,
    design: Callable[[int], tuple[np.ndarray, np.ndarray]],
    *,
    peak: float,
    stream: int,
) -> Params:
    """Parameters after so many steps, step by step on the design that `design` names.

    Args:
        trial: pays for the steps.
        params: where training begins; kept.
        steps: training steps.
        design: step index to (widths, crossing).
        peak: peak learning rate.
        stream: makes the order of the pictures differ from that of other trainings.
    """
    context, training = trial.context, trial.context.config.training
    stats = context.net.init(jax.random.key(trial.seed))[1]
    params = {name: jnp.array(value) for name, value in params.items()}
    leaves = jax.tree.leaves(make_optimizer(training).init(params))
    pictures = context.data.train
    for index in range(steps):
        chosen = batch_indices(trial.seed + stream, index, training.batch, len(pictures))
        params, leaves, _ = context.train_step(
            params,
            leaves,
            stats,
            index,
            one_cycle(peak, index, steps),
            pictures.pictures[chosen],
            pictures.labels[chosen],
            *design(index),
        )
    trial.spent += steps
    return params


def placed(trial: Trial, ordinals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best assignment and hardware for given widths, together."""
    reference, assignment = trial.outputs["tables"]["reference"]
    widths = len(trial.shape.max_widths)
    start = np.concatenate([ordinals[:widths], reference[widths:]]).astype(int)
    free = free_ordinals(trial.context, trial.shape) & (np.arange(len(start)) >= widths)
    return improve(trial.objective, COSTS_ALONE, start, assignment, free)


def partitioned(trial: Trial, ordinals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ordinals with the chip as described, and the best assignment for them."""
    reference, assignment = trial.outputs["tables"]["reference"]
    widths = len(trial.shape.max_widths)
    start = np.concatenate([ordinals[:widths], reference[widths:]]).astype(int)
    return improve(trial.objective, COSTS_ALONE, start, assignment, np.zeros(len(start), bool))


def mapped(trial: Trial, ordinals: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Ordinals whose hardware no single change improves, widths and assignment held."""
    widths = len(trial.shape.max_widths)
    free = free_ordinals(trial.context, trial.shape) & (np.arange(len(ordinals)) >= widths)
    low, high = trial.shape.ordinal_low.astype(int), trial.shape.ordinal_high.astype(int)
    while True:
        trials = [ordinals]
        for i in np.flatnonzero(free):
            trials += [
                np.where(np.arange(len(ordinals)) == i, value, ordinals)
                for value in range(low[i], high[i] + 1)
            ]
        columns = np.stack(trials, axis=1)
        tiled = np.repeat(assignment[:, None], columns.shape[1], axis=1)
        values = trial.objective.value(COSTS_ALONE[:, None], columns, tiled)
        if not values.min() < values[0]:
            return ordinals
        ordinals = columns[:, np.argmin(values)]


def ratio_ordinals(shape: Shape, ratio: int) -> np.ndarray:
    """[boundaries] ordinals of one bottleneck ratio: ceil(C / ratio) channels; 1: no pair."""
    channels, top = np.array(shape.max_widths), np.array(shape.largest_pairs)
    return top + 1 if ratio == 1 else np.minimum(-(-channels // ratio), top)


def spread_ratios(count: int) -> list[int]:
    """So many ratios from 1 to 32, about evenly spaced in their logarithm."""
    return [RATIOS[i] for i in np.round(np.linspace(0, len(RATIOS) - 1, count)).astype(int)]


def uniform(trial: Trial) -> list[Design]:
    """One ratio for all boundaries, each design trained alone."""
    ordinals = [ratio_ordinals(trial.shape, ratio) for ratio in spread_ratios(trial.count)]
    return train_each(trial, ordinals)


def random_widths(trial: Trial) -> list[Design]:
    """Every width log-uniform, each design trained alone."""
    rng = np.random.default_rng([trial.seed, 8])
    top = np.array(trial.shape.largest_pairs) + 1.0
    drawn = np.round(top ** rng.uniform(size=(trial.count, len(top)))).astype(int)
    return train_each(trial, list(drawn))


def train_each(trial: Trial, given: Sequence[np.ndarray]) -> list[Design]:
    """Place each design, then train it from the start on its equal share of the passes."""
    steps, peak = trial.steps_each, trial.context.config.training.learning_rate
    designs = []
    for number, widths in enumerate(given):
        ordinals, assignment = placed(trial, widths)
        gates = trial.gates(ordinals, assignment)
        params = train(
            trial, fresh_params(trial), steps, lambda _, g=gates: g, peak=peak, stream=number
        )
        designs.append(Design(ordinals, assignment, params))
    return designs


def sequential(trial: Trial) -> list[Design]:
    """Train, then partition, then narrow and map, each blind to what follows.

    Half of the passes train the uncompressed network, which then is put on the cores of the chip as
    described. Each ratio is inserted at the boundaries that cross there, the hardware is chosen for
    it, and it is tuned with exactly these crossings.
    """
    training = trial.context.config.training
    whole = np.array(trial.shape.max_widths, np.float32)
    nowhere = np.zeros(len(trial.context.net.edges), np.float32)
    params = train(
        trial,
        fresh_params(trial),
        int(trial.passes // 2),
        lambda _: (whole, nowhere),
        peak=training.learning_rate,
        stream=0,
    )
    start, assignment = partitioned(trial, ratio_ordinals(trial.shape, 1))
    given = [ratio_ordinals(trial.shape, ratio) for ratio in spread_ratios(trial.count)]
    given = [np.concatenate([widths, start[len(whole) :]]) for widths in given]
    given = worth_tuning(
        trial, [mapped(trial, narrowed, assignment) for narrowed in given], assignment
    )
    steps, designs = int((trial.passes - trial.spent) // len(given)), []
    for number, ordinals in enumerate(given):
        gates = trial.gates(ordinals, assignment)
        tuned = train(
            trial,
            params,
            steps,
            lambda _, g=gates: g,
            peak=training.learning_rate,
            stream=1 + number,
        )
        designs.append(Design(ordinals, assignment, tuned))
    return designs


def worth_tuning(
    trial: Trial, given: Sequence[np.ndarray], assignment: np.ndarray
) -> list[np.ndarray]:
    """Those that cost less traffic or energy than each wider one, the widest being first.

    Where the weights of a pair no longer fit a core, narrowing can cost more than it saves; that
    is known before anything is tuned.
    """
    columns = np.stack(given, axis=1)
    tiled = np.repeat(assignment[:, None], len(given), axis=1)
    costs = trial.objective.costs(columns, tiled)
    both = np.stack([costs["io_bytes"], costs["energy_pj"]])
    return [
        ordinals
        for i, ordinals in enumerate(given)
        if not (both[:, :i] <= both[:, [i]]).all(axis=0).any()
    ]


def run_phases(phases: Sequence[Phase], outputs: dict[str, Any]) -> dict[str, Any]:
    """Results of phases by name, run in this process without checkpoints."""
    for phase in phases:
        bind: Callable[[dict[str, Any]], None] | None = getattr(phase, "bind", None)
        if bind is not None:
            bind(outputs)
        outputs = {**outputs, phase.name: run_bound(phase, outputs)}
    return outputs


def run_bound(phase: Phase, outputs: dict[str, Any]) -> Any:
    """The result of a phase that has been bound."""
    steps: Callable[[dict[str, Any]], int] | None = getattr(phase, "count", None)
    state = phase.init(outputs)
    for index in range(phase.steps if steps is None else steps(outputs)):
        state, _ = phase.step(state, index)
    return phase.result(state)


def spread_preferences(count: int) -> np.ndarray:
    """[count, 5] preferences for independent runs: how much the task weighs, by which cost."""
    tasks = np.linspace(0.8, 0.1, count // 2)
    rows = [
        [task, (1 - task) * share, (1 - task) * (1 - share), 0.0, 0.0]
        for task in tasks
        for share in (0.8, 0.2)
    ]
    assert len(rows[0]) == len(TERMS)
    return np.array(rows)
