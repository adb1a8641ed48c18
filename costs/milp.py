"""Proved optimal assignment of any layer to any core, by mixed integer linear programming (HiGHS).

Every cost of an instance is linear in x[l, k] (layer l on core k) and in what a tensor adds when it
leaves its core; the interval is bounded by every core, link and the DRAM. With p the producer and c
any consumer of tensor t:

    sent[t, k]     >= x[p, k] - x[c, k]                      made on k, read elsewhere
    received[t, k] >= x[c, k] - x[p, k]                      read on k, made elsewhere
    way[t, n, i]   >= x[p, i] + sum over J(i, n) x[c, j] - 1  J: cores that i reaches over link n
    on_link[t, n]  >= sum over i of way[t, n, i]             the producer is on one core only

so a tensor is paid once for a link and once for a core, however many consumers it has there.
docs/theory/assignment.md has the proof that the least values are those of the evaluator.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import coo_array

from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.errors import InputError
from costs.instance_cost import OBJECTIVES, CostTables, calc_instance_cost

PROVED = 1e-6  # relative distance of bound and value that counts as none
PJ = 1e-12


@dataclass(frozen=True)
class Solution:
    """An assignment and what is known about it.

    Attributes:
        assignment: [layers] core of each layer.
        value: its objective, by the evaluator.
        bound: no assignment costs less.
        seconds: spent [s].
    """

    assignment: np.ndarray
    value: float
    bound: float
    seconds: float

    @property
    def gap(self) -> float:
        """Value over bound, less 1."""
        return self.value / self.bound - 1.0 if self.bound > 0 else float(self.value > 0)

    @property
    def proved(self) -> bool:
        """Whether the assignment is optimal up to rounding."""
        return self.gap <= 2 * PROVED


def calc_weighted(
    instance: AssignmentInstance | CostTables, assignment: np.ndarray, weights: dict[str, float]
) -> np.ndarray:
    """[assignments] weighted sum of costs by name; infinite where weights do not fit."""
    costs = calc_instance_cost(instance, assignment)
    total = sum(weight * costs[name] for name, weight in weights.items())
    return np.where(costs["fits"], total, np.inf)


def as_weights(objective: str | dict[str, float]) -> dict[str, float]:
    """Weights of `interval_s`, `energy_pj` and `io_bytes` of a named objective, or those given."""
    weights = {OBJECTIVES[objective]: 1.0} if isinstance(objective, str) else objective
    unknown = set(weights) - set(OBJECTIVES.values())
    if unknown or min(weights.values()) < 0:
        raise InputError(key="objective", value=weights, allowed=f"weights of {OBJECTIVES}")
    return weights


def solve_milp(
    instance: AssignmentInstance,
    objective: str | dict[str, float] = "interval",
    *,
    known: np.ndarray | None = None,
    homes: tuple[CoreCosts, ...] | None = None,
    excluded: tuple[np.ndarray, ...] = (),
    time_limit_s: float = 60.0,
    gap: float = PROVED,
) -> Solution:
    """The assignment of least objective, with its bound.

    Args:
        instance: layers, cores, links.
        objective: a name of `OBJECTIVES`, or weights of costs by their names.
        known: [layers] an assignment found before; it bounds the search and is returned where
            nothing better is found in time.
        homes: costs of the layers by where their operands live, of which the solver may choose one
            for each layer, in place of `instance.layers`; then the value is that of the program.
        excluded: assignments [layers] that are not wanted.
        time_limit_s: when to stop [s].
        gap: relative distance of value and bound at which to stop.

    Raises:
        InputError: if no assignment fits the memories.
    """
    start = time.perf_counter()
    weights = as_weights(objective)
    program = _Program(instance, weights, homes or (instance.layers,))
    if known is not None and homes is None:
        program.cut_off(float(calc_weighted(instance, known[:, None], weights)[0]))
    for assignment in excluded:
        program.exclude(assignment)
    found = program.solve(time_limit_s - (time.perf_counter() - start), gap)
    candidates = [] if known is None else [known]
    if found.x is not None:
        candidates.append(program.assignment(found.x))
    if not candidates and found.status == 2:
        raise InputError(
            "no assignment fits: enlarge the cores' memories or add cores",
            key=instance.name,
            value=f"{instance.layers.weight_bytes.min(axis=1).sum():g} bytes of weights",
            allowed=f"{instance.capacity_bytes.sum():g} bytes in all",
        )
    if not candidates:
        candidates.append(np.argmin(np.where(instance.possible, 0.0, np.inf), axis=1))
    options = np.stack(candidates, axis=1)
    values = calc_weighted(instance, options, weights)
    if homes is not None and found.x is not None:
        values[-1] = found.fun * program.scale
    best = int(np.argmin(values))
    if found.status == 2:  # nothing else is at least as good as what is known
        bound = values[best]
    elif found.mip_dual_bound is None:  # out of time before any assignment was found
        bound = program.solve(time_limit_s, gap, relaxed=True).fun * program.scale
    else:
        bound = found.mip_dual_bound * program.scale
    seconds = time.perf_counter() - start
    return Solution(options[:, best], float(values[best]), min(bound, float(values[best])), seconds)


class _Program:
    """The linear program, built row by row."""

    def __init__(
        self, instance: AssignmentInstance, weights: dict[str, float], homes: tuple[CoreCosts, ...]
    ) -> None:
        self.instance, self.weights = instance, weights
        self.rows: list[tuple[dict[int, float], float, float]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integral: list[int] = []
        layers, cores = instance.shape
        links = len(instance.bandwidth_bytes_per_s)
        self.busy: list[dict[int, float]] = [{} for _ in range(cores)]
        self.weight: list[dict[int, float]] = [{} for _ in range(cores)]
        self.link: list[dict[int, float]] = [{} for _ in range(links)]
        self.dram: dict[int, float] = {}
        self.energy: dict[int, float] = {}
        # seconds of a fair share: brings the interval's variable near one
        finite = np.where(instance.possible, instance.layers.time_s, np.inf)
        self.unit_s = float(finite.min(axis=1).sum() / cores) or 1.0
        self.unit_pj = float(instance.layers.energy_pj.mean() * layers) or 1.0
        self.unit_bytes = float(instance.tensor_bytes.sum()) or 1.0

        self.x = np.array([[self.variable() for _ in range(cores)] for _ in range(layers)])
        for layer in range(layers):
            self.rows.append((dict.fromkeys(self.x[layer], 1.0), 1.0, 1.0))
            for core in range(cores):
                self._place(homes, layer, core)
        self._break_symmetry()
        self.served: dict[tuple, int] = {}
        for tensor, readers in enumerate(instance.consumers):
            if readers:
                self._transfer(tensor)
        self.interval = self.variable(upper=np.inf, integral=0)
        self._bound_interval()
        self.cost = self._objective()
        self.scale = max(abs(v) for v in self.cost.values()) if self.cost else 1.0

    def variable(self, upper: float = 1.0, integral: int = 1) -> int:
        self.lower.append(0.0)
        self.upper.append(upper)
        self.integral.append(integral)
        return len(self.upper) - 1

    def _place(self, homes: tuple[CoreCosts, ...], layer: int, core: int) -> None:
        x = self.x[layer, core]
        allowed = [h for h in homes if np.isfinite(h.time_s[layer, core])]
        allowed = [
            h for h in allowed if h.weight_bytes[layer, core] <= self.instance.capacity_bytes[core]
        ]
        if not allowed:
            self.upper[x] = 0.0
            return
        choices = [x] if len(allowed) == 1 else [self.variable() for _ in allowed]
        if len(allowed) > 1:
            self.rows.append(({**dict.fromkeys(choices, 1.0), x: -1.0}, 0.0, 0.0))
        for choice, home in zip(choices, allowed, strict=True):
            self._charge(home, layer, core, choice)

    def _charge(self, costs: CoreCosts, item: int, core: int, variable: int) -> None:
        self.busy[core][variable] = costs.time_s[item, core]
        self.weight[core][variable] = costs.weight_bytes[item, core]
        self.dram[variable] = self.dram.get(variable, 0.0) + costs.dram_bytes[item, core]
        self.energy[variable] = self.energy.get(variable, 0.0) + costs.energy_pj[item, core]

    def _transfer(self, tensor: int) -> None:
        instance = self.instance
        cores = instance.shape[1]
        everywhere = range(cores)
        for core in everywhere:
            others = tuple(k for k in everywhere if k != core)
            if not instance.send.is_free(tensor):
                self._charge(instance.send, tensor, core, self._way(tensor, core, others))
            if not instance.receive.is_free(tensor):
                self._charge(instance.receive, tensor, core, self._arrival(tensor, core, others))
        size = float(instance.tensor_bytes[tensor])
        for n in range(len(instance.bandwidth_bytes_per_s)):
            uses = instance.route[:, :, n].astype(bool)
            senders = [i for i in everywhere if uses[i].any()]
            receivers = [j for j in everywhere if uses[:, j].any()]
            if not senders:
                continue
            if len(receivers) < len(senders) and len(receivers) == 1:
                sources = tuple(np.flatnonzero(uses[:, receivers[0]]).tolist())
                used = [self._arrival(tensor, receivers[0], sources)]
            else:
                used = [
                    self._way(tensor, i, tuple(np.flatnonzero(uses[i]).tolist())) for i in senders
                ]
            for variable in used:
                self.link[n][variable] = self.link[n].get(variable, 0.0) + size
                pj = size * instance.link_pj_per_byte[n]
                self.energy[variable] = self.energy.get(variable, 0.0) + pj

    def _way(self, tensor: int, core: int, targets: tuple[int, ...]) -> int:
        """At least 1 where the tensor is made on the core and read on any of the targets."""
        key = ("way", tensor, core, targets)
        if key not in self.served:
            variable = self.served[key] = self.variable(integral=0)
            made = self.x[self.instance.producer[tensor], core]
            for reader in self.instance.consumers[tensor]:
                terms = {variable: 1.0, made: -1.0}
                if len(targets) == self.instance.shape[1] - 1:
                    self.rows.append(({**terms, self.x[reader, core]: 1.0}, 0.0, np.inf))
                else:
                    terms |= {self.x[reader, j]: -1.0 for j in targets}
                    self.rows.append((terms, -1.0, np.inf))
        return self.served[key]

    def _arrival(self, tensor: int, core: int, sources: tuple[int, ...]) -> int:
        """At least 1 where the tensor is read on the core and made on any of the sources."""
        key = ("arrival", tensor, core, sources)
        if key not in self.served:
            variable = self.served[key] = self.variable(integral=0)
            producer = self.instance.producer[tensor]
            for reader in self.instance.consumers[tensor]:
                terms = {variable: 1.0, self.x[reader, core]: -1.0}
                if len(sources) == self.instance.shape[1] - 1:
                    self.rows.append(({**terms, self.x[producer, core]: 1.0}, 0.0, np.inf))
                else:
                    terms |= {self.x[producer, i]: -1.0 for i in sources}
                    self.rows.append((terms, -1.0, np.inf))
        return self.served[key]

    def _bound_interval(self) -> None:
        instance = self.instance
        shares = [
            *((terms, 1.0) for terms in self.busy),
            *zip(self.link, instance.bandwidth_bytes_per_s, strict=True),
            (self.dram, instance.dram_bandwidth_bytes_per_s),
        ]
        for terms, rate in shares:
            scaled = {v: -c / rate / self.unit_s for v, c in terms.items() if c}
            if scaled:
                self.rows.append(({**scaled, self.interval: 1.0}, 0.0, np.inf))
        for core, terms in enumerate(self.weight):
            room = instance.capacity_bytes[core]
            if np.isfinite(room) and room > 0:
                self.rows.append(({v: c / room for v, c in terms.items() if c}, -np.inf, 1.0))

    def _objective(self) -> dict[int, float]:
        weights, instance = self.weights, self.instance
        cost: dict[int, float] = {}

        def add(terms: dict[int, float], weight: float) -> None:
            for variable, value in terms.items():
                cost[variable] = cost.get(variable, 0.0) + weight * value

        energy = weights.get("energy_pj", 0.0)
        second = weights.get("interval_s", 0.0) + energy * instance.idle_power_w / PJ
        add({self.interval: self.unit_s}, second)
        add(self.energy, energy)
        io = weights.get("io_bytes", 0.0)
        add(self.dram, io)
        for terms in self.link:
            add(terms, io)
        return {v: c for v, c in cost.items() if c}

    def _break_symmetry(self) -> None:
        """Of cores that can be exchanged the later takes a layer only after the earlier has one."""
        layers, cores = self.instance.shape
        for core in range(cores - 1):
            if not are_exchangeable(self.instance, core, core + 1):
                continue
            for layer in range(layers):
                terms = {self.x[layer, core + 1]: -1.0}
                terms |= dict.fromkeys(self.x[:layer, core], 1.0)
                self.rows.append((terms, 0.0, np.inf))

    def cut_off(self, value: float) -> None:
        """Only assignments at least as good are wanted; layers that alone cost more stay away."""
        if not np.isfinite(value):
            return
        allowed = value * (1 + PROVED)
        self.rows.append(
            ({v: c / self.scale for v, c in self.cost.items()}, 0.0, allowed / self.scale)
        )
        second = self.cost.get(self.interval, 0.0) / self.unit_s
        if second > 0:
            self.upper[self.interval] = allowed / second / self.unit_s
            for terms in self.busy:
                for variable, seconds in terms.items():
                    if seconds * second > allowed:
                        self.upper[variable] = 0.0

    def exclude(self, assignment: np.ndarray) -> None:
        """Another assignment than this one."""
        taken = self.x[np.arange(len(assignment)), assignment]
        self.rows.append((dict.fromkeys(taken, 1.0), 0.0, len(assignment) - 1.0))

    def solve(self, time_limit_s: float, gap: float, *, relaxed: bool = False) -> OptimizeResult:
        """What HiGHS finds; relaxed to the linear program if asked."""
        count = len(self.upper)
        entries = [
            (row, v, c) for row, (terms, _, _) in enumerate(self.rows) for v, c in terms.items()
        ]
        rows, columns, values = (np.array(part) for part in zip(*entries, strict=True))
        matrix = coo_array((values, (rows, columns)), shape=(len(self.rows), count)).tocsr()
        low, high = np.array([(low, high) for _, low, high in self.rows]).T
        cost = np.zeros(count)
        for variable, value in self.cost.items():
            cost[variable] = value / self.scale
        return milp(
            cost,
            integrality=np.array(self.integral) * (not relaxed),
            bounds=Bounds(self.lower, self.upper),  # pyright: ignore[reportArgumentType]
            constraints=LinearConstraint(matrix, low, high),
            options={"time_limit": max(time_limit_s, 0.1), "mip_rel_gap": gap},
        )

    def assignment(self, solution: np.ndarray) -> np.ndarray:
        """[layers] read off a solution."""
        return np.argmax(solution[self.x], axis=1)


def are_exchangeable(instance: AssignmentInstance, one: int, other: int) -> bool:
    """Whether exchanging two cores changes nothing."""
    order = np.arange(instance.shape[1])
    order[[one, other]] = other, one
    swapped = instance.permuted(order)
    same = all(
        np.array_equal(
            getattr(getattr(instance, part), name), getattr(getattr(swapped, part), name)
        )
        for part in ("layers", "send", "receive")
        for name in CoreCosts.__dataclass_fields__
    )
    return (
        same
        and np.array_equal(instance.route, swapped.route)
        and np.array_equal(instance.capacity_bytes, swapped.capacity_bytes)
    )
