"""A baseline: greedy slimming in the manner of AutoSlim (Yu and Huang, 2019), placed as it goes."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from dse.baselines import (
    COSTS_ALONE,
    Design,
    Params,
    Trial,
    fresh_params,
    placed,
    ratio_ordinals,
    train,
)
from dse.weights import cheap_crossings, training_design

PICTURES = 128  # of calibration and of validation, each time the network is asked


def greedy(trial: Trial) -> list[Design]:
    """Slim what costs the least accuracy, in the manner of AutoSlim (Yu and Huang, 2019).

    Half of the passes train one network at random widths, sampled as the surface samples them; from
    uncompressed on, the boundary whose narrowing by half loses the least accuracy for what it saves
    is narrowed, until all that cross are at width 1; designs along that path are tuned with what is
    left.
    """
    config = trial.context.config
    reference = trial.outputs["tables"]["reference"]
    cheap = cheap_crossings(trial.context, trial.objective, reference)
    steps = int(trial.passes // 2)
    params = train(
        trial,
        fresh_params(trial),
        steps,
        lambda index: training_design(trial.context, index, steps, cheap),
        peak=config.training.learning_rate,
        stream=0,
    )
    path = list(slimming_path(trial, params))
    chosen = [path[i] for i in np.round(np.linspace(0, len(path) - 1, trial.count)).astype(int)]
    each, designs = trial.steps_each, []
    for number, (ordinals, assignment) in enumerate(chosen):
        gates = trial.gates(ordinals, assignment)
        tuned = train(
            trial,
            params,
            each,
            lambda _, g=gates: g,
            peak=config.surface.finetune.learning_rate,
            stream=1 + number,
        )
        designs.append(Design(ordinals, assignment, tuned))
    return designs


def slimming_path(trial: Trial, params: Params) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Placed designs from uncompressed to width 1 at every boundary that crosses.

    Where a boundary does not cross, its width changes nothing; a narrowing is judged where the
    layers are, and then they are placed anew.
    """
    widths = len(trial.shape.max_widths)
    here = placed(trial, ratio_ordinals(trial.shape, 1))
    while True:
        yield here
        loss, cost = calc_loss(trial, params, here), calc_cost(trial, here)
        crossing = trial.gates(*here)[1]
        active = np.unique(trial.context.boundary_of_edge[crossing > 0])
        best = None
        for boundary in active[here[0][active] > 1]:
            narrower = here[0].copy()
            narrower[boundary] //= 2
            there = narrower, here[1]
            gained = max(cost - calc_cost(trial, there), 1e-6)
            price = (calc_loss(trial, params, there) - loss) / gained
            if best is None or price < best[0]:
                best = price, narrower
        if best is None:
            return
        here = placed(trial, best[1][:widths])


def calc_loss(trial: Trial, params: Params, design: tuple[np.ndarray, np.ndarray]) -> float:
    """Cross-entropy [nat] of a design on a part of the validation pictures."""
    context = trial.context
    part = context.data.validation.first(PICTURES)
    stats = context.net.init(jax.random.key(trial.seed))[1]
    calibration = context.calibration[:PICTURES]
    trial.forward(len(calibration) + len(part))
    return context.evaluate(params, stats, calibration, part, *trial.gates(*design)).loss


def calc_cost(trial: Trial, design: tuple[np.ndarray, np.ndarray]) -> float:
    """Log of traffic and energy of a design."""
    ordinals, assignment = design
    return float(
        trial.objective.value(COSTS_ALONE[:, None], ordinals[:, None], assignment[:, None])[0]
    )
