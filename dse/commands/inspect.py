"""`dse list`, `dse validate` and `dse schema`: what exists, and whether a file is sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from costs import strict_yaml
from costs.errors import InputError, nearest
from dse.config import load_config, naming
from dse.console import print_error, print_json, print_line, print_table
from dse.outcomes import EXIT_BAD_INPUT, EXIT_DONE

_SIGNS = {
    "core_types": "chip",
    "links": "chip",
    "levels": "core",
    "templates": "sweep of cores",
    "network": "experiment",
    "method": "experiment",
}
"""Top-level key -> the kind of file that has it."""


def validate_command(files: Sequence[Path], *, as_json: bool) -> int:
    """Check each file; the exit code is 2 if any is not sound."""
    results = []
    for file in files:
        try:
            kind, name = _check(file)
            results.append({"file": str(file), "valid": True, "kind": kind, "name": name})
        except InputError as error:
            results.append({"file": str(file), "valid": False, "error": str(error)})
    if as_json:
        print_json(results)
    else:
        for result in results:
            if result["valid"]:
                print_line(f"{result['file']}: valid {result['kind']} {result['name']}")
            else:
                print_error(str(result["error"]))
    return EXIT_DONE if all(result["valid"] for result in results) else EXIT_BAD_INPUT


def list_command(what: str | None, *, as_json: bool) -> None:
    """The shipped things of one kind, or the names of all kinds."""
    if what is None:
        everything = {kind: [row["name"] for row in rows()] for kind, rows in _CATALOGUE.items()}
        if as_json:
            print_json(everything)
        else:
            for kind, names in everything.items():
                print_line(f"{kind}: {', '.join(names)}")
        return
    rows = _choose(what, _CATALOGUE | _COMPUTED)()
    if as_json:
        print_json(rows)
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print_table(columns, [[row.get(column, "") for column in columns] for row in rows])


def schema_command(what: str) -> None:
    """The JSON Schema of a kind of file."""
    print_json(_choose(what, _SCHEMAS)())


def _check(file: Path) -> tuple[str, str]:
    """Kind and name of a sound file."""
    document = strict_yaml.load(file)
    if type(document) is dict and document.get("kind") == "gpu":
        from costs.gpu_waves import GpuSpec
        from costs.hardware_spec import validate

        return "gpu", validate(GpuSpec, document, file).name
    kinds = [_SIGNS[key] for key in document if key in _SIGNS] if type(document) is dict else []
    if not kinds:
        raise InputError(
            "cannot tell what this describes",
            file=file,
            allowed="an experiment (network, chip), a chip (core_types, links), a core (levels), a"
            " sweep of cores (templates) or a GPU (kind: gpu)",
        )
    if kinds[0] == "experiment":
        from dse.context import make_context
        from dse.data import outline_data
        from dse.insitu import make_insitu_context
        from dse.skipping import make_skipping_context
        from dse.train import make_train_context

        config = load_config(file)
        others = {
            "train": make_train_context,
            "insitu": make_insitu_context,
            "skipping": make_skipping_context,
        }
        with naming(file):
            others.get(config.method, make_context)(config, outline_data)
        return "experiment", config.name
    from costs.library import load_chip, load_core

    if kinds[0] == "sweep of cores":
        from dse.commands.evaluate import read_workload
        from dse.core_sweep import load_sweep, swept_cores

        sweep = load_sweep(file)
        with naming(file):
            for name, template in sweep.templates.items():
                swept_cores(name, template, load_core(template.core))
            for network in sweep.networks:
                read_workload(network, 1)
        return "sweep of cores", sweep.name
    return kinds[0], (load_chip if kinds[0] == "chip" else load_core)(file).name


def _list_cores() -> list[dict[str, Any]]:
    from costs.library import list_cores, load_core

    rows = []
    for core in map(load_core, list_cores()):
        array = " x ".join(str(axis.size) for axis in core.axes)
        levels = ", ".join(level.name for level in core.levels)
        rows.append({"name": core.name, "array": array, "levels": levels})
    return rows


def _list_chips() -> list[dict[str, Any]]:
    from costs.library import list_chips, load_chip

    rows = []
    for chip in map(load_chip, list_chips()):
        cores = ", ".join(f"{core}: {chip.types[kind].name}" for core, kind in chip.cores)
        rows.append({"name": chip.name, "cores": cores, "links": len(chip.links)})
    return rows


def _list_gpus() -> list[dict[str, Any]]:
    from costs.gpu_waves import find_gpu, list_gpus

    rows = []
    for gpu in filter(None, map(find_gpu, list_gpus())):
        tile = f"{gpu.tile_m} x {gpu.tile_n}"
        rows.append({"name": gpu.name, "multiprocessors": gpu.sms, "tile": tile})
    return rows


def _list_technologies() -> list[dict[str, Any]]:
    from costs.technology_tables import TECHNOLOGIES

    return [{"name": name} for name in TECHNOLOGIES]


def _list_data() -> list[dict[str, Any]]:
    from dse.data import LOADERS

    return [{"name": name} for name in sorted(LOADERS)]


def _list_experiments() -> list[dict[str, Any]]:
    """The experiments below `experiments/` of the working directory."""
    rows = []
    for file in sorted(Path("experiments").glob("*.yaml")):
        document = strict_yaml.load(file)
        question = document.get("question", "") if isinstance(document, dict) else ""
        rows.append({"name": file.stem, "file": str(file), "question": question})
    return rows


def _list_networks() -> list[dict[str, Any]]:
    from models.registry import NETWORKS

    return [
        {
            "name": name,
            "parameters": entry.parameters,
            "input": "x".join(str(size) for size in entry.input_shape or ()),
            "description": entry.description,
        }
        for name, entry in NETWORKS.items()
    ]


def _experiment_schema() -> dict[str, Any]:
    from dse.config import Experiment

    return Experiment.model_json_schema()


def _chip_schema() -> dict[str, Any]:
    from costs.hardware_spec import ChipSpec

    return ChipSpec.model_json_schema()


def _core_schema() -> dict[str, Any]:
    from costs.hardware_spec import CoreSpec

    return CoreSpec.model_json_schema()


def _case_schema() -> dict[str, Any]:
    from costs.cases import case_schema

    return case_schema()


def _list_insitu() -> list[dict[str, Any]]:
    from dse.commands.insitu import list_insitu

    return list_insitu()


_CATALOGUE: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "networks": _list_networks,
    "cores": _list_cores,
    "chips": _list_chips,
    "gpus": _list_gpus,
    "data": _list_data,
    "technologies": _list_technologies,
    "experiments": _list_experiments,
}
_COMPUTED: dict[str, Callable[[], list[dict[str, Any]]]] = {"insitu": _list_insitu}
"""Tables that take seconds: only when asked for by name."""
_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "experiment": _experiment_schema,
    "chip": _chip_schema,
    "core": _core_schema,
    "case": _case_schema,
}


def _choose(what: str, table: dict[str, Callable[[], Any]]) -> Callable[[], Any]:
    if what not in table:
        close = nearest(what, table)
        hint = f"unknown; did you mean {close}?" if close else "unknown"
        raise InputError(hint, value=what, allowed=table)
    return table[what]
