"""How fast mappings are evaluated and how soon the optimum is certified, on a three-level core.

Prints, in one run:
* candidates per second: distinct mappings of one 3x3 layer (different tile counts, footprints or
  extents) of which all counts, the traffic of every level, energy and cycles are computed, warm and
  compiled;
* the same through `costs.evaluate.evaluate`, one mapping after the other, and through ZigZag's own
  search of the same layer on its own tpu_like, for the ratios;
* the time from nothing to the certified optimum of that layer, beside that of ZigZag's search,
  which proves nothing; and the time of all of ResNet-18.

Ratios are of CPU seconds, all threads counted, so that other work on the machine changes them
little. ZigZag is left out where it is not installed (the extra `peers`).

    python benchmarks/mapper.py [--seconds 5] [--core tpu_like]
"""

import argparse
import itertools
import os
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

from costs.conventions import TIMELOOP
from costs.evaluate import evaluate
from costs.layer import Layer
from costs.layer_report import evaluate_network
from costs.library import load_core
from costs.mapper import best_mapping
from costs.search import Search
from costs.tilings import count_tilings, list_groups, make_part

TARGET_RATIO = 10_000
"""Candidates of ours for each evaluation of ZigZag's."""

BLOCK = 1024
"""Most rows on either side of a compiled block: a million pairs."""


class Clock:
    """Seconds since it was made."""

    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def wall_s(self):
        return time.perf_counter() - self.start[0]

    def cpu_s(self):
        return time.process_time() - self.start[1]


def conv(name, c, k, size, kernel=3, stride=1):
    before = kernel // 2
    pad = (before, before - (stride - 1)) if kernel > 1 else (0, 0)
    return Layer(
        name, K=k, C=c, P=size, Q=size, R=kernel, S=kernel, stride=(stride, stride),
        padding=(pad, pad),
    )  # fmt: skip


def resnet18():
    layers = [conv("conv1", 3, 64, 112, 7, 2)]
    for stage, (width, size) in enumerate([(64, 56), (128, 28), (256, 14), (512, 7)]):
        inputs = width if stage == 0 else width // 2
        stride = 1 if stage == 0 else 2
        layers.append(conv(f"conv{stage + 2}_1", inputs, width, size, 3, stride))
        layers += [conv(f"conv{stage + 2}_{i}", width, width, size) for i in (2, 3, 4)]
        if stage:
            layers.append(
                Layer(f"down{stage + 2}", K=width, C=inputs, P=size, Q=size, stride=(2, 2))
            )
    return [*layers, Layer("fc", K=1000, C=512)]


def make_block(search):
    """A compiled function of (left rows, right rows): best energy of all pairs, and its cycles."""
    structure, hw, levels = search.structure, search.hardware, search.cost.levels
    read_price = [float(v) for v in hw.read_price[0]]
    write_price = [float(v) for v in hw.write_price[0]]
    rates = [hw.read_rate[0], hw.write_rate[0], hw.rate[0]]
    throttled = structure.throttled
    words = float(search.cost.layer.words("O"))
    held = {structure.anchors[a][1]: n for n, a in enumerate(structure.holders)}

    @jax.jit
    def block(left, right):
        columns = [left[:, c, None] * right[None, :, c] for c in range(structure.first_axis)]
        read = [0.0] * len(levels)
        written = [0.0] * len(levels)
        served = {}
        for number, (operand, parent, child) in enumerate(structure.edges):
            above, below = columns[1 + 2 * number], columns[2 + 2 * number]
            at = levels.index(parent)
            inner = levels.index(child) if child else -1
            width = float(search.cost.layer.bits(operand))
            if operand == "O":
                first = words
                if parent in held:
                    first = words * columns[structure.first_held + held[parent]]
                width = jnp.where(above > first, float(search.cost.layer.bits_psum), width)
                read[at] += (above - first) * width
                written[at] += above * width
                if child:
                    seen = words * columns[structure.first_held + held[child]]
                    written[inner] += (below - seen) * width
            else:
                read[at] += above * width
                if child:
                    written[inner] += below * width
            served[operand, parent] = width
        energy, cycles, fits = 0.0, columns[0], True
        for level in range(len(levels)):
            energy += read[level] * read_price[level] + written[level] * write_price[level]
            for bits, rate in zip(
                (read[level], written[level], read[level] + written[level]), rates, strict=True
            ):
                if np.isfinite(rate[level]):
                    used = 1.0
                    if levels[level] in throttled:
                        name = levels[level]
                        used = columns[structure.first_used + throttled.index(name)]
                    cycles = jnp.maximum(cycles, bits / used / float(rate[level]))
        for anchors, capacity in hw.capacities:
            bits = 0.0
            for anchor in anchors:
                width = served[structure.anchors[anchor]]
                bits += columns[structure.first_tile + anchor] * width
            fits &= bits <= float(capacity[0])
        energy = jnp.where(fits, energy, jnp.inf)
        best = jnp.argmin(energy)
        return energy.ravel()[best], cycles.ravel()[best], jnp.sum(cycles)

    return block


def measure_rate(layer, core, seconds):
    """Distinct candidates, all of one order of storage positions at a time.

    Returns:
        How many were evaluated, how many there are, seconds and CPU seconds.
    """
    search = Search(layer, [core], "energy", TIMELOOP)
    limits = np.array([*search.most_words, *search.sizes])
    listed = [list_groups(search.structure, search.sizes, c, False) for c in search.choices]
    order = int(np.argmax(np.prod([count_tilings(groups) for groups in listed], axis=0)))
    values = [
        make_part(search.structure, choice, group, limits).values
        for choice, groups in zip(search.choices, listed, strict=True)
        for group in groups
        if order in group.orders
    ]
    sides = []
    for a, b in (values[:2], values[2:]):
        rows = (a[:, None, :] * b[None, :, :]).reshape(-1, a.shape[1])
        sides.append(np.unique(rows, axis=0).astype(np.float32))
    left, right = (
        [jnp.asarray(side[i : i + rows]) for i in range(0, len(side) - rows + 1, rows)]
        for side, rows in ((side, min(BLOCK, len(side))) for side in sides)
    )
    block = make_block(search)
    jax.block_until_ready(block(left[0], right[0]))
    clock, done = Clock(), 0
    for a, b in itertools.product(left, right):
        jax.block_until_ready(block(a, b))
        done += len(a) * len(b)
        if clock.wall_s() > seconds:
            break
    return done, len(sides[0]) * len(sides[1]), clock.wall_s(), clock.cpu_s()


def measure_zigzag(limit):
    """What ZigZag's search of the same layer took, or None where it is not installed."""
    try:
        import zigzag_peer
    except ModuleNotFoundError:
        return None
    accelerator, nodes = zigzag_peer.load("tpu_like")
    (node,) = (node for node in nodes if node.name == "/layer1/layer1.0/conv2/Conv")
    return zigzag_peer.search(accelerator, node, limit)


def main():
    parser = argparse.ArgumentParser(
        description="Mapping candidates per second and time to the certified optimum."
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--core", default="tpu_like")
    parser.add_argument("--limit", type=int, default=6, help="ZigZag's limit of loop factors")
    options = parser.parse_args()
    core = load_core(options.core)
    layer = conv("conv2_2", 64, 64, 56)

    clock = Clock()
    best = best_mapping(layer, core)
    certified_s, certified_cpu_s = clock.wall_s(), clock.cpu_s()
    done, there, took_s, took_cpu_s = measure_rate(layer, core, options.seconds)
    clock, count = Clock(), 0
    while clock.cpu_s() < 1.0:
        evaluate(layer, core, best.mapping)
        count += 1
    single = count / clock.cpu_s()
    rate = done / took_cpu_s
    print(f"layer {layer.name} (K=C=64, 56x56, 3x3) on {core.name}")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} with this process")
    print(
        f"distinct candidates    {done / took_s / 1e6:10.1f} million/s ({done:.3g} of {there:.3g})"
    )
    print(f"                       {rate / 1e6:10.1f} million/CPU s")
    print(f"one by one (evaluate)  {single:10.1f} /CPU s; ratio {rate / single:,.0f}")
    print(
        f"certified optimum      {certified_s:10.2f} s, {certified_cpu_s:.2f} CPU s, "
        f"over {best.enumerated:.3g} mappings"
    )
    if (peer := measure_zigzag(options.limit)) is not None:
        ratio = rate * peer.cpu_s / peer.evaluations
        print(
            f"ZigZag                 {peer.evaluations / peer.cpu_s:10.1f} /CPU s; "
            f"ratio {ratio:,.0f} ({ratio / TARGET_RATIO:.1f} of the target {TARGET_RATIO:,})"
        )
        print(
            f"its search, limit {options.limit:<2}   {peer.cpu_s:10.2f} CPU s, nothing proved; "
            f"ratio to the certified optimum {peer.cpu_s / certified_cpu_s:.1f}"
        )
    clock = Clock()
    rows = evaluate_network(resnet18(), core)
    print(
        f"all of ResNet-18       {clock.wall_s():10.2f} s, {clock.cpu_s():.2f} CPU s, "
        f"{len(rows)} layers, {sum(row.best.proved for row in rows)} proved"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory            {peak:10.2f} GB")


if __name__ == "__main__":
    main()
