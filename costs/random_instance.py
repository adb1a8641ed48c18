"""Random assignment problems of unlike cores, for studies of how well assignments are found.

Layers have MACs spread over an order of magnitude, cores have speeds spread over a factor of four
and each favours some layers over others; a layer hands its map to the next and one in four also
to a later one (a residual connection). Links are a bus, a port out of and into each core, or a
ring, so fast that the cuts of an evenly split network take from a quarter to all of the time of a
stage: both cores and links can be the bottleneck.
"""

from __future__ import annotations

import numpy as np

from costs.assignment_instance import AssignmentInstance, CoreCosts

TOPOLOGIES = ("bus", "ports", "ring")


def random_instance(
    seed: int, layers: int | None = None, cores: int | None = None, topology: str | None = None
) -> AssignmentInstance:
    """An instance drawn from a seed.

    Args:
        seed: of everything that is not given.
        layers: number of layers, else 10 to 40.
        cores: number of cores, else 2 to 8.
        topology: one of `TOPOLOGIES`, else drawn.
    """
    rng = np.random.default_rng([seed, 20])
    drawn = rng.integers(10, 41), rng.integers(2, 9), rng.choice(TOPOLOGIES)
    layers = int(drawn[0]) if layers is None else layers
    cores = int(drawn[1]) if cores is None else cores
    topology = str(drawn[2]) if topology is None else topology
    macs = np.exp(rng.uniform(np.log(1e7), np.log(1e8), layers))
    speed = np.exp(rng.uniform(np.log(0.5), np.log(2.0), cores)) * 1e11  # [MAC/s]
    fit = np.exp(rng.normal(0.0, 0.35, (layers, cores)))  # of a layer to a core's array
    time_s = macs[:, None] / speed * fit
    pj_per_mac = rng.uniform(0.5, 2.0, cores) * np.exp(rng.normal(0.0, 0.2, (layers, cores)))
    weights = np.exp(rng.uniform(np.log(1e4), np.log(1e6), layers))
    capacity = weights.sum() / cores * rng.uniform(1.5, 3.0, cores)
    capacity[rng.integers(cores)] += weights.max()

    consumers = []
    for layer in range(layers - 1):
        later = [layer + 1]
        if layer + 3 < layers and rng.uniform() < 0.25:
            later.append(layer + 3)
        consumers.append(tuple(later))
    sizes = np.exp(rng.uniform(np.log(2e4), np.log(2e5), layers - 1))
    route = make_route(topology, cores)
    stage_s = np.median(time_s.sum(axis=0)) / cores
    crossing = cores if topology == "bus" else 2.0  # cuts that share a link
    bandwidth = crossing * sizes.mean() / stage_s * np.exp(rng.uniform(np.log(1.0), np.log(4.0)))
    tensors = layers - 1
    return AssignmentInstance(
        name=f"random-{seed}-{layers}x{cores}-{topology}",
        layers=CoreCosts.of(
            time_s, macs[:, None] * pj_per_mac, 0.0, np.repeat(weights[:, None], cores, 1)
        ),
        producer=np.arange(tensors),
        consumers=tuple(consumers),
        tensor_bytes=sizes,
        send=CoreCosts.free(tensors, cores),
        receive=CoreCosts.free(tensors, cores),
        route=route,
        bandwidth_bytes_per_s=np.full(route.shape[2], bandwidth),
        link_pj_per_byte=np.full(route.shape[2], 8.0),
        capacity_bytes=capacity,
        idle_power_w=0.05 * cores,
    )


def make_route(topology: str, cores: int) -> np.ndarray:
    """[cores, cores, links] routes of a bus, of a port out of and into each core, or of a ring."""
    if topology == "bus":
        route = np.ones((cores, cores, 1), bool)
    elif topology == "ports":
        out = np.repeat(np.eye(cores, dtype=bool)[:, None], cores, axis=1)
        route = np.concatenate([out, out.swapaxes(0, 1)], axis=2)
    else:
        route = np.zeros((cores, cores, cores), bool)
        for start in range(cores):
            for ahead in range(1, cores):
                end = (start + ahead) % cores
                forward = [(start + i) % cores for i in range(ahead)]
                backward = [(start - 1 - i) % cores for i in range(cores - ahead)]
                route[start, end, forward if ahead <= cores - ahead else backward] = True
    route[np.arange(cores), np.arange(cores)] = False
    return route
