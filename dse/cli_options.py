"""Arguments and options that several commands take."""

from __future__ import annotations

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
