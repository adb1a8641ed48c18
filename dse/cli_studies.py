"""Commands that measure something over many designs, networks or runs, and record it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dse.cli_options import DataOption, JsonOption, RunArgument, SetOption

PANEL = "Studies"
TrainOption = Annotated[
    bool,
    typer.Option("--train/--no-train", help="Train what is missing, or tell of what is there."),
]


def add_studies(app: typer.Typer) -> None:
    """Put the commands of this file on a command line."""
    for name, command in (
        ("compare", compare),
        ("break-even", break_even),
        ("optimality", optimality),
        ("rounding", rounding),
        ("bottlenecks", bottlenecks),
        ("cores", cores),
        ("draw", draw),
    ):
        app.command(name=name, rich_help_panel=PANEL)(command)


def cores(
    source: Annotated[
        Path, typer.Argument(metavar="CONFIG | DIR", help="A sweep's YAML file, or its results.")
    ],
    out: Annotated[Path | None, typer.Option(help="Where results go.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the few core types that serve many networks, from a sweep over arrays and buffers."""
    from dse.commands.cores import cores_command

    cores_command(source, out, as_json=as_json)


def optimality(
    out: Annotated[Path, typer.Option(help="The directory for table, figure and record.")],
    spaces: Annotated[int, typer.Option(min=1, help="How many spaces.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Everything random derives from it.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """How close the optimizer comes to the optimum in joint spaces small enough to list."""
    from dse.commands.study import optimality_command

    optimality_command(spaces, seed, out, as_json=as_json)


def rounding(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment's YAML file.")],
    out: Annotated[Path, typer.Option(help="The directory for table, figure and record.")],
    set_: SetOption = [],  # noqa: B006 - typer copies defaults
    relaxation: Annotated[
        list[str],
        typer.Option(help="Such as widths.stochastic; repeatable; default: all."),
    ] = [],  # noqa: B006 - typer copies defaults
    split: Annotated[
        str, typer.Option(help="Pictures that accuracy is measured on: validation or test.")
    ] = "validation",
    seeds: Annotated[int, typer.Option(min=1, help="Paired seeds.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each.")] = 300,
    train: TrainOption = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """What rounding costs under each relaxation of widths and of assignment."""
    from dse.commands.rounding import rounding_command

    rounding_command(
        config, out, set_, relaxation, split, seeds, steps, train=train, as_json=as_json
    )


def bottlenecks(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment's YAML file.")],
    out: Annotated[Path, typer.Option(help="The directory for table, figure and record.")],
    set_: SetOption = [],  # noqa: B006 - typer copies defaults
    surface: Annotated[
        list[Path],
        typer.Option(metavar="RUN", help="A finished run, drawn over it; repeatable."),
    ] = [],  # noqa: B006 - typer copies defaults
    train: TrainOption = True,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy and bytes moved by bottleneck ratio and depth; goes on where it was stopped."""
    from dse.commands.bottlenecks import bottlenecks_command

    bottlenecks_command(config, out, set_, surface, train=train, as_json=as_json)


def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment's YAML file.")],
    out: Annotated[Path, typer.Option(help="The directory for table, figure and record.")],
    set_: SetOption = [],  # noqa: B006 - typer copies defaults
    method: Annotated[
        list[str], typer.Option(help="A baseline beside the surface; repeatable; default: all.")
    ] = [],  # noqa: B006 - typer copies defaults
    seeds: Annotated[int, typer.Option(min=1, help="Paired seeds.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """The surface against its baselines at equal passes; goes on where it was stopped."""
    from dse.commands.study import compare_command

    compare_command(config, out, set_, method, seeds, as_json=as_json)


def break_even(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The directory for table, figure and record.")],
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Predicted cross-entropy that may be lost [nat].")
    ] = 0.02,
    seed: Annotated[int, typer.Option(min=0, help="Of the widths that are tried.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Where bottlenecks pay: link energy by MAC energy, from a finished surface, in seconds."""
    from dse.commands.study import break_even_command

    break_even_command(run, out, tolerance, seed, as_json=as_json)


def draw(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Where a study was recorded.")],
) -> None:
    """Draw the figure of a recorded study again, from its CSV."""
    from dse.commands.study import draw_command

    draw_command(study)
