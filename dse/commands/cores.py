"""`dse cores`: which few core types serve many networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dse.console import print_json, print_line, print_table

if TYPE_CHECKING:
    from dse.core_sweep import Sweep, SweepSpec

SWEEP_FILE, CHOICES_FILE, FIGURE_FILE = "sweep.csv", "choices.csv", "core_types.png"


def cores_command(source: Path, out: Path | None, *, as_json: bool) -> None:
    """Sweep and choose, or redraw the figure of a directory that an earlier sweep wrote."""
    from costs.errors import InputError
    from dse.core_sweep import load_sweep, read_sweep
    from dse.core_types import compare_single, list_choices, summarise, write_choices

    if source.is_dir():
        folder, spec = source, load_sweep(source / "config.yaml")
        sweep = read_sweep(source / SWEEP_FILE)
    else:
        if out is None:
            raise InputError("missing", key="--out", allowed="the directory to make")
        folder, spec = out, load_sweep(source)
        sweep = _sweep(spec, out)
    rows = list_choices(sweep, spec.types)
    write_choices(folder / CHOICES_FILE, rows)
    from dse.figures.core_types import draw_core_types
    from dse.figures.style import save

    save(draw_core_types(rows), folder / FIGURE_FILE)
    summary, instead = summarise(rows), compare_single(sweep)
    if as_json:
        print_json(
            {
                "choices": [vars(row) | {"saved": row.saved} for row in rows],
                "of": summary,
                "instead": instead,
            }
        )
        return
    best = {(row.goal, row.network): row.best_core for row in rows}
    print_table(("goal", "network", "its best core"), [(*key, core) for key, core in best.items()])
    cells = [
        [f"{v:.1%}" if isinstance(v, float) else v for v in entry.values()] for entry in summary
    ]
    print_table(list(summary[0]), cells, title="core types chosen for all networks together")
    cells = [[f"{v:.1%}" if isinstance(v, float) else v for v in row.values()] for row in instead]
    print_table(list(instead[0]), cells, title="saved by each network's own best core")
    print_line(f"{folder / SWEEP_FILE}, {folder / CHOICES_FILE}, {folder / FIGURE_FILE}")


def _sweep(spec: SweepSpec, out: Path) -> Sweep:
    from costs import strict_yaml
    from costs.tables import default_cache_dir
    from dse.commands.evaluate import read_workload
    from dse.core_sweep import run_sweep, write_sweep
    from dse.environment import read_environment

    out.mkdir(parents=True, exist_ok=True)
    sweep = run_sweep(spec, lambda name: read_workload(name, 1), print_line, default_cache_dir())
    write_sweep(out / SWEEP_FILE, sweep)
    (out / "config.yaml").write_text(strict_yaml.dumps(spec.model_dump(mode="json")))
    (out / "environment.json").write_text(json.dumps(read_environment(), indent=1) + "\n")
    return sweep
