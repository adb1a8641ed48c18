"""Sweeps of cores: what every network costs on every core of some array shapes and buffer sizes.

Every network runs alone on every core, each layer by its best mapping with operands in DRAM, and
pays the core's leakage for as long as it runs.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from costs import strict_yaml
from costs.chip_cost import PJ
from costs.core import Core
from costs.errors import InputError
from costs.hardware_spec import Name, Size, Spec, validate
from costs.layer import Layer
from costs.library import load_core
from costs.tables import hardware_point, layer_table
from costs.workload import Workload


class TemplateSpec(Spec):
    """Cores of one structure: every combination of the sizes is one core.

    Attributes:
        core: a shipped core, or a path.
        sizes: values of each array axis [PEs] and of each memory level [bytes].
    """

    core: str
    sizes: dict[Name, Annotated[list[Size], Field(min_length=1)]] = Field(min_length=1)


class SweepSpec(Spec):
    """A file for `dse cores`.

    Attributes:
        name: of the experiment.
        question: what it is to answer.
        expected: what is expected to come out.
        networks: shipped networks.
        templates: name of each family of cores.
        mapping_objective: what the best mapping of a layer is best in.
        types: numbers of core types to choose.
    """

    name: Name
    question: str = ""
    expected: str = ""
    networks: list[str] = Field(min_length=1)
    templates: dict[Name, TemplateSpec] = Field(min_length=1)
    mapping_objective: Literal["energy", "latency", "edp"] = "edp"
    types: list[Annotated[int, Field(ge=1, le=8)]] = Field(default=[1, 2, 3], min_length=1)


@dataclass(frozen=True)
class SweptCore:
    """One core of the sweep.

    Attributes:
        label: template, array shape, then buffers in KiB.
        area_mm2: [mm^2]; None where the technology gives none.
        leakage_w: [W].
    """

    label: str
    area_mm2: float | None
    leakage_w: float

    @classmethod
    def of(cls, template: str, sizes: Sequence[tuple[str, int]], core: Core) -> SweptCore:
        """A template's core of some sizes."""
        shape = "x".join(str(v) for k, v in sizes if not k.endswith("buffer"))
        buffers = [f"{k[0]}{v / 1024:g}K" for k, v in sizes if k.endswith("buffer")]
        label = " ".join(part for part in (template, shape, *buffers) if part)
        return cls(label, core.area_mm2, core.total_leakage_w)


@dataclass(frozen=True)
class Sweep:
    """Costs of every network on every core.

    Attributes:
        networks: names.
        cores: the cores.
        energy_pj: [networks, cores] of one inference, leakage included [pJ].
        latency_s: [networks, cores] [s].
    """

    networks: tuple[str, ...]
    cores: tuple[SweptCore, ...]
    energy_pj: np.ndarray
    latency_s: np.ndarray

    def values(self, goal: str) -> np.ndarray:
        """[networks, cores] energy [pJ] or energy-delay product [pJ s]."""
        return self.energy_pj if goal == "energy_pj" else self.energy_pj * self.latency_s


def load_sweep(path: Path) -> SweepSpec:
    """Read a file for `dse cores`.

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    return validate(SweepSpec, strict_yaml.load(path), path)


def swept_cores(name: str, template: TemplateSpec, core: Core) -> list[SweptCore]:
    """The cores of a template, its last size fastest.

    Args:
        name: of the template.
        template: the sizes.
        core: the template's core.

    Raises:
        InputError: a size is of no axis or level of the core.
    """
    points = [
        tuple(zip(template.sizes, values, strict=True))
        for values in itertools.product(*template.sizes.values())
    ]
    return [SweptCore.of(name, point, hardware_point(core, dict(point))) for point in points]


def run_sweep(
    spec: SweepSpec,
    workload_of: Callable[[str], Workload],
    say: Callable[[str], None],
    cache_dir: Path | None = None,
) -> Sweep:
    """Every network on every core.

    Args:
        spec: the sweep.
        workload_of: a network's layers by its name.
        say: told what is being done, a line at a time.
        cache_dir: where tables are kept; None computes anew.

    Raises:
        InputError: a network, core or size is unknown, or a layer fits none of the cores.
    """
    layers = {name: workload_of(name).layers for name in spec.networks}
    cores, columns = [], []
    for name, template in spec.templates.items():
        core = load_core(template.core)
        swept = swept_cores(name, template, core)
        known: dict[tuple[object, ...], np.ndarray] = {}
        for network, parts in layers.items():
            for layer in parts:
                if _shape(layer) in known:
                    continue
                table = layer_table(
                    layer,
                    core,
                    hardware=dict(template.sizes),
                    objective=spec.mapping_objective,
                    cache_dir=cache_dir,
                )
                known[_shape(layer)] = np.stack(
                    [table.total_energy_pj.ravel(), table.cycles.ravel()]
                )
            say(f"{name}: {network}, {len(known)} shapes of layers so far")
        totals = np.stack(
            [np.sum([known[_shape(layer)] for layer in parts], axis=0) for parts in layers.values()]
        )  # [networks, 2, cores]
        latency_s = totals[:, 1] / core.clock_hz
        leakage_pj = np.array([k.leakage_w for k in swept]) * latency_s / PJ
        cores += swept
        columns.append((totals[:, 0] + leakage_pj, latency_s))
    energy, latency = (np.concatenate(part, axis=1) for part in zip(*columns, strict=True))
    energy, latency = np.nan_to_num(energy, nan=np.inf), np.nan_to_num(latency, nan=np.inf)
    for network, row in zip(layers, energy, strict=True):
        if not np.isfinite(row).any():
            raise InputError("fits none of the cores", key="networks", value=network)
    return Sweep(tuple(layers), tuple(cores), energy, latency)


def write_sweep(path: Path, sweep: Sweep) -> None:
    """One row for every network on every core."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("network", "core", "area_mm2", "leakage_w", "energy_pj", "latency_s", "edp_pjs")
        )
        for (n, network), (c, core) in itertools.product(
            enumerate(sweep.networks), enumerate(sweep.cores)
        ):
            energy, latency = float(sweep.energy_pj[n, c]), float(sweep.latency_s[n, c])
            writer.writerow(
                (
                    network,
                    core.label,
                    core.area_mm2,
                    core.leakage_w,
                    energy,
                    latency,
                    energy * latency,
                )
            )


def read_sweep(path: Path) -> Sweep:
    """What `write_sweep` wrote.

    Raises:
        InputError: the file is missing or is none.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        cores = {
            r["core"]: SweptCore(
                r["core"], float(r["area_mm2"]) if r["area_mm2"] else None, float(r["leakage_w"])
            )
            for r in rows
        }
        networks = tuple(dict.fromkeys(r["network"] for r in rows))
        values = [(float(r["energy_pj"]), float(r["latency_s"])) for r in rows]
        shape = len(networks), len(cores), 2
        energy, latency = np.moveaxis(np.array(values).reshape(shape), -1, 0)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("is no table of a sweep", file=path) from error
    return Sweep(networks, tuple(cores.values()), energy, latency)


def _shape(layer: Layer) -> tuple[object, ...]:
    """All of a layer but its name."""
    return tuple(value for key, value in sorted(vars(layer).items()) if key != "name")
