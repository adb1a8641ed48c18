"""Which layers one core can run within an interval: the pricing problem of `costs.interval_bound`.

What a core does in an interval follows from the *set* of layers it has: their time, the tensors
that leave it, the tensors that reach it. `SetGraph` unrolls that into a layered graph (node: which
open tensors the core made and which were paid already; arc: take the next layer or not), in which a
set is a path and its time, weights and traffic add up along it. `find_sets` lists paths of largest
worth within the limits by labels, which are dropped where another label at the same node is as good
in everything, or where a bound on what can follow shows them to be worthless.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from costs.assignment_instance import AssignmentInstance

BUCKETS = 256  # of time, in the bound on what can follow; rounding down keeps it a bound
ROUND = 1e-9  # relative slack of every limit: sets are rather admitted than lost
MOST_NODES = 256  # of a layer; tensors open for longer are left out, which keeps bounds valid
NEVER = -1e30
COMPARED = 12  # labels before each that it is compared with


@dataclass(frozen=True)
class Step:
    """Arcs of one layer: from node n, taking the layer (1) or not (0).

    Attributes:
        to: [nodes, 2] node reached.
        tensors: numbers of the tensors that can be paid here.
        leaves: [nodes, 2, tensors] whether the tensor was made on the core and is read elsewhere.
        arrives: [nodes, 2, tensors] whether it was made elsewhere and is read on the core.
        time_s: [nodes, 2, cores] [s].
        dram_bytes: [nodes, 2, cores] [bytes].
        out_bytes, in_bytes: [nodes, 2] [bytes].
    """

    to: np.ndarray
    tensors: np.ndarray
    leaves: np.ndarray
    arrives: np.ndarray
    time_s: np.ndarray
    dram_bytes: np.ndarray
    out_bytes: np.ndarray
    in_bytes: np.ndarray


@dataclass(frozen=True)
class Limits:
    """What a core may take within the interval, each [cores]; infinite where nothing limits it.

    Attributes:
        interval_s: [s], a number.
        out_bytes: tensors sent.
        in_bytes: tensors received.
        both_bytes: together.
    """

    interval_s: float
    out_bytes: np.ndarray
    in_bytes: np.ndarray
    both_bytes: np.ndarray


@dataclass(frozen=True)
class Prices:
    """What sets are worth.

    Attributes:
        gain: [layers] worth of a layer.
        leave: [tensors, cores] price of a tensor that leaves the core.
        arrive: [tensors, cores] price of a tensor that reaches it.
        dram: [1 / byte] price of traffic with DRAM.
    """

    gain: np.ndarray
    leave: np.ndarray
    arrive: np.ndarray
    dram: float


@dataclass(frozen=True)
class Found:
    """Sets of large worth.

    Attributes:
        core: [sets].
        member: [layers, sets].
        most: [cores] no set of that core is worth more.
    """

    core: np.ndarray
    member: np.ndarray
    most: np.ndarray


class SetGraph:
    """The layered graph of an instance."""

    def __init__(self, instance: AssignmentInstance) -> None:
        """Unroll the states of the open tensors layer by layer."""
        self.instance = instance
        self.kept = [number for number, readers in enumerate(instance.consumers) if readers]
        while True:
            steps = self._unroll()
            if steps is not None:
                break
            span = [instance.consumers[n][-1] - instance.producer[n] for n in self.kept]
            self.kept.pop(int(np.argmax(span)))
        self.steps: list[Step] = steps

    def _unroll(self) -> list[Step] | None:
        states: dict[tuple, int] = {(): 0}
        steps = []
        for layer in range(self.instance.shape[0]):
            step, states = self._step(layer, states)
            if len(states) > MOST_NODES:
                return None
            steps.append(step)
        return steps

    def _step(self, layer: int, states: dict[tuple, int]) -> tuple[Step, dict[tuple, int]]:
        instance = self.instance
        made = [n for n in self.kept if instance.producer[n] == layer]
        read = np.array([n for n in self.kept if layer in instance.consumers[n]], int)
        following: dict[tuple, int] = {}
        to = np.zeros((len(states), 2), int)
        leaves = np.zeros((len(states), 2, len(read)), bool)
        arrives = np.zeros_like(leaves)
        for (state, node), taken in itertools.product(states.items(), (False, True)):
            after = []
            for tensor, own, paid in state:
                if layer in instance.consumers[tensor] and not paid and own != taken:
                    paid = True
                    (leaves if own else arrives)[node, int(taken), read == tensor] = True
                if layer < instance.consumers[tensor][-1]:
                    after.append((tensor, own, paid))
            after += [(tensor, taken, False) for tensor in made]
            to[node, int(taken)] = following.setdefault(tuple(after), len(following))
        rows = {}
        for name in ("time_s", "dram_bytes"):
            sent, received = (getattr(c, name)[read] for c in (instance.send, instance.receive))
            rows[name] = leaves @ sent + arrives @ received
            rows[name][:, 1] += getattr(instance.layers, name)[layer]
        size = instance.tensor_bytes[read]
        step = Step(
            to, read, leaves, arrives, **rows, out_bytes=leaves @ size, in_bytes=arrives @ size
        )
        return step, following


class _Worth:
    """Arc prices of one pricing, and the bound on what can follow a node.

    Attributes:
        cost: for each layer [nodes, 2, cores] price of tensors and DRAM less the layer's gain.
        follow: for each layer [cores, nodes, BUCKETS + 1] upper bound of what the remaining layers
            add within the remaining time, traffic charged by the multipliers.
    """

    def __init__(self, graph: SetGraph, limits: Limits, prices: Prices, charge: np.ndarray) -> None:
        self.graph, self.limits, self.charge = graph, limits, charge
        self.cost = []
        for layer, step in enumerate(graph.steps):
            cost = step.leaves @ prices.leave[step.tensors]
            cost += step.arrives @ prices.arrive[step.tensors] + prices.dram * step.dram_bytes
            cost[:, 1] -= prices.gain[layer]
            self.cost.append(cost)
        # charged for bytes sent and received, and given back for what the limits allow
        self.out, self.into = charge[0] + charge[2], charge[1] + charge[2]
        bounds = np.stack([limits.out_bytes, limits.in_bytes, limits.both_bytes])
        self.allowed = np.where(charge > 0, charge * np.where(charge > 0, bounds, 0.0), 0.0).sum(
            axis=0
        )
        self._bound()

    def _bound(self) -> None:
        steps, cores = self.graph.steps, len(self.allowed)
        rest = np.zeros((cores, int(steps[-1].to.max()) + 1, BUCKETS + 1))
        self.follow = [rest]
        self.slots = []
        bucket = np.arange(BUCKETS + 1)
        for step, cost in zip(reversed(steps), reversed(self.cost), strict=True):
            slots = self._slots(step.time_s)
            self.slots.append(slots)
            best = np.full((cores, len(step.to), BUCKETS + 1), NEVER)
            for taken in (0, 1):
                left = bucket - slots[:, taken].T[:, :, None]
                after = rest[:, step.to[:, taken]]
                after = np.where(
                    left >= 0, np.take_along_axis(after, np.maximum(left, 0), 2), NEVER
                )
                traffic = step.out_bytes[:, taken, None] * self.out
                traffic = traffic + step.in_bytes[:, taken, None] * self.into
                best = np.maximum(best, after - (cost[:, taken] + traffic).T[:, :, None])
            rest = best
            self.follow.append(rest)
        self.follow.reverse()
        self.slots.reverse()

    def _slots(self, time_s: np.ndarray) -> np.ndarray:
        part = np.minimum(time_s / self.limits.interval_s, 2.0)
        return np.floor(part * BUCKETS * (1 - ROUND)).astype(int)

    @property
    def root(self) -> np.ndarray:
        """[cores] upper bound of any set's worth."""
        return self.follow[0][:, 0, -1] + self.allowed

    def traffic(self) -> tuple[np.ndarray, np.ndarray]:
        """[cores] bytes sent and received by the path that the bound follows."""
        cores = np.arange(len(self.allowed))
        node, left = np.zeros(len(cores), int), np.full(len(cores), BUCKETS)
        sent, received = np.zeros(len(cores)), np.zeros(len(cores))
        for layer, step in enumerate(self.graph.steps):
            worth, rest = [], []
            for taken in (0, 1):
                after = left - self.slots[layer][node, taken, cores]
                value = self.follow[layer + 1][cores, step.to[node, taken], np.maximum(after, 0)]
                value = np.where(after >= 0, value, NEVER) - self.cost[layer][node, taken, cores]
                value -= step.out_bytes[node, taken] * self.out
                worth.append(value - step.in_bytes[node, taken] * self.into)
                rest.append(after)
            taken = (worth[1] > worth[0]).astype(int)
            left = np.where(taken, rest[1], rest[0])
            sent += step.out_bytes[node, taken]
            received += step.in_bytes[node, taken]
            node = step.to[node, taken]
        return sent, received


def find_sets(
    graph: SetGraph,
    limits: Limits,
    prices: Prices,
    floor: np.ndarray,
    charge: np.ndarray,
    *,
    most_labels: int = 3000,
    each: int = 4,
) -> tuple[Found, np.ndarray]:
    """Sets of each core worth more than its floor, the best first found among them.

    Args:
        graph: of the instance.
        limits: of time and traffic.
        prices: that make a set's worth.
        floor: [cores] worth that does not interest.
        charge: [3, cores] multipliers of the traffic's limits from the last call, zeros at first.
        most_labels: labels kept in a layer; where some are lost `Found.most` is the bound alone.
        each: sets returned for a core.

    Returns:
        The sets, and multipliers for the next call.
    """
    worth = _Worth(graph, limits, prices, charge)
    bounds = np.stack([limits.out_bytes, limits.in_bytes, limits.both_bytes])
    sent, received = worth.traffic()
    over = np.stack([sent, received, sent + received]) - bounds
    finite = np.isfinite(bounds) & (bounds > 0)
    scale = np.where(finite, bounds, 1.0)
    step = 0.6 * np.abs(prices.gain).mean() * np.where(finite, over, 0.0) / scale**2
    charge = np.maximum(charge + step, 0.0)
    worth = _Worth(graph, limits, prices, charge)
    labels = _Labels(graph, limits, worth, floor, most_labels)
    return labels.found(each), charge


class _Labels:
    """Partial sets, layer by layer."""

    def __init__(
        self, graph: SetGraph, limits: Limits, worth: _Worth, floor: np.ndarray, most: int
    ) -> None:
        self.graph, self.limits, self.worth, self.floor = graph, limits, worth, floor
        cores = len(floor)
        self.core, self.node = np.arange(cores), np.zeros(cores, int)
        # rows: worth, then what is used: part of the interval, weights, bytes sent and received
        self.sums = np.zeros((5, cores))
        self.lost = np.zeros(cores, bool)
        self.parents: list[np.ndarray] = []
        self.taken: list[np.ndarray] = []
        for layer in range(len(graph.steps)):
            self._extend(layer, most)

    def _extend(self, layer: int, most: int) -> None:
        parts = [self._arc(layer, taken) for taken in (0, 1)]
        core, node, sums, above, parent = (
            np.concatenate(p, axis=-1) for p in zip(*parts, strict=True)
        )
        taken = np.repeat([0, 1], [len(part[0]) for part in parts])
        kept = (
            _undominated(core * MOST_NODES + node, sums)
            if len(core) > 200
            else np.arange(len(core))
        )
        if len(kept) > most:
            order = np.argpartition(-above[kept], most)
            self.lost[core[kept[order[most:]]]] = True
            kept = kept[order[:most]]
        self.core, self.node, self.sums = core[kept], node[kept], sums[:, kept]
        self.parents.append(parent[kept])
        self.taken.append(taken[kept])

    def _arc(self, layer: int, taken: int) -> tuple[np.ndarray, ...]:
        """Labels after one choice: core, node, sums, bound over the floor, parent."""
        instance, step, worth = self.graph.instance, self.graph.steps[layer], self.worth
        limits, core, node = self.limits, self.core, self.node
        sums = self.sums.copy()
        sums[0] -= worth.cost[layer][node, taken, core]
        sums[1] += step.time_s[node, taken, core] / limits.interval_s
        sums[3] += step.out_bytes[node, taken]
        sums[4] += step.in_bytes[node, taken]
        near = 1 + ROUND
        fits = (sums[1] <= near) & (sums[3] <= limits.out_bytes[core] * near)
        fits &= sums[4] <= limits.in_bytes[core] * near
        fits &= sums[3] + sums[4] <= limits.both_bytes[core] * near
        if taken:
            sums[2] += instance.layers.weight_bytes[layer, core]
            fits &= instance.possible[layer, core]
            fits &= sums[2] <= instance.capacity_bytes[core] * near
        parent = np.flatnonzero(fits)
        core, sums = core[parent], sums[:, parent]
        node = step.to[node[parent], taken]
        left = np.clip(np.floor((1 - sums[1]) * BUCKETS + 1e-6), 0, BUCKETS).astype(int)
        above = sums[0] + worth.follow[layer + 1][core, node, left] + worth.allowed[core]
        above -= worth.out[core] * sums[3] + worth.into[core] * sums[4] + self.floor[core]
        good = above > 0
        return core[good], node[good], sums[:, good], above[good], parent[good]

    def found(self, each: int) -> Found:
        """The best sets of each core that were kept."""
        most = np.maximum(self.floor, 0.0)
        np.maximum.at(most, self.core, self.sums[0])
        root = np.maximum(self.worth.root, 0.0)
        most = np.where(self.lost, np.maximum(root, most), np.minimum(most, root))
        order = np.lexsort((-self.sums[0], self.core))
        first = np.searchsorted(self.core[order], self.core[order])
        at = chosen = order[np.arange(len(order)) - first < each]
        member = np.zeros((len(self.graph.steps), len(chosen)), bool)
        for layer in range(len(member) - 1, -1, -1):
            member[layer] = self.taken[layer][at]
            at = self.parents[layer][at]
        return Found(self.core[chosen], member, most)


def _undominated(place: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Labels for which none of those next to them by worth is as good in everything."""
    order = np.lexsort((sums[1], -sums[0], place))
    place, used = place[order], sums[1:, order]
    alive = np.ones(len(order), bool)
    for apart in range(1, COMPARED + 1):
        same = place[apart:] == place[:-apart]
        alive[apart:] &= ~(same & (used[:, :-apart] <= used[:, apart:]).all(axis=0))
    return order[alive]
