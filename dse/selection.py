"""Phase (d), selection: the policy proposes, exact search polishes, validation data choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import moocore
import numpy as np

from dse.context import Context
from dse.handover import objective_of
from dse.objective import TERMS, sample_preferences
from dse.policy import propose
from dse.relaxed import Shape
from dse.search import assignment_gap, improve, polish
from dse.surface_spec import Selection

TIED = 8  # candidates beside those of the policy


class SelectionPhase:
    """One candidate per preference; the best are measured with the shared weights. State: both.

    A design's quality is its accuracy; by hypervolume the geometric mean of the probabilities of
    the right classes, exp(-loss), which is less a matter of luck on a few hundred pictures.
    """

    name = "selection"
    steps = 0  # see `count`

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.surface.selection
        self.by_volume = self.settings.rule == "hypervolume"
        self.candidates = self.settings.candidates + tied_count(self.settings)

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take tables, predictor, policy, shared hardware if any, and weights."""
        self.objective = objective_of(self.context, outputs)
        self.weights = outputs["weights"]
        shape, count = self.objective.shape, self.settings.candidates
        proposed = proposals(self.context, shape, outputs["policy"], count)
        tied = tied_designs(
            self.context, shape, outputs["tables"]["reference"], tied_count(self.settings)
        )
        self.preferences = np.concatenate([proposed[0], tied[0]], axis=1)
        self.ordinals = np.concatenate([proposed[1], tied[1]], axis=1)
        chosen, assignment = rounded(shape, proposed[1], proposed[2])
        self.rounded = np.concatenate([chosen, tied[1].astype(int)], axis=1)
        self.assignment = np.concatenate([assignment, tied[2]], axis=1)
        self.chip = outputs.get("hardware")
        if self.chip is not None:
            self.rounded[len(shape.max_widths) :] = self.chip["knobs"][:, None]

    def count(self, outputs: dict[str, Any]) -> int:
        """A search for every candidate, then a measurement of the best."""
        return self.candidates + most_measured(self.settings)

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Room for the candidates."""
        shape, count = self.objective.shape, self.candidates
        return {
            "ordinals": np.zeros((len(shape.ordinal_high), count), int),
            "assignment": np.zeros((shape.layers, count), int),
            "gaps": np.zeros((3, count)),
            "measures": np.zeros((3, count)),
            "measured": np.zeros(count, bool),
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Round and polish the proposal for one preference, or measure the next best of them."""
        state = {name: array.copy() for name, array in state.items()}
        if index < self.candidates:
            return self._polish(state, index)
        return self._measure(state, index - self.candidates)

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The chosen candidates with the relaxed designs that they came from."""
        usable = state["measured"] & np.isfinite(state["measures"]).all(axis=0)
        chosen = np.array(sorted(self._choose(state, usable, self.settings.designs)), int)
        return {
            "preference": self.preferences[:, chosen],
            "relaxed": self.ordinals[:, chosen],
            **{name: array[..., chosen] for name, array in state.items() if name != "measured"},
        }

    def _polish(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict]:
        objective = self.objective
        preference, free = self.preferences[:, index], free_ordinals(self.context, objective.shape)
        if index >= self.settings.candidates:
            free &= np.arange(len(free)) >= len(objective.shape.max_widths)
        found = polish(
            objective, preference, self.rounded[:, index], self.assignment[:, index], free
        )
        # what another preference led to may be better for this one too, or lead to better
        known = np.concatenate([state["ordinals"][:, :index], found.ordinals[:, None]], axis=1)
        where = np.concatenate([state["assignment"][:, :index], found.assignment[:, None]], axis=1)
        best = int(np.argmin(objective.value(preference[:, None], known, where)))
        if self.by_volume and best < index < self.settings.candidates:
            ordinals, assignment = improve(
                objective, preference, known[:, best], where[:, best], free
            )
            gap = assignment_gap(objective, preference, ordinals, assignment)
            found = replace(found, ordinals=ordinals, assignment=assignment, gap_after=gap)
        hardware_gap = found.hardware_gap if self.chip is None else self.chip["gap"][0]
        costs = objective.costs(found.ordinals[:, None], found.assignment[:, None])
        loss = objective.predicted_loss(found.ordinals[:, None], costs)[0]
        io_bytes, energy_pj = float(costs["io_bytes"][0]), float(costs["energy_pj"][0])
        state["ordinals"][:, index] = found.ordinals
        state["assignment"][:, index] = found.assignment
        state["gaps"][:, index] = found.gap_before, found.gap_after, hardware_gap
        state["measures"][:, index] = np.exp(-loss), io_bytes, energy_pj
        return state, {"loss": float(loss), "io_bytes": io_bytes, "energy_pj": energy_pj}

    def _measure(self, state: dict[str, Any], place: int) -> tuple[dict[str, Any], dict | None]:
        context, objective = self.context, self.objective
        if place == 0:
            feasible = np.isfinite(state["measures"]).all(axis=0)
            best = self._choose(state, feasible, most_measured(self.settings))
            state["measured"][best] = True
        waiting = np.flatnonzero(state["measured"])
        if place >= len(waiting):
            return state, None
        index = waiting[place]
        ordinals, assignment = state["ordinals"][:, index], state["assignment"][:, index]
        costs = objective.costs(ordinals[:, None], assignment[:, None])
        found = context.evaluate(
            self.weights["params"],
            self.weights["stats"],
            context.calibration,
            context.data.validation,
            objective.shape.widths(ordinals),
            context.crossing(costs["crossing"])[:, 0],
        )
        accuracy = found.correct / len(context.data.validation)
        state["measures"][0, index] = np.exp(-found.loss) if self.by_volume else accuracy
        return state, {"accuracy": accuracy, "loss": found.loss}

    def _choose(self, state: dict[str, Any], usable: np.ndarray, count: int) -> list[int]:
        """At most `count` different candidates by the rule of the experiment.

        By hypervolume, of candidates that are one network those that cost more are left out.
        """
        if not self.by_volume:
            designs = np.concatenate([state["ordinals"], state["assignment"]])
            _, first = np.unique(designs, axis=1, return_index=True)
            left = np.array(sorted(set(first) & set(np.flatnonzero(usable))), int)
            quality, io_bytes, energy = state["measures"][:, left]
            points = np.stack([-quality, np.log(io_bytes), np.log(energy)], axis=1)
            return [int(left[i]) for i in by_fronts(points, range(len(points)), count)]
        costs = self.objective.costs(state["ordinals"], state["assignment"])
        crossing = self.context.crossing(costs["crossing"])
        active = self.context.active(crossing)
        widths = np.where(active, self.objective.shape.widths(state["ordinals"]), 0)
        left = distinct(np.concatenate([widths, crossing]), state["measures"][1:], usable)
        quality, io_bytes, energy = state["measures"][:, left]
        worst = self.objective.reference
        points = np.stack([-quality, np.log(io_bytes), np.log(energy)], axis=1)
        reference = np.array(
            [
                -1.0 / self.context.data.classes,
                np.log(worst["io_bytes"]),
                np.log(worst["energy_pj"]),
            ]
        )
        return [int(left[i]) for i in choose(points, reference, count)]


def most_measured(settings: Selection) -> int:
    """How many candidates are measured at most."""
    candidates = settings.candidates + tied_count(settings)
    return min(candidates, settings.measured or candidates)


def tied_count(settings: Selection) -> int:
    """How many candidates of one common width there are."""
    return TIED if settings.rule == "hypervolume" else 0


def proposals(
    context: Context, shape: Any, policy: dict[str, Any], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preferences [5, count] and the policy's relaxed designs for them.

    Returns:
        preferences, ordinals [ordinals, count] real, logits [layers, cores, count].
    """
    rng = np.random.default_rng([context.config.seed, 5])
    preferences = sample_preferences(rng, count, list(context.config.surface.policy.terms))
    params = {name: np.asarray(value) for name, value in policy["params"].items()}
    ordinals, logits = propose(shape, params, preferences, np)
    return preferences, ordinals.astype(float), logits


def tied_designs(
    context: Context, shape: Shape, reference: tuple[np.ndarray, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Designs with one common power of each boundary's largest width, as half of the training has.

    The policy asks the predictor, and that knows the shared weights alone: they may serve narrow
    designs so well that no wider one is ever proposed, although tuning would gain more there.

    Returns:
        preferences [5, designs] of costs alone, ordinals [ordinals, designs], assignment
        [layers, designs] of the reference.
    """
    ordinals, assignment = reference
    widths = len(shape.max_widths)
    tied = np.repeat(np.array(ordinals, float)[:, None], count, axis=1)
    top = shape.ordinal_high[:widths, None]
    tied[:widths] = np.clip(
        np.round(top ** np.linspace(0.0, 1.0, count)), shape.ordinal_low[:widths, None], top
    )
    terms = context.config.surface.policy.terms
    preferences = np.zeros((len(TERMS), count), np.float32)
    preferences[[TERMS.index(term) for term in terms]] = 1.0 / len(terms)
    return preferences, tied, np.repeat(assignment[:, None], count, axis=1)


def rounded(
    shape: Shape, ordinals: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Relaxed designs as integer ones: [ordinals, designs] and [layers, designs]."""
    low, high = shape.ordinal_low[:, None], shape.ordinal_high[:, None]
    return np.clip(np.round(ordinals), low, high).astype(int), np.argmax(logits, axis=1)


def free_ordinals(context: Context, shape: Shape) -> np.ndarray:
    """[ordinals] which ordinals each design may choose: knobs only where hardware is its own."""
    is_width = np.arange(len(shape.ordinal_high)) < len(shape.max_widths)
    return is_width | (context.config.hardware.mode == "per_design")


def distinct(networks: np.ndarray, costs: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Indices of usable designs, without those of whose network a cheaper one is there.

    Args:
        networks: [features, designs] what tells networks apart.
        costs: [objectives, designs].
        usable: [designs].
    """
    left: list[int] = []
    for i in np.lexsort(costs):
        same = [k for k in left if (networks[:, k] == networks[:, i]).all()]
        if usable[i] and not any((costs[:, k] <= costs[:, i]).all() for k in same):
            left.append(int(i))
    return np.array(sorted(left), int)


def choose(points: np.ndarray, reference: np.ndarray, count: int) -> list[int]:
    """Indices of at most `count` points, each taken for the hypervolume that it adds.

    Where none adds any more, front by front whatever is farthest from what has been taken: those
    that are dominated, and last those that are worse than the reference.

    Args:
        points: [n, objectives] to be minimised.
        reference: [objectives] the worst that counts: chance, and the costs of the reference
            design.
        count: how many.
    """
    taken: list[int] = []
    left = list(range(len(points)))
    while left and len(taken) < count:
        volumes = [moocore.hypervolume(points[[*taken, i]], ref=reference) for i in left]
        best = int(np.argmax(volumes))
        if not volumes[best] > (moocore.hypervolume(points[taken], ref=reference) if taken else 0):
            break
        taken.append(left.pop(best))
    inside = (points < reference).all(axis=1)
    for group in (inside, ~inside):
        rest = [int(i) for i in np.flatnonzero(group) if i not in taken]
        taken += by_fronts(points, rest, count - len(taken))
    return taken


def by_fronts(points: np.ndarray, among: Iterable[int], count: int) -> list[int]:
    """Indices of at most `count` of some points, front by front, each spread over its range."""
    taken: list[int] = []
    left = list(among)
    while left and len(taken) < count:
        front = np.array(left)[moocore.is_nondominated(points[left], keep_weakly=True)]
        taken += spread(points, front, count - len(taken))
        left = [i for i in left if i not in set(front)]
    return taken


def spread(points: np.ndarray, front: np.ndarray, count: int) -> list[int]:
    """Indices of `count` members of a front, extremes first, then farthest from those taken."""
    if len(front) <= count:
        return list(front)
    span = np.ptp(points[front], axis=0)
    scaled = points[front] / np.where(span > 0, span, 1.0)
    taken = list(dict.fromkeys(int(i) for i in np.argmin(scaled, axis=0)))[:count]
    while len(taken) < count:
        distance = np.linalg.norm(scaled[:, None] - scaled[None, taken], axis=2).min(axis=1)
        taken.append(int(np.argmax(distance)))
    return [int(front[i]) for i in taken]
