"""The two trends of the bottleneck study, each tested with an interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dse.compare import paired_interval

Rows = Sequence[Mapping[str, Any]]
_FALLS = {"negative": "falls", "positive": "rises", "undecided": "does not tell"}
_FASTER = {
    "positive": "{shallow} falls faster than {deep}",
    "negative": "{deep} falls faster than {shallow}",
    "undecided": "whether {shallow} falls faster than {deep} is not decided",
}


def accuracies(rows: Rows, network: str) -> tuple[np.ndarray, np.ndarray]:
    """Ratios [ratios] and test accuracies [seeds, ratios] [%] of the seeds that have them all."""
    mine = [row for row in rows if row["method"] == "ratio" and row["network"] == network]
    ratios = sorted({float(row["ratio"]) for row in mine})
    table = {(row["seed"], float(row["ratio"])): 100.0 * row["test_accuracy"] for row in mine}
    seeds = sorted({seed for seed, _ in table})
    whole = [seed for seed in seeds if all((seed, ratio) in table for ratio in ratios)]
    return np.array(ratios), np.array([[table[s, r] for r in ratios] for s in whole])


def slopes(rows: Rows, network: str, *, pairs: bool = False) -> np.ndarray:
    """[seeds] points of accuracy that each doubling of the ratio changes, by least squares.

    Args:
        rows: of `dse.bottleneck_study`.
        network: which.
        pairs: leave out ratio 1, which has no pair: whatever a pair costs, however wide, is then no
            part of the slope.
    """
    ratios, found = accuracies(rows, network)
    ratios, found = (part[..., (ratios > 1) | (not pairs)] for part in (ratios, found))
    x = np.log2(ratios) - np.log2(ratios).mean()
    return found @ x / (x @ x)


def networks_of(rows: Rows) -> list[str]:
    """Networks whose ratios were trained, in their order: shallow to deep."""
    return list(dict.fromkeys(row["network"] for row in rows if row["method"] == "ratio"))


def verdict(values: np.ndarray) -> str:
    """Which sign the mean of these has, if its 95 % interval tells."""
    low, high = paired_interval(values)
    if len(values) > 1 and low > 0:
        return "positive"
    return "negative" if len(values) > 1 and high < 0 else "undecided"


def summarise(rows: Rows) -> list[dict[str, Any]]:
    """A row for each network: accuracies [%] and the slope with its interval [points/doubling]."""
    found = []
    for network in networks_of(rows):
        ratios, values = accuracies(rows, network)
        low, high = paired_interval(slopes(rows, network))
        means = {f"ratio_{r:g}": m for r, m in zip(ratios, values.mean(axis=0), strict=True)}
        line = {"network": network, **means, "slope": float(slopes(rows, network).mean())}
        found.append(line | {"slope_low": low, "slope_high": high, "seeds": len(values)})
    return found


def trends(rows: Rows) -> list[str]:
    """The two published trends in plain words, whatever they turn out to be."""
    networks = networks_of(rows)
    said = []
    for pairs in (False, True):
        within = ", among ratios above 1" if pairs else ""
        given = {network: slopes(rows, network, pairs=pairs) for network in networks}
        for network, values in given.items():
            outcome = _FALLS[verdict(values)]
            said.append(f"{network}: accuracy {outcome} with the ratio{within}, {_words(values)}")
        if len(networks) > 1:
            shallow, deep = networks[0], networks[-1]
            count = min(len(given[shallow]), len(given[deep]))
            values = given[deep][:count] - given[shallow][:count]
            outcome = _FASTER[verdict(values)].format(shallow=shallow, deep=deep)
            said.append(f"{outcome}{within}: slopes differ by {_words(values)}")
    return said


def _words(values: np.ndarray) -> str:
    low, high = paired_interval(values)
    return (
        f"{values.mean():+.2f} points per doubling, 95 % interval [{low:+.2f}, {high:+.2f}], "
        f"{len(values)} seeds"
    )
