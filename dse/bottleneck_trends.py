"""The two trends of the bottleneck study, each tested with an interval over seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dse.compare import paired_interval

Rows = Sequence[Mapping[str, Any]]
_FALLS = {
    "negative": "accuracy falls with the ratio",
    "positive": "accuracy rises with the ratio",
    "undecided": "whether accuracy falls with the ratio is not decided",
}
_FASTER = {
    "positive": "{shallow} falls faster than {deep}",
    "negative": "{deep} falls faster than {shallow}",
    "undecided": "whether {shallow} falls faster than {deep} is not decided",
}


def accuracies(rows: Rows, network: str) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Ratios [ratios] of the study, and test accuracies [%] of each seed that has them all."""
    cells = [row for row in rows if row["method"] == "ratio"]
    ratios = sorted({float(row["ratio"]) for row in cells})
    table = {
        (row["seed"], float(row["ratio"])): 100.0 * row["test_accuracy"]
        for row in cells
        if row["network"] == network
    }
    seeds = sorted({seed for seed, _ in table})
    whole = [seed for seed in seeds if all((seed, ratio) in table for ratio in ratios)]
    return np.array(ratios), {s: np.array([table[s, r] for r in ratios]) for s in whole}


def slopes(rows: Rows, network: str, *, pairs: bool = False) -> dict[int, float]:
    """Points of accuracy that each doubling of the ratio changes, by least squares, for each seed.

    Args:
        rows: of `dse.bottleneck_study`.
        network: which.
        pairs: leave out ratio 1, which has no pair: whatever a pair costs, however wide, is then no
            part of the slope.
    """
    ratios, found = accuracies(rows, network)
    taken = (ratios > 1) | (not pairs)
    x = np.log2(ratios[taken]) - np.log2(ratios[taken]).mean()
    return {seed: float(values[taken] @ x / (x @ x)) for seed, values in found.items()}


def networks_of(rows: Rows) -> list[str]:
    """Networks with a seed whose ratios were all trained, in their order: shallow to deep."""
    found = dict.fromkeys(row["network"] for row in rows if row["method"] == "ratio")
    return [network for network in found if accuracies(rows, network)[1]]


def verdict(values: np.ndarray) -> str:
    """Which sign the mean of these has, if its 95 % interval tells."""
    if len(values) < 2:
        return "undecided"
    low, high = paired_interval(values)
    return "positive" if low > 0 else "negative" if high < 0 else "undecided"


def summarise(rows: Rows) -> list[dict[str, Any]]:
    """A row for each network: accuracies [%] and the slope with its interval [points/doubling]."""
    found = []
    for network in networks_of(rows):
        ratios, by_seed = accuracies(rows, network)
        values, slope = np.array([*by_seed.values()]), np.array([*slopes(rows, network).values()])
        low, high = paired_interval(slope)
        means = {f"ratio_{r:g}": m for r, m in zip(ratios, values.mean(axis=0), strict=True)}
        line = {"network": network, **means, "slope": float(slope.mean())}
        found.append(line | {"slope_low": low, "slope_high": high, "seeds": len(values)})
    return found


def trends(rows: Rows) -> list[str]:
    """The two published trends in plain words, whatever they turn out to be."""
    networks = networks_of(rows)
    said = []
    for pairs in (False, True):
        within = ", among ratios above 1" if pairs else ""
        given = {network: slopes(rows, network, pairs=pairs) for network in networks}
        for network, slope in given.items():
            values = np.array([*slope.values()])
            outcome = _FALLS[verdict(values)]
            said.append(f"{network}: {outcome}{within}, {_words(values)}")
        for shallow, deep in itertools.combinations(networks, 2):
            common = [seed for seed in given[shallow] if seed in given[deep]]
            values = np.array([given[deep][seed] - given[shallow][seed] for seed in common])
            outcome = _FASTER[verdict(values)].format(shallow=shallow, deep=deep)
            said.append(f"{outcome}{within}: slopes differ by {_words(values)}")
    return said


def _words(values: np.ndarray) -> str:
    if not len(values):
        return "no seed in common"
    if len(values) == 1:
        return f"{values[0]:+.2f} points per doubling, one seed"
    low, high = paired_interval(values)
    return (
        f"{values.mean():+.2f} points per doubling, 95 % interval [{low:+.2f}, {high:+.2f}], "
        f"{len(values)} seeds"
    )
