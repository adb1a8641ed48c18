"""An experiment as phases, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.context import make_context
from dse.experiment_spec import Experiment
from dse.finetune import FinetunePhase
from dse.front import FrontPhase
from dse.joint import JointPhase
from dse.policy import PolicyPhase
from dse.predictor import PredictorPhase
from dse.report import write_report
from dse.rundir import RunDir
from dse.runner import Phase
from dse.selection import SelectionPhase
from dse.tables import TablesPhase
from dse.weights import WeightsPhase


class ReportPhase:
    """Draws the figures and writes the report from the files of the run."""

    name = "report"
    steps = 1

    def __init__(self, rundir: RunDir) -> None:
        """Bind the run directory."""
        self.rundir = rundir

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], None]:
        """Write it; the same files give the same report."""
        self.rundir.flush_metrics()
        write_report(self.rundir.path)
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
    context = make_context(config)
    if config.method == "joint":
        search = [JointPhase(context)]
    else:
        search = [
            WeightsPhase(context),
            PredictorPhase(context),
            PolicyPhase(context),
            SelectionPhase(context),
            FinetunePhase(context),
        ]
    return [
        TablesPhase(context),
        *search,
        FrontPhase(context, rundir.path),
        ReportPhase(rundir),
    ]
