"""An experiment as phases, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dse.comparison_report import write_comparison_report
from dse.context import make_context
from dse.experiment_spec import Experiment
from dse.finetune import FinetunePhase
from dse.front import FrontPhase
from dse.insitu import DistillationPhase, ProjectionPhase, make_insitu_context
from dse.insitu_compare import ComparePhase
from dse.joint import JointPhase
from dse.policy import PolicyPhase
from dse.predictor import PredictorPhase
from dse.report import write_report
from dse.requests import RequestsPhase
from dse.rundir import RunDir
from dse.runner import Phase
from dse.selection import SelectionPhase
from dse.shared_hardware import SharedHardwarePhase
from dse.skipping import SkippingPhase, make_skipping_context
from dse.skipping_measure import MeasurePhase
from dse.tables import TablesPhase
from dse.teacher import TeacherPhase
from dse.train import TestPhase, TrainPhase, make_train_context
from dse.train_report import write_train_report
from dse.weights import WeightsPhase


class ReportPhase:
    """Draws the figures and writes the report from the files of the run."""

    name = "report"
    steps = 1

    def __init__(self, rundir: RunDir, write: Callable[[Path], object] = write_report) -> None:
        """Bind the run directory and what writes its report."""
        self.rundir = rundir
        self.write = write

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], None]:
        """Write it; the same files give the same report."""
        self.rundir.flush_metrics()
        self.write(self.rundir.path)
        return state, None

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Nothing."""
        return {}


def phases(config: Experiment, rundir: RunDir) -> Sequence[Phase]:
    """The phases of an experiment.

    Args:
        config: the experiment.
        rundir: where front, designs and report go.

    Raises:
        InputError: naming the key that does not fit.
    """
    if config.method == "train":
        plain = make_train_context(config)
        return [
            TrainPhase(plain, rundir.path),
            TestPhase(plain, rundir.path),
            ReportPhase(rundir, write_train_report),
        ]
    if config.method == "insitu":
        insitu = make_insitu_context(config)
        return [
            TeacherPhase(config, insitu.data, insitu.dense, config.insitu.teacher_steps),
            ProjectionPhase(insitu),
            DistillationPhase(insitu),
            ComparePhase(insitu, rundir.path),
            ReportPhase(rundir, write_comparison_report),
        ]
    if config.method == "skipping":
        skipping = make_skipping_context(config)
        return [
            TeacherPhase(config, skipping.data, skipping.dense, config.skipping.base_steps),
            SkippingPhase(skipping),
            MeasurePhase(skipping, rundir.path),
            ReportPhase(rundir, write_comparison_report),
        ]
    context = make_context(config)
    if config.method == "joint":
        search = [JointPhase(context)]
    else:
        shared = config.hardware.mode == "shared"
        search = [
            WeightsPhase(context),
            PredictorPhase(context),
            PolicyPhase(context),
            *([SharedHardwarePhase(context)] if shared else []),
            SelectionPhase(context),
            *([RequestsPhase(context)] if config.requests else []),
            FinetunePhase(context),
        ]
    return [
        TablesPhase(context),
        *search,
        FrontPhase(context, rundir.path),
        ReportPhase(rundir),
    ]
