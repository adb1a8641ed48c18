"""Mappings bettered by random changes, each priced by the cost model itself.

The search prices what a product over dimensions can say. Where the cost is none, as when a port
moves whole accesses, its best mappings are where this begins: of the cheapest ones known, some
loops and storage positions are moved, split or weighed anew, and the cheapest of all are kept.
Nothing is proved here: what is found is a mapping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict

import numpy as np

from costs.conventions import Conventions
from costs.core import Core
from costs.encode import encode_mapping
from costs.errors import InputError
from costs.evaluate import calc_cost, encode_many
from costs.layer import DIMS, RELEVANT, Layer
from costs.mapping import Mapping

KEPT = 64
"""Mappings of different cost that are changed."""

TRIED = 256
"""Changed mappings priced at once."""

TOGETHER = 64
"""Mappings evaluated at once: arrays that stay in cache."""

ROUNDS = 100
"""Times that so many are tried at most."""

PATIENCE = 30
"""Times in a row without a cheaper mapping after which no more are tried."""

MOST_LOOPS = 16
"""Temporal loops of a mapping at most."""

MOST_CHANGES = 3
"""Changes made at once at most."""

Token = tuple[str, str, int]
"""A temporal loop ("", dimension, factor), or where a tile is stored (operand, level, 0)."""

Spatial = dict[str, dict[str, int]]
"""Factors by axis and dimension."""

Price = Callable[[Sequence[Mapping]], np.ndarray]


def make_price(layer: Layer, core: Core, objective: str, conventions: Conventions) -> Price:
    """What the cost model says of mappings of a layer on a core, for `polish`.

    Args:
        layer: the layer.
        core: the core.
        objective: "energy", "latency" or "edp".
        conventions: how accesses are counted.
    """

    def price(mappings: Sequence[Mapping]) -> np.ndarray:
        found = [np.zeros(0)]
        for start in range(0, len(mappings), TOGETHER):
            cases = [(layer, core, one) for one in mappings[start : start + TOGETHER]]
            cost = calc_cost(*encode_many(cases), conventions)
            energy = cost.energy_pj.sum(axis=(-2, -1)) + cost.mac_energy_pj
            cycles = cost.cycles.total
            goal = {"energy": energy, "latency": cycles, "edp": energy * cycles}[objective]
            found.append(np.where(cost.fits.all(axis=-1), goal, math.inf))
        return np.concatenate(found)

    return price


def polish(
    layer: Layer, core: Core, price: Price, start: Sequence[Mapping], deadline_s: float = math.inf
) -> list[Mapping]:
    """The cheapest mappings found, of different cost, the cheapest first.

    Args:
        layer: the layer.
        core: the core.
        price: objective of mappings, `(mappings,)`; infinite for those that do not fit.
        start: mappings known.
        deadline_s: when to stop [s of `time.monotonic`].
    """
    rng = np.random.default_rng(0)
    kept = _keep([], start, price(start))
    vain = 0
    for _ in range(ROUNDS):
        if not kept or vain == PATIENCE or time.monotonic() > deadline_s:
            break
        least = kept[0][0]
        changed = []
        for parent in rng.integers(len(kept), size=TRIED):
            mapping = _change(layer, core, kept[parent][1], rng)
            if mapping is not None:
                changed.append(mapping)
        if changed:
            kept = _keep(kept, changed, price(changed))
        vain = 0 if kept[0][0] < least else vain + 1
    return [mapping for _, mapping in kept]


def _keep(
    kept: list[tuple[float, Mapping]], mappings: Sequence[Mapping], costs: np.ndarray
) -> list[tuple[float, Mapping]]:
    """The cheapest of both, one of each cost: many mappings differ where it does not matter."""
    by_cost = dict(kept)
    for cost, mapping in zip(costs.tolist(), mappings, strict=True):
        if math.isfinite(cost):
            by_cost.setdefault(cost, mapping)
    return sorted(by_cost.items(), key=lambda item: item[0])[:KEPT]


def _change(layer: Layer, core: Core, mapping: Mapping, rng: np.random.Generator) -> Mapping | None:
    """The mapping after some random changes, or none if it does not run the layer any more."""
    tokens = _list_tokens(layer, core, mapping)
    spatial: Spatial = {axis.name: dict(mapping.spatial.get(axis.name, ())) for axis in core.axes}
    for _ in range(int(rng.integers(1, MOST_CHANGES + 1))):
        kind = rng.random()
        if kind < 0.45:
            _move(tokens, rng)
        elif kind < 0.65:
            _split(tokens, rng)
        elif kind < 0.9:
            _weigh(layer, tokens, spatial, rng)
        else:
            _unroll(layer, core, tokens, spatial, rng)
    if rng.random() < 0.5:
        tokens = _fill(layer, core, tokens, spatial, rng)
    changed = _write(layer, core, tokens, spatial)
    try:
        encode_mapping(layer, core, changed)
    except InputError:
        return None
    return changed if len(changed.loops) <= MOST_LOOPS else None


def _list_tokens(layer: Layer, core: Core, mapping: Mapping) -> list[Token]:
    """Loops and storage positions from outside inwards."""
    anchors = [(o, level) for o in layer.operands for level in core.chain(o)[1:]]
    tokens: list[Token] = []
    for place in range(len(mapping.loops) + 1):
        tokens += [(o, level, 0) for o, level in anchors if mapping.position(o, level) == place]
        if place < len(mapping.loops):
            tokens.append(("", *mapping.loops[place]))
    return tokens


def _write(layer: Layer, core: Core, tokens: Sequence[Token], spatial: Spatial) -> Mapping:
    """The mapping of these tokens; an operand's levels are stored in the order of its chain."""
    left = {o: list(core.chain(o)[1:]) for o in layer.operands}
    stored: dict[str, dict[str, int]] = {o: {} for o in left}
    loops: list[tuple[str, int]] = []
    parted = True
    for operand, name, factor in tokens:
        if operand:
            stored[operand][left[operand].pop(0)] = len(loops)
            parted = True
        elif factor > 1:
            if not parted and loops[-1][0] == name:
                loops[-1] = (name, loops[-1][1] * factor)
            else:
                loops.append((name, factor))
            parted = False
    return Mapping(
        tuple(loops),
        stored,
        {
            axis: tuple((d, n) for d, n in part.items() if n > 1)
            for axis, part in spatial.items()
            if any(n > 1 for n in part.values())
        },
    )


def _move(tokens: list[Token], rng: np.random.Generator) -> None:
    """One loop or storage position stands elsewhere."""
    if not tokens:
        return
    token = tokens.pop(int(rng.integers(len(tokens))))
    tokens.insert(int(rng.integers(len(tokens) + 1)), token)


def _split(tokens: list[Token], rng: np.random.Generator) -> None:
    """Some of a loop's iterations stand elsewhere."""
    loops = [i for i, (operand, *_) in enumerate(tokens) if not operand]
    if not loops:
        return
    at = int(rng.choice(loops))
    _, dim, factor = tokens[at]
    part = _choose_factor(factor, rng)
    tokens[at] = ("", dim, math.ceil(factor / part))
    tokens.insert(int(rng.integers(len(tokens) + 1)), ("", dim, part))


def _weigh(layer: Layer, tokens: list[Token], spatial: Spatial, rng: np.random.Generator) -> None:
    """Two loops of a dimension share its iterations in another way."""
    loops = [i for i, (operand, *_) in enumerate(tokens) if not operand]
    if not loops:
        return
    dim = tokens[int(rng.choice(loops))][1]
    alike = [i for i in loops if tokens[i][1] == dim]
    first = int(rng.choice(alike))
    second = int(rng.choice(alike))
    others = math.prod(tokens[i][2] for i in alike if i not in (first, second))
    others *= math.prod(part.get(dim, 1) for part in spatial.values())
    left = math.ceil(layer.bounds[dim] / others)
    factor = left if first == second else _choose_factor(left, rng)
    tokens[first] = ("", dim, factor)
    if first != second:
        tokens[second] = ("", dim, math.ceil(left / factor))


def _unroll(
    layer: Layer, core: Core, tokens: list[Token], spatial: Spatial, rng: np.random.Generator
) -> None:
    """Another factor of a dimension along an axis; one loop of it makes up for that."""
    if not core.axes:
        return
    axis = core.axes[int(rng.integers(len(core.axes)))]
    dims = [d for d in axis.dims if layer.bounds[d] > 1]
    if not dims:
        return
    dim = dims[int(rng.integers(len(dims)))]
    part = spatial[axis.name]
    room = axis.size // math.prod(n for d, n in part.items() if d != dim)
    part[dim] = int(rng.integers(1, min(room, layer.bounds[dim]) + 1))
    if rng.random() < 0.5:
        part[dim] = min(room, layer.bounds[dim])
    alike = [i for i, (o, d, _) in enumerate(tokens) if not o and d == dim]
    at = int(rng.choice(alike)) if alike else int(rng.integers(len(tokens) + 1))
    others = math.prod(tokens[i][2] for i in alike if i != at)
    others *= math.prod(p.get(dim, 1) for p in spatial.values())
    loop = ("", dim, math.ceil(layer.bounds[dim] / others))
    if alike:
        tokens[at] = loop
    else:
        tokens.insert(at, loop)


def _fill(
    layer: Layer, core: Core, tokens: Sequence[Token], spatial: Spatial, rng: np.random.Generator
) -> list[Token]:
    """The same loops with as much as fits in every memory, the inner ones and any operand first."""
    loops = [token for token in tokens if not token[0]]
    stored: list[list[Token]] = [[] for _ in range(len(loops) + 1)]
    taken = dict.fromkeys((level.name for level in core.levels), 0.0)
    for operand in rng.permutation(layer.operands).tolist():
        place = len(loops)
        for name in reversed(core.chain(operand)[1:]):
            level = core.level(name)
            room = level.capacity_bytes
            room = room[operand] if isinstance(room, Dict) else room - taken[name]
            axes = [p for axis, p in spatial.items() if axis not in level.replicated]
            size = _calc_tile_bytes(layer, operand, loops[place:], axes)
            while place:
                wider = _calc_tile_bytes(layer, operand, loops[place - 1 :], axes)
                if wider > room:
                    break
                place, size = place - 1, wider
            taken[name] += size
            stored[place].insert(0, (operand, name, 0))
    filled = stored[0]
    for loop, here in zip(loops, stored[1:], strict=True):
        filled += [loop, *here]
    return filled


def _calc_tile_bytes(
    layer: Layer, operand: str, loops: Sequence[Token], axes: Sequence[Dict[str, int]]
) -> float:
    """Size of the tile that loops and axes span [bytes]."""
    extent: dict[str, int] = dict.fromkeys(DIMS, 1)
    for _, dim, factor in loops:
        extent[dim] *= factor
    for part in axes:
        for dim, factor in part.items():
            extent[dim] *= factor
    extent = {dim: min(n, layer.bounds[dim]) for dim, n in extent.items()}
    plain = RELEVANT[operand] - set("PQRS") if operand == "I" else RELEVANT[operand]
    words = float(math.prod(extent[dim] for dim in plain))
    if operand == "I":
        for axis, (out, kernel) in enumerate(("PR", "QS")):
            rows = layer.stride[axis] * (extent[out] - 1)
            rows += layer.dilation[axis] * (extent[kernel] - 1) + 1
            words *= min(rows, (layer.input_height, layer.input_width)[axis])
    bits = max(layer.bits_o, layer.bits_psum) if operand == "O" else layer.bits(operand)
    return words * bits / 8


def _choose_factor(factor: int, rng: np.random.Generator) -> int:
    """A factor from 1 up, most often one that divides."""
    if rng.random() < 0.8:
        return int(rng.choice([n for n in range(1, factor + 1) if factor % n == 0]))
    return int(rng.integers(1, factor + 1))
