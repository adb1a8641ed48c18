"""Named topologies as physical links.

A `bus` is one link that all its cores share. `point_to_point` is one link of two cores. A `ring`
joins each core to the next and the last to the first. A `mesh` joins neighbours in rows and
columns. A `chiplet_package` joins the neighbouring dies of a package; a die of several cores has a
bus of its own, on which a port leads to the links of the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from costs import technology_tables
from costs.chip import Link
from costs.core_file import find_energy_per_bit
from costs.errors import InputError
from costs.hardware_spec import ChipSpec, LinkSpec, WireSpec

Wire = tuple[float, float, float]
"""Bandwidth [bytes/s], energy [pJ/bit] and hop latency [s] of a link."""


def build_links(link: LinkSpec, key: str, chip: ChipSpec, file: object) -> list[Link]:
    """The physical links of one entry of a chip file.

    Args:
        link: the entry.
        key: where it stands, named in errors.
        chip: the whole file.
        file: named in errors.

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    _check_keys(link, key, file)
    nodes = [[core] for core in link.cores or ()] or list(link.dies or ())
    section = "dies" if link.dies else "cores"
    members = list(itertools.chain(*nodes))
    for core in members:
        if core not in chip.cores:
            raise InputError(
                "no such core",
                file=file,
                key=f"{key}.{section}",
                value=core,
                allowed=list(chip.cores),
            )
    if len(set(members)) != len(members):
        raise InputError(file=file, key=f"{key}.{section}", value=members, allowed="distinct cores")
    wire = _build_wire(link, key, chip, file)
    topology = link.topology or ("point_to_point" if len(members) == 2 else "bus")
    if topology == "bus":
        return [Link(link.name, tuple(members), *wire)]
    if topology == "point_to_point":
        _check_count(len(members) == 2, members, "two cores", f"{key}.cores", file)
        return [Link(link.name, tuple(members), *wire)]
    if topology == "ring":
        _check_count(len(members) > 2, members, "three or more cores", f"{key}.cores", file)
        pairs = zip(members, [*members[1:], members[0]], strict=True)
        return [Link(f"{link.name}.{a}_{b}", (a, b), *wire) for a, b in pairs]
    if topology == "mesh":
        return _mesh(link, members, wire, key, file)
    return _package(link, nodes, wire, key, chip, file)


def _check_keys(link: LinkSpec, key: str, file: object) -> None:
    """Raises InputError if an entry has a key that its topology does not, or lacks one."""
    package = link.topology == "chiplet_package"
    grid = package or link.topology == "mesh"
    wanted = {"dies": package, "cores": not package, "columns": grid}
    for name, needed in wanted.items():
        if needed != (getattr(link, name) is not None):
            raise InputError(
                "missing" if needed else "of no use here",
                file=file,
                key=f"{key}.{name}",
                value=None if needed else getattr(link, name),
                allowed=f"with topology {link.topology or 'bus or point_to_point'}: "
                + ", ".join(n for n, use in wanted.items() if use),
            )
    shared = any(len(die) > 1 for die in link.dies or ())
    if shared != (link.on_die is not None):
        raise InputError(
            "missing" if shared else "of no use here",
            file=file,
            key=f"{key}.on_die",
            allowed="needed where a die of a chiplet_package has several cores, and only there",
        )


def _check_count(right: bool, cores: Sequence[str], wanted: str, key: str, file: object) -> None:
    if not right:
        raise InputError(file=file, key=key, value=list(cores), allowed=wanted)


def _mesh(link: LinkSpec, nodes: Sequence[str], wire: Wire, key: str, file: object) -> list[Link]:
    """Links of neighbours in a grid, those along rows first; `nodes` stand row by row."""
    columns = link.columns or 1
    if len(nodes) % columns:
        raise InputError(
            file=file,
            key=f"{key}.columns",
            value=columns,
            allowed=f"a divisor of the number of cores or dies, {len(nodes)}",
        )
    across = [(0, i, i + 1) for i in range(len(nodes) - 1) if (i + 1) % columns]
    down = [(1, i, i + columns) for i in range(len(nodes) - columns)]
    names = [node.rpartition(".")[2] for node in nodes]  # a port's without that of its package
    return [
        Link(f"{link.name}.{names[i]}_{names[j]}", (nodes[i], nodes[j]), *wire, rank)
        for rank, i, j in across + down
    ]


def _package(
    link: LinkSpec,
    dies: Sequence[Sequence[str]],
    wire: Wire,
    key: str,
    chip: ChipSpec,
    file: object,
) -> list[Link]:
    """The bus of each die of several cores, and the mesh of the dies' ports."""
    ports, buses = [], []
    for number, cores in enumerate(dies):
        port = cores[0]
        if len(cores) > 1 and link.on_die is not None:
            port = f"{link.name}.die{number}"
            on_die = _build_wire(link.on_die, f"{key}.on_die", chip, file)
            buses.append(Link(port, (*cores, port), *on_die))
        ports.append(port)
    return [*buses, *_mesh(link, ports, wire, key, file)]


def _build_wire(wire: WireSpec, key: str, chip: ChipSpec, file: object) -> Wire:
    """Bandwidth [bytes/s], energy [pJ/bit] and hop latency [s]."""
    per_s, per_cycle = wire.bandwidth_bytes_per_s, wire.bandwidth_bits_per_cycle
    if (per_s is None) == (per_cycle is None):
        raise InputError(
            file=file,
            key=key,
            value=getattr(wire, "name", None),
            allowed="one of bandwidth_bytes_per_s and bandwidth_bits_per_cycle",
        )
    if per_s is None:
        if chip.clock_hz is None or per_cycle is None:
            raise InputError(
                "missing", file=file, key="clock_hz", allowed="needed by bandwidth_bits_per_cycle"
            )
        per_s = per_cycle / 8.0 * chip.clock_hz
    energy = find_energy_per_bit(
        wire.energy_pj_per_bit, technology_tables.LINK_PJ_PER_BIT, key, file
    )
    return per_s, energy, wire.hop_latency_s
