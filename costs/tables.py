"""A layer's best cost over a grid of integer widths and hardware, cached by content.

`layer_table` holds the exact cost of the best mapping at every point of the grid; `extend` carries
it to the real numbers between neighbouring points, exact at the points themselves.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from costs.conventions import TIMELOOP, Conventions
from costs.core import Core
from costs.errors import InputError
from costs.hardware_points import Same
from costs.layer import Layer
from costs.mapper import Solutions, check_objective, solve
from costs.mapping import Mapping

Array = Any  # numpy or jax array
Items = tuple[tuple[str, Any], ...]  # of a dictionary

ARRAYS = (
    "best",
    "energy_pj",
    "mac_energy_pj",
    "total_energy_pj",
    "cycles",
    "read_bytes",
    "write_bytes",
)


@dataclass(frozen=True)
class LayerTable:
    """The cost of a layer's best mapping at every point of a grid.

    Leading axes of all arrays are `[*widths, *hardware]` in the order of `grid`.

    Attributes:
        grid: (name, values) of each axis of the grid: widths, then hardware knobs.
        levels: names of the memory levels.
        mappings: the mappings that are best somewhere.
        best: `(...)` index into `mappings`; -1 where nothing fits.
        energy_pj: `(..., levels, operands)` dynamic energy [pJ]; not a number where nothing fits,
            as in all the others.
        mac_energy_pj: `(...)` [pJ].
        total_energy_pj: `(...)` both together, as `Cost.energy_pj` [pJ].
        cycles: `(...)` [cycles].
        read_bytes, write_bytes: `(..., levels, operands)` read from, written to each level [bytes].
    """

    grid: tuple[tuple[str, tuple[float, ...]], ...]
    levels: tuple[str, ...]
    mappings: tuple[Mapping, ...]
    best: np.ndarray
    energy_pj: np.ndarray
    mac_energy_pj: np.ndarray
    total_energy_pj: np.ndarray
    cycles: np.ndarray
    read_bytes: np.ndarray
    write_bytes: np.ndarray

    @property
    def feasible(self) -> np.ndarray:
        """Whether any mapping fits. `(...)` boolean."""
        return self.best >= 0

    @property
    def level_energy_pj(self) -> np.ndarray:
        """Energy of each level over all operands. `(..., levels)` [pJ]."""
        return self.energy_pj[..., 0] + self.energy_pj[..., 1] + self.energy_pj[..., 2]

    @property
    def dram_read_bytes(self) -> np.ndarray:
        """Read from the outermost level by operand. `(..., operands)` [bytes]."""
        return self.read_bytes[..., 0, :]

    @property
    def dram_write_bytes(self) -> np.ndarray:
        """Written to the outermost level by operand. `(..., operands)` [bytes]."""
        return self.write_bytes[..., 0, :]

    def mapping(self, *index: int) -> Mapping | None:
        """The mapping of an entry, `None` where nothing fits."""
        best = int(self.best[index])
        return self.mappings[best] if best >= 0 else None


def hardware_point(core: Core, knobs: Dict[str, float]) -> Core:
    """A core with other sizes.

    Args:
        core: the core.
        knobs: "array" (PEs along every axis), the name of an axis [PEs] or of a level [bytes].

    Raises:
        InputError: a knob is none of these.
    """
    axes: dict[str, int] = {}
    capacities: dict[str, float] = {}
    axis_names = [axis.name for axis in core.axes]
    level_names = [level.name for level in core.levels]
    for name, value in knobs.items():
        if name == "array":
            axes.update(dict.fromkeys(axis_names, int(value)))
        elif name in axis_names:
            axes[name] = int(value)
        elif name in level_names:
            capacities[name] = value
        else:
            raise InputError(
                key="hardware", value=name, allowed=("array", *axis_names, *level_names)
            )
    return core.scaled(axes=axes, capacity_bytes=dict(capacities))


def with_shares(core: Core, shares: Dict[str, float]) -> Core:
    """The core of whose levels a mapping may use a part only; energy stays that of the whole."""
    if not shares:
        return core
    levels = []
    for level in core.levels:
        part = shares.get(level.name, 1.0)
        capacity = level.capacity_bytes
        levels.append(
            replace(
                level,
                capacity_bytes={t: c * part for t, c in capacity.items()}
                if isinstance(capacity, Dict)
                else capacity * part,
            )
        )
    return replace(core, levels=tuple(levels))


def layer_table(
    layer: Layer,
    core: Core,
    *,
    widths: Dict[str, Sequence[int]] | None = None,
    hardware: Dict[str, Sequence[float]] | None = None,
    homes: Dict[str, str] | None = None,
    shares: Dict[str, float] | None = None,
    objective: str = "energy",
    conventions: Conventions = TIMELOOP,
    cache_dir: Path | str | None = None,
) -> LayerTable:
    """The table of a layer over integer widths and hardware.

    Args:
        layer: the layer at any width.
        core: the core at any size.
        widths: values of K, C (over all groups) or any other field of the layer that is a size.
        hardware: values of each knob, see `hardware_point`.
        homes: where operands live, see `Core.with_homes`.
        shares: the part of a level's capacity that a mapping may use, by level.
        objective: what the mapping of every entry is best in: "energy", "latency" or "edp".
        conventions: how accesses are counted.
        cache_dir: where tables are kept, if it can be written to; `None` computes anew.

    Raises:
        InputError: a width, knob, home or objective is unknown.
    """
    check_objective(objective)
    widths = dict(widths or {})
    hardware = {name: tuple(values) for name, values in (hardware or {}).items()}
    for name in widths:
        if name not in ("N", "K", "C", "P", "Q", "R", "S"):
            raise InputError(key="widths", value=name, allowed=("N", "K", "C", "P", "Q", "R", "S"))
    grid = tuple((name, tuple(values)) for name, values in (*widths.items(), *hardware.items()))
    layers = [
        replace(layer, **dict(zip(widths, map(int, point), strict=True)))
        for point in itertools.product(*widths.values())
    ]
    cores = _list_cores(
        Same(core), *(tuple(part.items()) for part in (hardware, homes or {}, shares or {}))
    )
    shape = tuple(len(values) for _, values in grid)
    key = content_key(layers, cores, objective, conventions)
    if cache_dir is not None and (known := _load(Path(cache_dir), key, shape)) is not None:
        table = replace(known, grid=grid)
    else:
        table = _assemble([_solve_once(item, cores, objective, conventions) for item in layers])
        table = replace(
            _reshape(table, shape), grid=grid, levels=tuple(level.name for level in core.levels)
        )
        if cache_dir is not None:
            with contextlib.suppress(OSError):  # a table that cannot be kept serves all the same
                _store(Path(cache_dir), key, table)
    return table


@functools.lru_cache(maxsize=32)
def _list_cores(item: Same, hardware: Items, homes: Items, shares: Items) -> list[Core]:
    """The cores of a grid, the last knob fastest; the very same ones for all layers of a table."""
    names = [name for name, _ in hardware]
    cores = []
    for point in itertools.product(*(values for _, values in hardware)):
        core = hardware_point(item.core, dict(zip(names, point, strict=True)))
        cores.append(with_shares(core.with_homes(**dict(homes)), dict(shares)))
    return cores


def default_cache_dir() -> Path:
    """Where tables are kept unless told otherwise: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "narrows" / "tables"


def content_key(
    layers: Sequence[Layer], cores: Sequence[Core], objective: str, conventions: Conventions
) -> str:
    """Hash of everything a table follows from: layers, hardware, options and the code itself."""
    digest = hashlib.sha256(_hash_code().encode())
    for layer in layers:
        digest.update(repr(replace(layer, name="")).encode())
    digest.update(_hash_cores(tuple(map(Same, cores))).encode())
    digest.update(repr((objective, conventions)).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=16)
def _hash_cores(cores: tuple[Same, ...]) -> str:
    """Hash of all that cost follows from in a grid of cores."""
    digest = hashlib.sha256()
    for item in cores:
        digest.update(repr(replace(item.core, name="")).encode())
    return digest.hexdigest()


_known: OrderedDict[str, Solutions] = OrderedDict()


def _solve_once(
    layer: Layer, cores: Sequence[Core], objective: str, conventions: Conventions
) -> Solutions:
    """`solve`, remembered for a while: networks repeat their layers."""
    key = content_key([layer], cores, objective, conventions)
    if key not in _known:
        _known[key] = solve(layer, cores, objective, conventions)
        if len(_known) > 1024:
            _known.popitem(last=False)
    return _known[key]


@functools.cache
def _hash_code() -> str:
    """Hash of the source files of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _assemble(solutions: Sequence[Solutions]) -> LayerTable:
    """Stacks the solutions of several widths, keeping the mappings that are best somewhere."""
    mappings: dict[str, int] = {}
    kept: list[Mapping] = []
    best = np.full((len(solutions), len(solutions[0].best)), -1)
    for number, solution in enumerate(solutions):
        for choice in np.unique(solution.best[solution.best >= 0]):
            mapping = solution.mappings[choice]
            name = repr(mapping)
            if name not in mappings:
                mappings[name] = len(kept)
                kept.append(mapping)
            best[number, solution.best == choice] = mappings[name]
    return LayerTable(
        grid=(),
        levels=(),
        mappings=tuple(kept),
        best=best,
        **{name: np.stack([getattr(s, name) for s in solutions]) for name in ARRAYS[1:]},
    )


def _reshape(table: LayerTable, shape: tuple[int, ...]) -> LayerTable:
    """The table with one leading axis for each axis of the grid."""
    return replace(
        table,
        **{
            name: getattr(table, name).reshape(shape + getattr(table, name).shape[2:])
            for name in ARRAYS
        },
    )


def _store(folder: Path, key: str, table: LayerTable) -> None:
    """Writes a table under its key, at once or not at all, with a checksum before it."""
    buffer = io.BytesIO()
    notes = {"levels": table.levels, "mappings": [asdict(m) for m in table.mappings]}
    text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    np.savez_compressed(buffer, notes=text, **{name: getattr(table, name) for name in ARRAYS})
    payload = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        Path(temporary).replace(folder / f"{key}.npz")
    finally:
        Path(temporary).unlink(missing_ok=True)


def _load(folder: Path, key: str, shape: tuple[int, ...]) -> LayerTable | None:
    """Reads a table, or `None` where there is none or it is damaged."""
    try:
        data = (folder / f"{key}.npz").read_bytes()
    except OSError:
        return None
    checksum, payload = data[:32], data[32:]
    if hashlib.sha256(payload).digest() != checksum:
        return None
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
            notes = json.loads(file["notes"].tobytes())
    except (zipfile.BadZipFile, KeyError, ValueError):
        return None
    if arrays["best"].shape != shape:
        return _reshape_loaded(arrays, notes, shape)
    return _named(arrays, notes)


def _reshape_loaded(arrays: dict, notes: dict, shape: tuple[int, ...]) -> LayerTable:
    """The same points under other axes."""
    points = arrays["best"].ndim
    return _named(
        {name: value.reshape(shape + value.shape[points:]) for name, value in arrays.items()}, notes
    )


def _named(arrays: dict, notes: dict) -> LayerTable:
    """A table from what was stored."""
    mappings = tuple(
        Mapping(
            loops=tuple(map(tuple, item["loops"])),
            stored=item["stored"],
            spatial={axis: tuple(map(tuple, part)) for axis, part in item["spatial"].items()},
        )
        for item in notes["mappings"]
    )
    return LayerTable(grid=(), levels=tuple(notes["levels"]), mappings=mappings, **arrays)


def extend(values: Array, points: Sequence[Sequence[float]], at: Sequence[Array]) -> Array:
    """Multilinear extension of a table between neighbouring points of its grid, in JAX.

    Exact at the points; between two of them the gradient is their difference over their distance.
    Outside the grid the nearest edge counts.

    Args:
        values: `(*grid, ...)` any array of a table.
        points: rising values of each axis of the grid.
        at: one real number for each axis of the grid, any equal shapes.

    Returns:
        `(*shape, ...)` extended values, shape being that of the numbers in `at`.
    """
    import jax.numpy as jnp

    values = jnp.asarray(values)
    corners: list[tuple[Any, ...]] = [()]
    weights: list[Any] = [1.0]
    for axis, x in zip(points, at, strict=True):
        steps = jnp.asarray(axis, values.dtype)
        x = jnp.clip(jnp.asarray(x, values.dtype), steps[0], steps[-1])
        if len(axis) == 1:
            corners = [(*c, jnp.zeros(x.shape, int)) for c in corners]
            continue
        low = jnp.clip(jnp.searchsorted(steps, x, side="right") - 1, 0, len(axis) - 2)
        part = (x - steps[low]) / (steps[low + 1] - steps[low])
        corners = [(*c, low + step) for c in corners for step in (0, 1)]
        weights = [w * f for w in weights for f in (1 - part, part)]
    total = 0.0
    for corner, weight in zip(corners, weights, strict=True):
        value = values[corner]
        shape = jnp.shape(weight) + (1,) * (value.ndim - jnp.ndim(weight))
        # a corner of no weight may hold no number
        total = total + jnp.where(
            jnp.reshape(weight, shape) == 0, 0.0, jnp.reshape(weight, shape) * value
        )
    return total
