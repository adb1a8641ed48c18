"""`dse evaluate EXPORT_DIR`: everything that an export claims, computed anew from its own files."""

from __future__ import annotations

from pathlib import Path

from dse.console import print_costs, print_error, print_json, print_line, print_table
from dse.outcomes import EXIT_DONE, EXIT_FAILED


def evaluate_export_command(folder: Path, *, as_json: bool) -> int:
    """Compare costs and correct predictions with the summary; the exit code is 1 if any differs."""
    from dse.exported import check_export

    found = check_export(folder)
    if as_json:
        print_json(found)
    else:
        columns = ("pictures", "recorded", "flax", "onnx", "stablehlo")
        rows = [
            [name, *(row.get(c, "-") for c in columns)] for name, row in found["correct"].items()
        ]
        print_table(("split", *columns), rows, title=f"{found['id']}: correct predictions")
        if found["costs"]:
            print_costs(found["costs"])
        for line in found["differences"]:
            print_error(line)
        if found["matches"]:
            print_line("all digests, costs and correct predictions are those of summary.json")
    return EXIT_DONE if found["matches"] else EXIT_FAILED
