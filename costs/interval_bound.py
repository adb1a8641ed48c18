"""A lower bound of the interval of any assignment, by the sets of layers that cores can hold.

For an interval T, core k can hold a set of layers if it computes them, keeps their weights and
sends and receives their tensors within T (`costs.core_sets`). An assignment within T is one set for
each core, together every layer once, with traffic that the links carry within T. If not even
fractions of sets can do that, no assignment can, and T is a lower bound. The linear program over
sets is solved by column generation; its dual is the proof, made valid where the search for sets was
cut short by a bound on what they are worth (Lagrange). Bisection over T does the rest.

A tensor's route depends on who reads it. Links whose traffic follows from the sender alone, or the
receiver alone (a bus, a core's port), are rows over sets. For others (ring, mesh, point to point)
fractions of each tensor flow from cores that send it to cores that receive it, several readers
counting as the nearest one.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import coo_array, csr_array, hstack

from costs.assignment_instance import AssignmentInstance
from costs.core_sets import ROUND, Found, Limits, Prices, SetGraph, find_sets
from costs.instance_cost import calc_objective

CLOSED = 1e-3  # relative distance of bound and value that counts as none
FINE = 0.004  # relative width at which bisection stops
PROOF = 1e-6  # a dual value above it proves that an interval is out of reach
SMOOTH = 0.5  # part of the best dual so far in the next prices (Wentges 1997)
MOST_CUT = 4  # links that together are looked for on all routes of a core


def bound_interval(instance: AssignmentInstance, known: np.ndarray, *, rounds: int = 100) -> float:
    """The largest interval that was proved to be out of reach [s].

    Args:
        instance: layers, cores, links.
        known: [layers, assignments] good assignments that fit; the best sets the scale, all give
            the first sets.
        rounds: linear programs to solve at most.
    """
    value = high = float(calc_objective(instance, known).min())
    low = _simple_bound(instance)
    program = _SetProgram(instance, known, rounds)
    gap = CLOSED
    while low < value * (1 - CLOSED) * (1 - ROUND) and program.rounds > 0:
        if gap > CLOSED and high / low - 1 <= FINE:
            break
        tried = max(value * (1 - gap), low if gap == CLOSED else (low + high) / 2)
        if program.excludes(tried):
            low = tried
        else:
            high = tried
        gap *= 8 if gap == CLOSED else 2
    return low


def _simple_bound(instance: AssignmentInstance) -> float:
    """The longest layer on its fastest core, or a fair share of all [s]."""
    time_s = np.where(instance.possible, instance.layers.time_s, np.inf).min(axis=1)
    return float(max(time_s.max(), time_s.sum() / instance.shape[1]))


class _SetProgram:
    """The linear program over sets, kept while T changes: only right-hand sides depend on T."""

    def __init__(self, instance: AssignmentInstance, known: np.ndarray, rounds: int) -> None:
        self.instance, self.graph, self.rounds = instance, SetGraph(instance), rounds
        self.tensors = np.array(self.graph.kept, int)
        self.unit = float(instance.tensor_bytes.mean()) if len(instance.tensor_bytes) else 1.0
        layers, cores = instance.shape
        self.seen: set[tuple[int, bytes]] = set()
        self.core = np.zeros(0, int)
        self.used = np.zeros((5, 0))  # time, sent, received, both, DRAM of each set
        self._traffic_rows()
        self.columns: Any = csr_array((layers + cores + self.rows, 0))
        for assignment in known.T:
            member = assignment[:, None] == np.arange(cores)
            self.add(np.arange(cores), member)

    def _traffic_rows(self) -> None:
        """Rows beside layers and cores: links, DRAM, tensors that flow; and the flows' columns.

        `leave` and `arrive` [tensors, cores, rows] are a set's entries for a tensor that it sends
        or receives; right sides are `rate` T.
        """
        instance, cores = self.instance, self.instance.shape[1]
        count, route = len(instance.consumers), instance.route.astype(bool)
        size = instance.tensor_bytes / self.unit
        leave, arrive, rate = [], [], []

        def row(bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
            leave.append(np.zeros((count, cores)))
            arrive.append(np.zeros((count, cores)))
            rate.append(bandwidth / self.unit)
            return leave[-1], arrive[-1]

        flowing = []
        for link, bandwidth in enumerate(instance.bandwidth_bytes_per_s):
            uses = route[:, :, link] | np.eye(cores, dtype=bool)
            senders, receivers = route[:, :, link].any(axis=1), route[:, :, link].any(axis=0)
            if uses[senders].all():
                row(bandwidth)[0][:] = np.outer(size, senders)
            elif uses[:, receivers].all():
                row(bandwidth)[1][:] = np.outer(size, receivers)
            elif senders.any():
                flowing.append(link)
        first = len(rate)
        for link in flowing:
            row(float(instance.bandwidth_bytes_per_s[link]))
        entries: list[tuple[int, int, float]] = []
        column = 0
        for tensor in self.tensors if flowing else ():
            at = len(rate)
            for core in range(cores):  # what is sent flows, what flows is received
                row(0.0)[0][tensor, core] = 1.0
                row(0.0)[1][tensor, core] = -1.0
            for i, j in itertools.permutations(range(cores), 2):
                entries += [(at + 2 * i, column, -1.0), (at + 2 * j + 1, column, 1.0)]
                entries += [
                    (first + n, column, float(size[tensor]))
                    for n, link in enumerate(flowing)
                    if route[i, j, link]
                ]
                column += 1
        self.leave = np.stack(leave, axis=-1) if leave else np.zeros((count, cores, 0))
        self.arrive = np.stack(arrive, axis=-1) if arrive else np.zeros((count, cores, 0))
        rate.append(instance.dram_bandwidth_bytes_per_s / self.unit)
        self.rate = np.array(rate)
        self.rows = len(rate)
        layers = instance.shape[0]
        rows, columns, values = np.array(entries, float).reshape(-1, 3).T
        shape = (layers + cores + self.rows, column)
        self.flows = coo_array(
            (values, (rows.astype(int) + layers + cores, columns.astype(int))), shape
        )

    def limits(self, interval_s: float) -> Limits:
        """What one core may send and receive: the links that all its routes use."""
        instance, cores = self.instance, self.instance.shape[1]
        bounds = np.full((3, cores), np.inf)
        for core in range(cores):
            others = np.arange(cores) != core
            out = _smallest_cut(instance.route[core, others])
            into = _smallest_cut(instance.route[others, core])
            for kind, cut in enumerate((out, into)):
                if cut is not None:
                    rate = instance.bandwidth_bytes_per_s[list(cut)].sum()
                    bounds[kind, core] = rate * interval_s
            if out is not None and out == into:
                bounds[2, core] = bounds[0, core]
        return Limits(interval_s, *bounds)

    def add(self, core: np.ndarray, member: np.ndarray) -> int:
        """Take sets [sets], [layers, sets] in; the number of new ones."""
        new = [
            n
            for n, key in enumerate(zip(core.tolist(), map(bytes, member.T), strict=True))
            if key not in self.seen and not self.seen.add(key)
        ]
        if not new:
            return 0
        core, member = core[new], member[:, new]
        instance = self.instance
        cores = instance.shape[1]
        leaves, arrives = (np.zeros((len(instance.consumers), len(core)), bool) for _ in range(2))
        for tensor in self.tensors:
            readers = member[list(instance.consumers[tensor])]
            made = member[instance.producer[tensor]]
            leaves[tensor] = made & ~readers.all(axis=0)
            arrives[tensor] = ~made & readers.any(axis=0)
        sums = {}
        for name in ("time_s", "dram_bytes"):
            sums[name] = sum(
                (getattr(costs, name)[:, core] * taken).sum(axis=0)
                for costs, taken in (
                    (instance.layers, member), (instance.send, leaves), (instance.receive, arrives)
                )
            )  # fmt: skip
        sent, received = (instance.tensor_bytes @ taken for taken in (leaves, arrives))
        used = np.stack([sums["time_s"], sent, received, sent + received, sums["dram_bytes"]])
        traffic = np.einsum("ts,tsr->rs", leaves, self.leave[:, core])
        traffic += np.einsum("ts,tsr->rs", arrives, self.arrive[:, core])
        held = np.eye(cores)[:, core]
        dense = np.concatenate([member, held, traffic, used[4:] / self.unit])
        self.columns = hstack([self.columns, csr_array(dense)], format="csr")
        self.core = np.concatenate([self.core, core])
        self.used = np.concatenate([self.used, used], axis=1)
        return len(new)

    def excludes(self, interval_s: float) -> bool:
        """Whether no assignment has this interval; False where that is not proved."""
        limits = self.limits(interval_s)
        charge = np.zeros((3, self.instance.shape[1]))
        best, proved = None, -np.inf
        while self.rounds > 0:
            self.rounds -= 1
            found = self._solve(limits)
            if found.fun < PROOF:
                return False
            exact = np.concatenate([found.eqlin.marginals, found.ineqlin.marginals])
            tries = [exact] if best is None else [SMOOTH * best + (1 - SMOOTH) * exact, exact]
            for dual in tries:  # the second where smoothed prices find nothing new
                sets, value, charge = self._price(dual, limits, charge)
                if value > proved:
                    best, proved = dual, value
                if proved > PROOF:
                    return True
                if self.add(sets.core, sets.member):
                    break
            else:
                return False
        return False

    def _solve(self, limits: Limits) -> OptimizeResult:
        """Least sum of layers that are missing or taken twice."""
        layers, cores = self.instance.shape
        bounds = np.stack([limits.out_bytes, limits.in_bytes, limits.both_bytes])[:, self.core]
        near = 1 + ROUND
        fits = (self.used[0] <= limits.interval_s * near) & (self.used[1:4] <= bounds * near).all(
            axis=0
        )
        eye = coo_array(np.eye(layers + cores + self.rows, layers))
        parts = [self.columns[:, np.flatnonzero(fits)], self.flows, eye, -eye]
        matrix: Any = hstack(parts, format="csr")
        cost = np.zeros(matrix.shape[1])
        cost[-2 * layers :] = 1.0
        right = np.concatenate([np.ones(cores), self.rate * limits.interval_s])
        kept = np.isfinite(right)
        found = linprog(
            cost,
            A_eq=matrix[:layers],
            b_eq=np.ones(layers),
            A_ub=matrix[layers:][kept],
            b_ub=right[kept],
            method="highs-ds",
        )
        dual = np.zeros(len(kept))
        dual[kept] = found.ineqlin.marginals
        found.ineqlin.marginals = dual
        return found

    def _price(
        self, dual: np.ndarray, limits: Limits, charge: np.ndarray
    ) -> tuple[Found, float, np.ndarray]:
        """Sets of large worth, what the dual point proves, and new multipliers."""
        layers, cores = self.instance.shape
        gain, held, rows = np.split(dual, [layers, layers + cores])
        links, dram = rows[:-1], rows[-1]
        prices = Prices(gain, -(self.leave @ links), -(self.arrive @ links), -dram / self.unit)
        sets, charge = find_sets(self.graph, limits, prices, np.maximum(-held, 0.0), charge)
        value = gain.sum() - sets.most.sum()
        finite = np.isfinite(self.rate)
        value += rows[finite] @ self.rate[finite] * limits.interval_s
        return sets, float(value), charge


def _smallest_cut(routes: np.ndarray) -> tuple[int, ...] | None:
    """Fewest links of which every route [routes, links] uses one."""
    if not len(routes):
        return None
    links = np.flatnonzero(routes.any(axis=0))
    for size in range(1, MOST_CUT + 1):
        for cut in itertools.combinations(links.tolist(), size):
            if routes[:, cut].any(axis=1).all():
                return cut
    return None
