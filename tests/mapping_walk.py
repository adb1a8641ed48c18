"""Every mapping of a small layer on a small core, one by one, and random cases to walk.

Written from the definition of a mapping (`costs.mapping`), not from the search: every integer
factor of every loop between any two storage positions, every order of loops, every interleaving
of storage positions, evaluated by `costs.evaluate`.
"""

import itertools
import math
from dataclasses import replace

import numpy as np

from costs.core import Axis, Core, MemoryLevel
from costs.encode import encode_mapping
from costs.errors import InputError
from costs.evaluate import evaluate_many
from costs.layer import DIMS, Layer
from costs.mapping import Mapping


def interleave(chains):
    """All merges of sequences that keep each one's order."""
    if not any(chains):
        return [()]
    merged = []
    for i, chain in enumerate(chains):
        if chain:
            rest = [c[1:] if j == i else c for j, c in enumerate(chains)]
            merged += [(chain[0], *tail) for tail in interleave(rest)]
    return merged


def covers(bound, stretches, lanes):
    """(temporal factors, spatial factors) that cover a bound without idle loops or lanes."""
    chains = [((), 1)]
    for _ in range(stretches - 1):
        chains = [
            ((factor, *chain), factor * inside)
            for chain, inside in chains
            for factor in range(1, -(-bound // inside) + 1)
        ]
    for spatial in itertools.product(*(range(1, min(n, bound) + 1) for n in lanes)):
        for chain, inside in chains:
            rest = inside * math.prod(spatial)
            if all(rest // n < bound for n in spatial if n > 1):
                yield (-(-bound // rest), *chain), spatial


def all_mappings(layer, core):
    """Every mapping with at most one loop of each dimension between two storage positions."""
    dims = [d for d in DIMS if layer.bounds[d] > 1]
    chains = [[(t, level) for level in core.chain(t)[1:]] for t in layer.operands]
    stretches = 1 + sum(map(len, chains))
    tilings = [
        list(covers(layer.bounds[d], stretches, [a.size if d in a.dims else 1 for a in core.axes]))
        for d in dims
    ]
    seen = set()
    for anchors in interleave(chains):
        for choice in itertools.product(*tilings):
            spatial = {
                axis.name: tuple(
                    (d, s[n]) for d, (_, s) in zip(dims, choice, strict=True) if s[n] > 1
                )
                for n, axis in enumerate(core.axes)
            }
            if any(math.prod(f for _, f in spatial[axis.name]) > axis.size for axis in core.axes):
                continue
            parts = [
                [(d, t[i]) for d, (t, _) in zip(dims, choice, strict=True) if t[i] > 1]
                for i in range(stretches)
            ]
            for orders in itertools.product(*(itertools.permutations(part) for part in parts)):
                loops, stored = list(orders[0]), {}
                for anchor, part in zip(anchors, orders[1:], strict=True):
                    stored.setdefault(anchor[0], {})[anchor[1]] = len(loops)
                    loops += part
                key = (tuple(loops), repr(sorted(stored.items())), repr(spatial))
                if key not in seen:
                    seen.add(key)
                    yield Mapping(loops=tuple(loops), stored=stored, spatial=spatial)


def walk_best(layer, core, objectives, conventions):
    """Smallest value of each objective over all mappings that fit, and how many there are."""
    mappings = []
    for mapping in all_mappings(layer, core):
        mappings.append(mapping)
    best = dict.fromkeys(objectives, math.inf)
    count = 0
    for start in range(0, len(mappings), 4096):
        cases = []
        for mapping in mappings[start : start + 4096]:
            cases.append((layer, core, mapping))
        for cost in evaluate_fitting(cases, conventions):
            count += 1
            values = {"energy": cost.energy_pj, "latency": cost.cycles, "edp": cost.edp}
            for name in objectives:
                best[name] = min(best[name], values[name])
    return best, count


def evaluate_fitting(cases, conventions):
    """Costs of the cases that run and fit; a tile of separate rows does not run."""
    able = []
    for case in cases:
        try:
            encode_mapping(*case)
        except InputError:
            continue
        able.append(case)
    return [cost for cost in evaluate_many(able, conventions) if cost.fits]


def random_case(seed):
    """A small layer and a small core; every odd size has its turn."""
    rng = np.random.default_rng(seed)
    kinds = ["pointwise", "conv", "strided", "depthwise", "linear", "batch", "kernel_only"]
    kind = kinds[seed % len(kinds)]
    size = {
        "pointwise": dict(K=rng.integers(1, 6), C=rng.integers(2, 6), P=rng.integers(2, 4)),
        "conv": dict(P=rng.integers(2, 5), R=rng.integers(2, 4), K=rng.integers(1, 4)),
        "strided": dict(P=rng.integers(2, 4), R=2, C=rng.integers(1, 4)),
        "depthwise": dict(groups=3, K=3, C=3, P=rng.integers(2, 4), R=2),
        "linear": dict(K=rng.integers(2, 8), C=rng.integers(2, 8)),
        "batch": dict(N=3, K=rng.integers(2, 4), C=rng.integers(2, 4)),
        "kernel_only": dict(
            R=rng.integers(2, 4), P=rng.integers(2, 5), **{"K" if rng.random() < 0.5 else "C": 2}
        ),
    }[kind]
    stride = (3, 1) if kind == "strided" else (1, 1)
    sizes = {k: int(v) for k, v in size.items()}
    layer = replace(Layer(kind, stride=stride), **sizes, bits_psum=int(rng.choice([8, 16, 32])))
    axes = tuple(
        Axis(
            name,
            int(rng.integers(2, 4)),
            dims=tuple(rng.choice(list("GKCPR"), size=int(rng.integers(1, 3)), replace=False)),
            reduction=bool(rng.random() < 0.7),
            multicast=("W", "I", "O") if rng.random() < 0.7 else ("W",),
        )
        for name in ("rows", "columns")[: int(rng.integers(0, 3))]
    )
    held = [("W", "I", "O"), ("I", "O"), ("W",), ("W", "I"), ("O",)]
    levels = [MemoryLevel("dram", read_energy_pj=100.0, write_energy_pj=101.0, bandwidth=2.0)]
    levels.append(
        MemoryLevel(
            "buffer",
            operands=held[int(rng.integers(0, len(held)))],
            capacity_bytes=float(rng.integers(3, 40)),
            read_energy_pj=5.0,
            write_energy_pj=6.0,
            bandwidth=float(rng.choice([1.5, 4.0, math.inf])),
        )
    )
    if (rng.random() < 0.6 and len(levels[1].operands) < 3) or kind == "kernel_only":
        levels.append(
            MemoryLevel(
                "register",
                operands=("I",) if kind == "kernel_only" else (str(rng.choice(["W", "O"])),),
                capacity_bytes=float(rng.integers(4, 9)),
                read_energy_pj=0.5,
                write_energy_pj=0.7,
                bandwidth=float(rng.choice([0.25, 1.0, math.inf])),
                replicated=tuple(axis.name for axis in axes),
            )
        )
    return layer, Core("small", tuple(levels), axes, mac_energy_pj=1.0)
