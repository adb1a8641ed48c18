"""How close the optimizer comes to the optimum, where the optimum can be found by listing.

Small joint spaces: a random network of five layers on a chip of three cores of two types, its
bottleneck widths, the core of every layer and the hardware of both types open at once, the task
loss a fixed smooth function of the design. Layers and tables are real; prices of links, DRAM and
idle time, bandwidths, preference and loss are drawn at random. Every space is listed in full; the
optimizer (the relaxation of `dse.relaxed` by gradient, then `dse.search.polish`) may evaluate a
small share of it, and random search gets as many evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.chip import Chip, CoreType
from costs.chip_tables import assemble, calc_block, list_blocks
from costs.library import load_chip
from costs.problem import Problem, layout
from costs.tables import default_cache_dir
from dse.context import cost_boundaries
from dse.design_objective import DesignObjective
from dse.experiment_spec import Objective
from dse.objective import COSTS, TERMS
from dse.policy import decode, initial_raw
from dse.predictor import calc_features, fit
from dse.relaxed import Shape, extended_objective, sample_corner
from dse.search import polish
from models.architecture import Architecture, Builder
from models.functional import Functional
from models.trace import workload_of

CHIP = "quad_big_little"
CORES = ("narrow_0", "wide_0", "wide_1")
VALUES = 2  # smallest ones of each knob, of each type
LARGEST_WIDTH = 5  # of a pair; the next step is uncompressed
CHUNK = 20_000
VARIANTS = 10  # spaces that share a network, and so its tables and compiled step
WITHIN = 0.01  # what counts as found
STARTS, STEPS, LEARNING_RATE = 8, 20, 0.4
PROXY_DESIGNS = 64


@dataclass(frozen=True)
class Found:
    """What came out for one space.

    Attributes:
        designs: size of the space.
        evaluations: designs that the optimizer evaluated, repeated ones included.
        optimum: least objective.
        gap: exp(objective found - optimum) - 1; the objective is a weighted log of costs.
        random_gap: the same for random search with as many evaluations.
    """

    designs: int
    evaluations: int
    optimum: float
    gap: float
    random_gap: float


def small_network(rng: np.random.Generator) -> Architecture:
    """Five layers, one of them with a skip, and two boundaries of four to eight channels."""
    size = int(rng.choice([6, 8, 10]))
    first, second = (int(rng.choice([12, 16, 20])) for _ in range(2))
    net = Builder((size, size, 1), bottlenecks="all")
    x = net.relu("relu1", net.conv("conv1", net.input(), first, 3))
    x = net.boundary("middle", x)
    y = net.relu("relu2", net.conv("conv2", x, first, int(rng.choice([1, 3]))))
    x = net.relu("relu3", net.add("add", net.conv("conv3", y, first, 3), x))
    x = net.relu("relu4", net.conv("conv4", x, second, 3, int(rng.choice([1, 2]))))
    net.mean("mean", net.conv("conv5", net.boundary("late", x), 10, 1))
    return net.build()


def small_chip() -> Chip:
    """Three cores of the shipped chip, with a few values of each knob."""
    chip = load_chip(CHIP)
    types = tuple(_fewer_values(kind) for kind in chip.types)
    cores = tuple(core for core in chip.cores if core[0] in CORES)
    links = tuple(replace(link, cores=CORES) for link in chip.links)
    return replace(chip, types=types, cores=cores, links=links)


def _fewer_values(kind: CoreType) -> CoreType:
    return replace(kind, knobs=tuple((name, values[:VALUES], 0) for name, values, _ in kind.knobs))


def make_problem(seed: int) -> Problem:
    """A small network on the small chip, with its tables."""
    net = Functional.from_architecture(small_network(np.random.default_rng([seed, 0])))
    size = net.architecture.input_shape
    workload = workload_of(net.abstract, size, pooling="fused", name=f"small{seed}")
    boundaries, chip = cost_boundaries(net, workload, LARGEST_WIDTH), small_chip()
    blocks = list_blocks(boundaries, workload, chip)
    tables = [calc_block(block, chip, "energy", default_cache_dir()) for block in blocks]
    return assemble(workload, boundaries, chip, blocks, tables)


def with_prices(problem: Problem, rng: np.random.Generator) -> Problem:
    """The same problem with other prices, log-uniform over a factor of 100 (idle power: 10)."""
    link_pj, bandwidth, dram, idle = 10.0 ** rng.uniform([-1, -1, -1, -0.5], [1, 1, 1, 0.5])
    chip = problem.chip
    links = tuple(
        replace(
            link,
            energy_pj_per_bit=link.energy_pj_per_bit * link_pj,
            bandwidth_bytes_per_s=link.bandwidth_bytes_per_s * bandwidth,
        )
        for link in chip.links
    )
    table = problem.table.copy()
    table[:, 1 + problem.levels.index("dram")] *= dram
    chip = replace(
        chip,
        links=links,
        dram_energy_pj_per_bit=chip.dram_energy_pj_per_bit * dram,
        idle_power_w=chip.idle_power_w + idle * 1e-4,
    )
    return replace(problem, chip=chip, table=table)


def make_objective(problem: Problem, rng: np.random.Generator) -> DesignObjective:
    """A fixed task loss and the costs' reference: all channels, the first core, least hardware."""
    shape = Shape.of(problem)
    _, _, edges = layout(problem.workload, problem.boundaries)
    numbers = {b.tensor: i for i, b in enumerate(problem.boundaries)}
    index = np.array([e for e, edge in enumerate(edges) if edge.tensor in numbers])
    owners = np.array([numbers[edges[e].tensor] for e in index])
    reference = np.concatenate([shape.ordinal_high[: len(shape.max_widths)], np.zeros(6)])
    objective = DesignObjective(problem, Objective(), {}, {}, owners, index, None)
    costs = objective.costs(reference.astype(int)[:, None], np.zeros((shape.layers, 1), int))
    channels = np.array(shape.max_widths)[:, None]
    widths = rng.integers(1, channels + 1, (len(channels), PROXY_DESIGNS))
    crossing = rng.integers(0, 2, (len(index), PROXY_DESIGNS))
    features = calc_features(widths * 1.0, crossing, shape.max_widths, owners, np)
    slope = (
        rng.uniform(0.05, 0.5, (len(features), 1))
        * np.tile([0.2, -1.0, 1.0], len(channels))[:, None]
    )
    model = fit(features, np.log(0.1) + (slope * features).sum(axis=0))
    named = {name: float(costs[name][0]) for name in COSTS.values()}
    return replace(objective, reference=named, model=model)


def all_designs(shape: Shape) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every design, in chunks: ordinals [ordinals, chunk], assignment [layers, chunk]."""
    sizes = [*(shape.ordinal_high - shape.ordinal_low + 1).astype(int)]
    sizes += [shape.cores] * shape.layers
    total, count = int(np.prod(sizes)), len(shape.ordinal_high)
    for first in range(0, total, CHUNK):
        digits = np.array(np.unravel_index(np.arange(first, min(first + CHUNK, total)), sizes))
        yield digits[:count] + shape.ordinal_low.astype(int)[:, None], digits[count:]


def count_designs(shape: Shape) -> int:
    """Number of designs of a space."""
    spans = (shape.ordinal_high - shape.ordinal_low + 1).astype(int)
    return int(np.prod(spans)) * shape.cores**shape.layers


@dataclass(frozen=True)
class Counted(DesignObjective):
    """An objective that counts the designs it is asked for.

    Attributes:
        asked: number of designs of each call.
    """

    asked: list[int] = field(default_factory=list)

    def value(self, preference: Any, ordinals: Any, assignment: Any, xp: Any = np) -> Any:
        """[designs] the objective."""
        self.asked.append(ordinals.shape[1])
        return super().value(preference, ordinals, assignment, xp)


def make_descent(objective: DesignObjective) -> Callable[..., Any]:
    """The gradient steps of one network, compiled once: prices and preference are runtime values.

    Returns:
        A function (seed, raw [parameters, starts], `runtime_values`) to raw after all steps.
    """
    shape = objective.shape
    optimizer = optax.adam(LEARNING_RATE)

    @jax.jit
    def step(key: Any, raw: Any, state: Any, temperature: Any, priced: Any) -> Any:
        on_table = with_runtime_values(objective, priced)

        def value(ordinals: Any, assignment: Any, which: Any) -> Any:
            return on_table.value(priced["preference"][:, None], ordinals, assignment, jnp)

        def loss_fn(raw: Any) -> Any:
            ordinals, logits = decode(shape, raw)
            corner = sample_corner(key, shape, ordinals, logits / temperature)
            corner = jax.lax.stop_gradient(corner)
            return extended_objective(value, shape, corner, ordinals, logits / temperature).sum()

        updates, state = optimizer.update(jax.grad(loss_fn)(raw), state)
        return optax.apply_updates(raw, updates), state

    def descend(seed: int, raw: Any, priced: dict[str, Any]) -> np.ndarray:
        state = optimizer.init(raw)
        for index in range(STEPS):
            key = jax.random.fold_in(jax.random.key(seed), index)
            raw, state = step(key, raw, state, 0.2 ** (index / STEPS), priced)
        return np.asarray(raw)

    return descend


def runtime_values(objective: DesignObjective, preference: np.ndarray) -> dict[str, Any]:
    """What differs between spaces of one network."""
    chip = objective.problem.chip
    return {
        "preference": preference.astype(np.float32),
        "table": objective.finite_table(),
        "links": np.array([[k.energy_pj_per_bit, k.bandwidth_bytes_per_s] for k in chip.links]),
        "dram_pj": chip.dram_energy_pj_per_bit,
        "idle_w": chip.idle_power_w,
        "reference": objective.reference,
        "model": {k: np.asarray(v, np.float32) for k, v in (objective.model or {}).items()},
    }


def with_runtime_values(objective: DesignObjective, priced: dict[str, Any]) -> DesignObjective:
    """An objective with traced prices."""
    chip = objective.problem.chip
    links = tuple(
        replace(link, energy_pj_per_bit=price[0], bandwidth_bytes_per_s=price[1])
        for link, price in zip(chip.links, priced["links"], strict=True)
    )
    chip = replace(
        chip,
        links=links,
        dram_energy_pj_per_bit=priced["dram_pj"],
        idle_power_w=priced["idle_w"],
    )
    problem = replace(objective.problem, chip=chip, table=priced["table"])
    return replace(objective, problem=problem, reference=priced["reference"], model=priced["model"])


def optimise(
    counted: Counted, descend: Callable[..., Any], preference: np.ndarray, seed: int
) -> float:
    """Gradient steps from several starts, then the polish of each; the least objective found."""
    shape = counted.shape
    rng = np.random.default_rng([seed, 3])
    knobs = shape.ordinal_high[len(shape.max_widths) :] // 2
    raw = np.stack(
        [
            initial_raw(shape, knobs, np.full(shape.layers, start % shape.cores))
            for start in range(STARTS)
        ],
        axis=1,
    )
    raw += rng.normal(0.0, 0.3, raw.shape).astype(np.float32)
    raw = descend(seed, raw, runtime_values(counted, preference))
    columns = 1 + len(shape.ordinal_high) + shape.layers * shape.cores
    counted.asked.append(STEPS * STARTS * columns)
    ordinals, logits = decode(shape, raw, np)
    best = np.inf
    free = np.ones(len(shape.ordinal_high), bool)
    rounded = np.clip(
        np.round(ordinals), shape.ordinal_low[:, None], shape.ordinal_high[:, None]
    ).astype(int)
    for start in range(STARTS):
        chosen = np.argmax(logits[:, :, start], axis=1)
        found = polish(counted, preference, rounded[:, start], chosen, free)
        value = counted.value(
            preference[:, None], found.ordinals[:, None], found.assignment[:, None]
        )
        best = min(best, float(value[0]))
    return best


def explore(problem: Problem, descend: Callable[..., Any], seed: int) -> Found:
    """One space: list it, optimise in it, draw at random from it."""
    objective, preference = draw_space(problem, seed)
    values = np.concatenate(
        [objective.value(preference[:, None], *chunk) for chunk in all_designs(objective.shape)]
    )
    counted = Counted(**vars(objective))
    found = optimise(counted, descend, preference, seed)
    evaluated = sum(counted.asked)
    rng = np.random.default_rng([seed, 2])
    drawn = values[rng.choice(len(values), evaluated, replace=False)].min()
    best = float(values.min())
    gaps = [float(np.expm1(max(value - best, 0.0))) for value in (found, drawn)]
    return Found(len(values), evaluated, best, *gaps)


def draw_space(problem: Problem, seed: int) -> tuple[DesignObjective, np.ndarray]:
    """Prices, task loss and preference of one space."""
    rng = np.random.default_rng([seed, 1])
    objective = make_objective(with_prices(problem, rng), rng)
    return objective, rng.dirichlet(np.ones(len(TERMS)))


def explore_all(spaces: int, seed: int, progress: Callable[[int, Found], None]) -> list[Found]:
    """So many spaces, `VARIANTS` to a network.

    Args:
        spaces: how many.
        seed: everything random derives from it.
        progress: told of each space when it is done.
    """
    found = []
    problem = descend = None
    for number in range(spaces):
        network, variant = divmod(number, VARIANTS)
        space_seed = seed * 10**6 + number
        if problem is None or descend is None or variant == 0:
            problem = make_problem(seed * 10**6 + network)
            descend = make_descent(draw_space(problem, space_seed)[0])
        found.append(explore(problem, descend, space_seed))
        progress(number, found[-1])
    return found
