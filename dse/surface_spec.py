"""What an experiment's YAML file may say of `method: surface`."""

from __future__ import annotations

from typing import Annotated, Literal

import annotated_types

from dse.spec_section import Count, Fraction, Positive, Section, Temperatures


class Weights(Section):
    """Phase (a) of the surface: weights that serve every width."""

    steps: Count = 1500
    """Training steps, one integer design each."""
    whole_fraction: Fraction = 0.0
    """Share of the steps, the first ones, that train the whole network on one core."""
    tied_fraction: Fraction = 0.5
    """Share of the further steps whose widths are one common power of each boundary's largest."""
    minimum_fraction: Fraction = 0.15
    """Share of the steps overwritten by all widths at their minimum."""
    cheap_fraction: Fraction = 0.0
    """Share of the steps whose crossings are those of partitions that are cheap on the chip."""


class Predictor(Section):
    """Phase (b): accuracy from widths, fitted on designs measured on validation pictures."""

    designs: Annotated[int, annotated_types.Interval(ge=16, le=10**6)] = 256
    """Designs measured."""
    pictures: Count | None = None
    """Validation pictures on which each is measured, and at most as many calibrate its norms; none:
    all."""
    held_out: Annotated[float, annotated_types.Interval(ge=0.05, le=0.5)] = 0.2
    """Share of them kept for the rank correlation."""


class Policy(Section):
    """Phase (c): preference to design."""

    steps: Count = 1500
    """Training steps."""
    batch: Count = 16
    """Preferences per step."""
    terms: list[Literal["io_bytes", "energy", "latency", "area"]] = ["io_bytes", "energy"]
    """Costs that preferences weigh, beside the task loss."""
    learning_rate: Positive = 3e-3
    """Peak learning rate."""
    hidden: Count = 64
    """Units of each hidden layer."""
    temperature: Temperatures = [1.0, 0.2]
    """Temperature of the softmax over cores at the first and the last step."""


class Selection(Section):
    """Phase (d), first half: candidates, local search, exact assignment, choice on validation."""

    candidates: Count = 64
    """Preferences for which the policy proposes a design."""
    measured: Count | None = None
    """Candidates measured on validation pictures, those that are predicted best; none: all."""
    designs: Annotated[int, annotated_types.Interval(ge=1, le=1000)] = 16
    """Designs of the front."""
    rule: Literal["spread", "hypervolume"] = "spread"
    """What is chosen: `spread`, a broad front; `hypervolume`, what dominates the most, designs of
    one common width standing beside those of the policy."""


class Finetune(Section):
    """Phase (d), second half: a short training of each chosen design."""

    together: Annotated[int, annotated_types.Interval(ge=0, le=10**9)] = 0
    """Steps before, in which all chosen designs go on sharing their weights, in turn."""
    steps: Annotated[int, annotated_types.Interval(ge=0, le=10**9)] = 60
    """Steps per design; 0: none."""
    learning_rate: Positive = 1e-3
    """Peak learning rate."""


class Surface(Section):
    """`method: surface`: all preferences in one run."""

    weights: Weights = Weights()
    """Phase (a)."""
    predictor: Predictor = Predictor()
    """Phase (b)."""
    policy: Policy = Policy()
    """Phase (c)."""
    selection: Selection = Selection()
    """Phase (d), first half."""
    finetune: Finetune = Finetune()
    """Phase (d), second half."""
