"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, such as seed=3; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def _use_data_dir(path: Path | None) -> Path | None:
    """Tell whoever reads a data set, in this process and those it starts, where data sets lie."""
    if path is not None:
        from dse.data.store import use_data_dir

        use_data_dir(path)
    return path


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        callback=_use_data_dir,
        help="Where data sets lie; default: NARROWS_DATA, else the user's cache folder.",
    ),
]


def refuse_stray(context: typer.Context, use: str, options: Mapping[str, tuple[str, ...]]) -> None:
    """Refuses an option that this use of a command would pass over in silence.

    Args:
        context: the call.
        use: which of the uses it is.
        options: names of the options of each use, besides `--json`.

    Raises:
        InputError: naming the option and the uses that have it.
    """
    from costs.errors import InputError

    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        optional = parameter.param_type_name == "option" and name != "as_json"
        given = optional and source is not None and source.name == "COMMANDLINE"
        if given and name not in options[use]:
            uses = [other for other, names in options.items() if name in names]
            raise InputError(
                "does not apply here",
                key=parameter.opts[0],
                allowed="only with " + " or ".join(uses),
            )
