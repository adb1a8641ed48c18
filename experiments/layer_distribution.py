"""Layers distributed over equal cores: contiguous stages, this project's algorithm, and splitting.

Questions: (1) with latency as MACs, does the dynamic program give the reference table of the field,
and is the algorithm within 2 % of it? (2) on real cycles and links, what does splitting
layers over teams of cores gain, and what is lost to tails, halos and links?

    python experiments/layer_distribution.py table   # question 1, seconds
    python experiments/layer_distribution.py split   # question 2; cycles.csv keeps what was mapped
    python experiments/layer_distribution.py draw    # the figure, from split.csv

Question 2: k equal Gemmini cores (16x16 PEs, 1 GHz), each with a DRAM channel, joined by ports of
16 GB/s (UCIe standard package, 8 lanes at 16 GT/s) or .1 GB/s each way. A layer takes the cycles of
its best mapping for latency, its tensors coming from and going to its core's memory.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.distribute import distribute
from costs.distribution import solve_stages
from costs.instance_cost import calc_instance_cost
from costs.layer import Layer
from costs.library import load_core
from costs.mapper import best_mapping
from costs.split_stages import TeamPlan, make_team_instance, plan_teams
from costs.stages import calc_stage_costs
from costs.workload import Workload
from models.registry import abstract_network, network_entry
from models.trace import workload_of

FOLDER = Path(__file__).parent / "results" / "layer_distribution"
NETWORKS = {
    "VGG-16": "vgg16",
    "ResNet-18": "resnet18_imagenet",
    "ResNet-50": "resnet50_imagenet",
}
ALEXNET = {  # Krizhevsky et al. 2012, two groups: (K, C, P, R, groups) or (K, C)
    "conv1": (96, 3, 55, 11, 1),
    "conv2": (256, 96, 27, 5, 2),
    "conv3": (384, 256, 13, 3, 1),
    "conv4": (384, 384, 13, 3, 2),
    "conv5": (256, 384, 13, 3, 2),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}
TABLE_CORES = (2, 3, 4, 6, 8, 16)
CORES = (2, 3, 4, 5, 6, 7, 8)
TEAMS = (1, 2, 3, 4, 6, 8)
CORE = "gemmini"
PORTS_BYTES_PER_S = (16e9, 1e8)  # UCIe standard package, 8 lanes at 16 GT/s; a serial board link
SPLIT = (
    "network", "port_bytes_per_s", "cores", "plan", "interval_s", "speedup", "lost_tails",
    "lost_links", "lost_imbalance", "handover_bytes", "duplicate_bytes", "halo_bytes", "teams",
)  # fmt: skip


def alexnet_layers() -> list[Layer]:
    """Shapes alone: the zoo has no AlexNet."""
    layers = []
    for name, (k, c, *rest) in ALEXNET.items():
        p, r, groups = rest or (1, 1, 1)
        layers.append(Layer(name, K=k, C=c, P=p, Q=p, R=r, S=r, groups=groups))
    return layers


def module_order(workload: Workload) -> list[Layer]:
    """Layers with MACs, a block's shortcut after its convolutions, as torchvision lists modules."""
    blocks: dict[str, list[Layer]] = {}
    for layer in workload.layers:
        if layer.kind == "conv":
            blocks.setdefault(layer.name.rpartition(".")[0] or layer.name, []).append(layer)
    return [
        layer
        for block in blocks.values()
        for layer in sorted(block, key=lambda layer: layer.name.endswith("shortcut"))
    ]


def read_workload(name: str) -> Workload:
    """A network of the zoo as a workload."""
    shape = network_entry(name).input_shape
    assert shape is not None
    return workload_of(abstract_network(name), shape, name=name)


def by_macs(layers: list[Layer], cores: int) -> AssignmentInstance:
    """Layers in a row whose time is their MACs on any core, links free."""
    times = np.repeat(np.array([[float(layer.macs)] for layer in layers]), cores, axis=1)
    free = CoreCosts.free(0, cores)
    nothing = np.zeros(0)
    return AssignmentInstance(
        "macs", CoreCosts.of(times), nothing.astype(int), (), nothing, free, free,
        np.zeros((cores, cores, 0), bool), nothing, nothing, np.full(cores, np.inf),
    )  # fmt: skip


def make_table() -> None:
    """Question 1."""
    rows = []
    everything = {"AlexNet": alexnet_layers()}
    everything |= {title: module_order(read_workload(name)) for title, name in NETWORKS.items()}
    for title, layers in everything.items():
        macs = [layer.macs for layer in layers]
        for cores in TABLE_CORES:
            costs = calc_stage_costs(by_macs(layers, cores), ordered=True)
            exact = sum(macs) / solve_stages(costs, ordered=True).interval_s
            found = sum(macs) / distribute(costs, cores).interval_s
            rows.append((title, len(layers), cores, exact, found, exact / found - 1))
            print(f"{title:10} k={cores:2}  dp {exact:6.2f}  distribution {found:6.2f}")
    header = ("network", "layers", "cores", "dp_speedup", "distribution_speedup", "gap")
    _write(FOLDER / "table.csv", header, rows)


class Cycles:
    """Seconds of a layer on the core, from `cycles.csv` or mapped and added to it."""

    def __init__(self) -> None:
        """Read what was mapped before."""
        self.core = load_core(CORE)
        self.path = FOLDER / "cycles.csv"
        self.known: dict[str, float] = {}
        if self.path.exists():
            with self.path.open() as file:
                self.known = {row["layer"]: float(row["cycles"]) for row in csv.DictReader(file)}

    def __call__(self, layer: Layer) -> float:
        """Time [s]."""
        shape = {k: v for k, v in sorted(vars(layer).items()) if k != "name"}
        key = " ".join(f"{k}={v}".replace(" ", "") for k, v in shape.items())
        if key not in self.known:
            self.known[key] = best_mapping(layer, self.core, "latency").cost.cycles
            FOLDER.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("a") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(("layer", "cycles"))
                writer.writerow((key, repr(self.known[key])))
        return self.known[key] / self.core.clock_hz


def make_split(networks: list[str]) -> None:
    """Question 2."""
    seconds = Cycles()
    path = FOLDER / "split.csv"
    kept = []
    if path.exists():
        with path.open() as file:
            kept = [tuple(r.values()) for r in csv.DictReader(file) if r["network"] not in networks]
    rows = list(kept)
    for title in networks:
        workload = read_workload(NETWORKS[title])
        alone = sum(seconds(layer) for layer in workload.layers)
        for port, cores in itertools.product(PORTS_BYTES_PER_S, CORES):
            plans = {"contiguous": [plan_teams(workload, cores, seconds, port, (1,))]}
            plans["split"] = [
                plan_teams(workload, cores, seconds, port, TEAMS, weight)
                for weight in (0.0, 0.5, 1.0)
            ] + plans["contiguous"]
            for name, options in plans.items():
                found = [_measure(title, name, p, cores, seconds, alone, port) for p in options]
                rows.append(min(found, key=lambda row: row[4]))
                print(*rows[-1][:8], rows[-1][-1])
            _write(path, SPLIT, rows)


def _measure(
    title: str,
    name: str,
    plan: TeamPlan,
    cores: int,
    seconds: Callable[[Layer], float],
    alone: float,
    port: float,
) -> tuple:
    instance = make_team_instance(plan, cores, seconds, port)
    assignment = plan.assignment
    if name == "contiguous":  # the estimate need not be exact: the dynamic program is
        exact = solve_stages(calc_stage_costs(instance, ordered=True), ordered=True)
        assignment = exact.assignment
    costs = calc_instance_cost(instance, assignment[:, None])
    interval, busy = costs["interval_s"][0], costs["core_busy_s"][:, 0]
    spent = busy.sum()
    traffic = dict.fromkeys(("handover", "duplicate", "halo"), 0.0)
    team = {i: n for n, (s, e, _, _) in enumerate(plan.teams) for i in range(s, e)}
    for tensor in plan.split.workload.tensors:
        if tensor.producer < 0:
            continue
        for core in {assignment[c] for c in tensor.consumers} - {assignment[tensor.producer]}:
            reader = next(c for c in tensor.consumers if assignment[c] == core)
            here, there = (plan.split.origin[n][0] for n in (tensor.producer, reader))
            kind = "handover"
            if name != "contiguous" and team[here] == team[there]:
                rows = plan.axis[here] == plan.axis[there] == "rows"
                kind = "halo" if rows else "duplicate"
            traffic[kind] += tensor.bytes
    total = cores * interval
    return (
        title, port, cores, name, interval, alone / interval, (spent - alone) / total,
        (interval - busy.max()) / interval, (busy.max() * cores - spent) / total,
        *traffic.values(), " ".join(f"{e - s}x{n}" for s, e, _, n in plan.teams),
    )  # fmt: skip


def draw() -> None:
    """Speed-up, what the ideal loses, and what crosses links, against the number of cores."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with (FOLDER / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    titles = list(dict.fromkeys((row["network"], row["port_bytes_per_s"]) for row in rows))
    figure, axes = plt.subplots(
        len(titles), 3, figsize=(12, 3.6 * len(titles)), layout="constrained", squeeze=False
    )
    for (network, port), (speed, loss, traffic) in zip(titles, axes, strict=True):
        for plan, style in (("contiguous", "o--"), ("split", "s-")):
            mine = [
                r
                for r in rows
                if (r["network"], r["port_bytes_per_s"], r["plan"]) == (network, port, plan)
            ]
            cores = [int(r["cores"]) for r in mine]
            speed.plot(cores, [float(r["speedup"]) for r in mine], style, label=plan)
        speed.plot(cores, cores, color="0.7", linewidth=1, label="ideal")
        speed.set(title=f"{network}, {float(port) / 1e9:g} GB/s ports: speed-up", xlabel="cores")
        speed.legend()
        bottom = np.zeros(len(cores))
        for label, values in (
            ("tails and repeated weights", [100 * float(r["lost_tails"]) for r in mine]),
            ("unequal shares", [100 * float(r["lost_imbalance"]) for r in mine]),
            ("waiting for links", [100 * float(r["lost_links"]) for r in mine]),
        ):
            loss.bar(cores, values, bottom=bottom, label=label)
            bottom += values
        loss.set(title="split: core time lost [%]", xlabel="cores")
        _legend_above(loss, bottom)
        bottom = np.zeros(len(cores))
        for label in ("handover", "duplicate", "halo"):
            values = np.array([float(r[f"{label}_bytes"]) / 1e6 for r in mine])
            traffic.bar(cores, values, bottom=bottom, label=label)
            bottom += values
        traffic.set(title="split: crossing bytes [MB per image]", xlabel="cores")
        _legend_above(traffic, bottom)
    figure.savefig(FOLDER / "split.png", dpi=150)


def _legend_above(axis: Any, heights: np.ndarray) -> None:
    """The legend in room of its own above the bars."""
    axis.set_ylim(0, 1.4 * heights.max())
    axis.legend(fontsize=8, loc="upper left")


def _write(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main() -> None:
    """One of table, split and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("table", "split", "draw"))
    parser.add_argument("networks", nargs="*", default=["VGG-16", "ResNet-50"])
    args = parser.parse_args()
    if args.what == "table":
        make_table()
    elif args.what == "split":
        make_split(args.networks)
    else:
        draw()


if __name__ == "__main__":
    main()
