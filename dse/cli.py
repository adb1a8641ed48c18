"""The command line: arguments, exit codes, and nothing heavy before a command needs it.

Exit codes: 0 done, 1 failed, 2 bad input, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dse.cli_options import DataOption, JsonOption, RunArgument, SetOption, refuse_stray
from dse.cli_studies import add_studies
from dse.outcomes import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_SIGNAL_BASE,
    RunError,
    Stopped,
)

app = typer.Typer(
    name="dse",
    help="Optimize a network's bottlenecks, core assignment and hardware together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="An experiment's YAML file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The run directory to make; default: runs/NAME, numbered if taken."),
    ] = None,
    set_: SetOption = [],  # noqa: B006 - typer copies defaults
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Optimize: make a run directory, work until it is done, print the front."""
    from dse.commands.run import run_command

    run_command(config, out, set_, as_json=as_json)


@app.command()
def resume(
    run: RunArgument,
    set_: SetOption = [],  # noqa: B006 - typer copies defaults
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a run that was stopped or killed, bit by bit as if it had not been."""
    from dse.commands.run import resume_command

    resume_command(run, set_, as_json=as_json)


@app.command()
def report(
    run: RunArgument,
    data: DataOption = None,
) -> None:
    """Draw the figures of a finished run and write its report.html."""
    from dse.commands.run import report_command

    report_command(run)


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The directory to make.")],
    pick: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="A design's id, knee, or bounds: accuracy>=0.9,energy."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one design, or the network of a run without a chip, for others."""
    from dse.commands.run import export_command

    export_command(run, pick, out, as_json=as_json)


_EVALUATE = {
    "NETWORK CORE": ("objective", "batch", "input_size", "proof_s", "conventions", "figure"),
    "NETWORK GPU": ("batch", "input_size"),
    "NETWORK CORE --bounds": ("bounds", "batch", "input_size", "onchip_kib", "word_bits"),
    "NETWORK CORE --insitu": ("insitu", "batch", "objective"),
    "DESIGN": ("inputs", "figure"),
    "EXPORT": ("data",),
    "--case FILE": ("case",),
}
"""What `dse evaluate` may be given, and the options of each."""


@app.command()
def evaluate(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[NETWORK | DESIGN]", help="A network, a design or an export."),
    ] = None,
    hardware: Annotated[
        str | None, typer.Argument(metavar="[CORE]", help="A core's name or YAML file.")
    ] = None,
    case: Annotated[
        Path | None, typer.Option(help="JSON lines of (layer, core, mapping); see schema case.")
    ] = None,
    objective: Annotated[str, typer.Option(help="energy, latency or edp.")] = "energy",
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Inputs per execution; 1, or what an ONNX file fixes; 3 for --bounds."
        ),
    ] = None,
    inputs: Annotated[int, typer.Option(min=1, help="Inputs of a design in a row.")] = 1,
    bounds: Annotated[
        bool, typer.Option("--bounds", help="Bounds of the traffic instead.")
    ] = False,
    onchip_kib: Annotated[
        list[float],
        typer.Option(help="On-chip memory for --bounds [KiB]; repeatable; default: the core's."),
    ] = [],  # noqa: B006 - typer copies defaults
    word_bits: Annotated[int, typer.Option(min=1, help="Width of a word for --bounds.")] = 16,
    insitu: Annotated[
        str | None,
        typer.Option(metavar="Bi-Bc-qb-qu-qv", help="Beside it, weights generated from bases."),
    ] = None,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="HxWxC", help="Input, if not its own.")
    ] = None,
    proof_s: Annotated[
        float, typer.Option(min=0.0, help="How long to look for the proof of a mapping [s].")
    ] = 30.0,
    conventions: Annotated[
        str, typer.Option(help="Count as timeloop, accelforge or zigzag does.")
    ] = "timeloop",
    figure: Annotated[Path | None, typer.Option(help="Draw the energy by layer (PNG).")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The exact cost of a network on a core, of a design on its chip, or of given mappings."""
    from dse.commands import evaluate as commands

    if what is None and hardware is None and case is not None:
        refuse_stray(context, "--case FILE", _EVALUATE)
        commands.evaluate_cases_command(case, as_json=as_json)
    elif what is None or case is not None:
        raise typer.BadParameter("give NETWORK CORE, a design.yaml, an export, or --case FILE")
    elif hardware is None and Path(what).is_dir():
        from dse.commands.exported import evaluate_export_command

        refuse_stray(context, "EXPORT", _EVALUATE)
        raise typer.Exit(evaluate_export_command(Path(what), as_json=as_json))
    elif hardware is None:
        refuse_stray(context, "DESIGN", _EVALUATE)
        commands.evaluate_design_command(Path(what), inputs=inputs, figure=figure, as_json=as_json)
    elif bounds:
        refuse_stray(context, "NETWORK CORE --bounds", _EVALUATE)
        commands.evaluate_bounds_command(
            what, hardware, batch=batch, onchip_kib=onchip_kib, word_bits=word_bits,
            as_json=as_json, input_size=input_size,
        )  # fmt: skip
    elif insitu is not None:
        refuse_stray(context, "NETWORK CORE --insitu", _EVALUATE)
        from dse.commands.insitu import evaluate_insitu_command

        evaluate_insitu_command(
            what, hardware, insitu, objective=objective, batch=batch, as_json=as_json
        )
    else:
        from costs.gpu_waves import find_gpu

        gpu = find_gpu(hardware)
        refuse_stray(context, "NETWORK CORE" if gpu is None else "NETWORK GPU", _EVALUATE)
        if gpu is not None:
            commands.evaluate_gpu_command(
                what, gpu, batch=batch, as_json=as_json, input_size=input_size
            )
            return
        commands.evaluate_network_command(
            what, hardware, objective=objective, batch=batch, figure=figure,
            as_json=as_json, input_size=input_size, proof_s=proof_s, conventions=conventions,
        )  # fmt: skip


@app.command()
def assign(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="A network or ONNX file.")],
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="A chip's name or YAML file.")],
    solver: Annotated[
        str,
        typer.Option(help="dp, milp, local, equal, greedy, softmax, gumbel, cuts or perturbed."),
    ] = "local",
    objective: Annotated[str, typer.Option(help="interval, energy, io or latency.")] = "interval",
    split: Annotated[bool, typer.Option("--split", help="Let equal cores share layers.")] = False,
    stages: Annotated[
        str | None,
        typer.Option(metavar="CORE,CORE,..", help="With dp: a stage on each, in this order."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is random.")] = 0,
    proof_s: Annotated[
        float, typer.Option(min=0.0, help="How long to look for a proof [s].")
    ] = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Choose the core of every layer of a network on a chip; say how near that is to the best."""
    from dse.commands.assign import assign_command

    assign_command(
        network,
        chip,
        solver=solver,
        objective=objective,
        split=split,
        stages=stages,
        seed=seed,
        proof_s=proof_s,
        as_json=as_json,
    )


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check experiments, chips and cores; says the first thing wrong with each."""
    from dse.commands.inspect import validate_command

    raise typer.Exit(validate_command(files, as_json=as_json))


@app.command(name="list")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHAT]",
            help="networks, insitu, cores, chips, data, technologies or experiments.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What is shipped, by name."""
    from dse.commands.inspect import list_command

    list_command(what, as_json=as_json)


@app.command()
def schema(
    what: Annotated[str, typer.Argument(help="experiment, chip, core or case.")],
) -> None:
    """The JSON Schema of a kind of file."""
    from dse.commands.inspect import schema_command

    schema_command(what)


@app.command()
def ask(
    run: RunArgument,
    prefer: Annotated[
        list[str],
        typer.Option(metavar="COST=WEIGHT", help="io_bytes=0.3, energy=0.2, ..; repeatable."),
    ] = [],  # noqa: B006 - typer copies defaults
    budget: Annotated[
        list[str],
        typer.Option(
            metavar="COST=LIMIT",
            help="At most so many bytes, pJ, s or mm2 of io_bytes, energy, latency, area.",
        ),
    ] = [],  # noqa: B006 - typer copies defaults
    out: Annotated[Path | None, typer.Option(help="Write the design as YAML.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A design for any preference or budget, at once, from a finished surface."""
    from dse.commands.ask import ask_command

    ask_command(run, prefer, budget, out, as_json=as_json)


add_studies(app)


def main() -> None:
    """Run the command line and exit with the code that says how it ended."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _end_at_once)
    try:
        code = run_app()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    sys.exit(code)


_UsageError: Any = typer.BadParameter.__base__
"""All bad arguments, which typer does not export."""


def run_app() -> int:
    """Run the command line of `sys.argv`; print what went wrong as one line; the exit code."""
    from costs.errors import InputError

    try:
        code = app(standalone_mode=False)
    except SystemExit as error:
        code = error.code
    except _UsageError as error:
        if message := error.format_message():  # none where the help was printed instead
            _print_error(message)
        code = EXIT_BAD_INPUT
    except InputError as error:
        _print_error(str(error))
        code = EXIT_BAD_INPUT
    except Stopped as error:
        _print_error(str(error))
        code = error.exit_code
    except (RunError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        _print_error(str(error))
        code = EXIT_FAILED
    return code if isinstance(code, int) else EXIT_DONE


def _print_error(text: str) -> None:
    from dse.console import print_error

    print_error(text)


def _end_at_once(signum: int, _frame: object) -> None:
    """A signal outside of a run, which has handlers of its own: nothing needs saving."""
    os._exit(EXIT_SIGNAL_BASE + signum)
