"""`dse cores`: which few core types serve many networks."""

from __future__ import annotations

import json
from pathlib import Path

from dse.console import print_json, print_line, print_table

SWEEP_FILE, CHOICES_FILE, FIGURE_FILE = "sweep.csv", "choices.csv", "core_types.png"


def cores_command(source: Path, out: Path | None, *, as_json: bool) -> None:
    """Sweep and choose, or redraw the figure of a directory that an earlier sweep wrote."""
    from costs.errors import InputError
    from dse.core_types import read_choices

    if source.is_dir():
        folder, rows = source, read_choices(source / CHOICES_FILE)
    else:
        if out is None:
            raise InputError("missing", key="--out", allowed="the directory to make")
        folder, rows = out, _sweep(source, out)
    from dse.core_types import summarise
    from dse.figures.core_types import draw_core_types
    from dse.figures.style import save

    save(draw_core_types(rows), folder / FIGURE_FILE)
    summary = summarise(rows)
    if as_json:
        print_json({"choices": [vars(row) | {"saved": row.saved} for row in rows], "of": summary})
        return
    best = {(row.goal, row.network): row.best_core for row in rows}
    print_table(("goal", "network", "its best core"), [(*key, core) for key, core in best.items()])
    cells = [
        [f"{v:.1%}" if isinstance(v, float) else v for v in entry.values()] for entry in summary
    ]
    print_table(list(summary[0]), cells, title="core types chosen for all networks together")
    print_line(f"{folder / SWEEP_FILE}, {folder / CHOICES_FILE}, {folder / FIGURE_FILE}")


def _sweep(source: Path, out: Path) -> list:
    from costs import strict_yaml
    from costs.tables import default_cache_dir
    from dse import core_types
    from dse.commands.evaluate import read_workload
    from dse.environment import read_environment

    spec = core_types.load_sweep(source)
    out.mkdir(parents=True, exist_ok=True)
    sweep = core_types.run_sweep(
        spec, lambda name: read_workload(name, 1), print_line, default_cache_dir()
    )
    rows = core_types.list_choices(sweep, spec.types)
    core_types.write_sweep(out / SWEEP_FILE, sweep)
    core_types.write_choices(out / CHOICES_FILE, rows)
    (out / "config.yaml").write_text(strict_yaml.dumps(spec.model_dump(mode="json")))
    (out / "environment.json").write_text(json.dumps(read_environment(), indent=1) + "\n")
    return rows
