"""What the YAML file of an experiment may say.

Each section is one frozen model; a new field needs a type, a default, bounds and one line of
documentation here and nothing anywhere else. Names of networks, chips, data sets and relaxations
are checked by whoever owns them (`models`, `costs`, `dse.data`) when the experiment is built.
Reading files and wording errors is `dse.config`'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

import annotated_types
from pydantic import Field, model_validator

from dse.spec_section import Count, Fraction, Name, Positive, Scalar, Section, Temperatures
from dse.surface_spec import Surface


class Data(Section):
    """Which pictures."""

    name: str = "digits"
    """Data set by name."""


class Network(Section):
    """Which network, and where its bottlenecks stand."""

    name: str
    """A shipped network, or a class of yours as my_file.py:MyNet."""
    options: dict[str, Scalar | list[Scalar]] = {}
    """Further arguments of its constructor; residual networks have none."""
    width_multiplier: Annotated[float, annotated_types.Interval(ge=0.01, le=100.0)] = 1.0
    """Factor on the channels of all layers."""
    bottlenecks: list[str] | Literal["all"] = "all"
    """Boundaries that may be narrowed, by name."""
    largest_width: Count | dict[str, Count] | None = None
    """Largest width of a bottleneck [channels], one or by boundary; none: any. Crossing
    uncompressed is always possible beside."""
    ratio: Annotated[float, annotated_types.Interval(ge=1.0, le=1e6)] | None = None
    """Fixed ratio r: every bottleneck has ceil(C / r) of its C channels, 1 meaning no pair; none:
    widths are chosen."""
    bits: Annotated[int, annotated_types.Interval(ge=2, le=16)] = 8
    """Bits of an activation that crosses between cores."""

    @model_validator(mode="after")
    def _name_boundaries_once(self) -> Network:
        names = self.bottlenecks if isinstance(self.bottlenecks, list) else []
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the bottleneck {name} is named twice")
        return self

    @model_validator(mode="after")
    def _fix_or_bound_widths(self) -> Network:
        if self.ratio is not None and self.largest_width is not None:
            raise ValueError("ratio fixes every width: leave largest_width out")
        return self


class Hardware(Section):
    """What of the chip may change."""

    mode: Literal["per_design", "shared", "fixed"] = "per_design"
    """`per_design`: arrays, buffers and link widths chosen with each design; `shared`: one chip
    chosen for all preferences together; `fixed`: the chip as described."""
    area_budget_mm2: Positive | None = None
    """Largest area of a design [mm2]."""


class Training(Section):
    """How the network's weights are trained, in every method."""

    batch: Count = 128
    """Pictures per step."""
    learning_rate: Positive = 3e-3
    """Peak learning rate."""
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    """Learning rate rising to its peak and falling to 1 % of it along a cosine, or constant."""
    rise: Fraction = 0.1
    """Share of the steps in which a one-cycle learning rate rises."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or stochastic gradient descent with Nesterov momentum 0.9."""
    weight_decay: Annotated[float, annotated_types.Interval(ge=0.0, le=10.0)] = 1e-4
    """Weight decay: decoupled with AdamW, added to the gradient with SGD."""
    label_smoothing: Annotated[float, annotated_types.Interval(ge=0.0, le=0.5)] = 0.05
    """Probability mass spread over all classes."""
    shift: Annotated[int, annotated_types.Interval(ge=0, le=64)] = 1
    """Pictures are moved by up to so many pixels, zeros moving in; 4: the crop usual for CIFAR."""
    flip: bool = False
    """Whether pictures are mirrored left to right, one in two."""
    cutout: Annotated[int, annotated_types.Interval(ge=0, le=64)] = 0
    """Side of the square that is set to zero in each picture [pixels]; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in while training; bfloat16 is for accelerators."""
    calibration_pictures: Count = 256
    """Training pictures on which norms take their statistics for one design."""


class Objective(Section):
    """How task loss and costs become one number."""

    task_scale: Positive = 10.0
    """Units of log cost that one nat of cross-entropy weighs."""
    scalarisation: Literal["linear", "tchebycheff"] = "linear"
    """Weighted sum, or smooth maximum of the weighted terms."""
    smoothness: Positive = 0.1
    """Temperature of the smooth maximum."""


class Preference(Section):
    """Weights of the log costs; the task loss has what is left to one."""

    io_bytes: Fraction = 0.0
    """Weight of the traffic."""
    energy: Fraction = 0.0
    """Weight of the energy."""
    latency: Fraction = 0.0
    """Weight of the latency."""
    area: Fraction = 0.0
    """Weight of the area."""

    @model_validator(mode="after")
    def _leave_room_for_the_task(self) -> Preference:
        if self.io_bytes + self.energy + self.latency + self.area >= 1.0:
            raise ValueError("the weights must sum to less than 1: the task loss has the rest")
        return self


class Budget(Section):
    """Hard limits of one design."""

    io_bytes: Positive | None = None
    """Bytes over links and DRAM per inference."""
    energy: Positive | None = None
    """Energy per inference [pJ]."""
    latency: Positive | None = None
    """Latency of one input [s]."""
    area: Positive | None = None
    """Area [mm2]."""


class Request(Section):
    """A design asked for by name: by what it weighs, by what it may not exceed, or by both."""

    preference: Preference = Preference()
    """What the costs weigh; the task loss has the rest."""
    budget: Budget = Budget()
    """What the costs may not exceed."""

    @model_validator(mode="after")
    def _ask_for_something(self) -> Request:
        if not any(self.preference.model_dump().values()) and not any(
            self.budget.model_dump().values()
        ):
            raise ValueError("give a preference or a budget")
        return self


class Assignment(Section):
    """How the core of every layer is chosen by gradient, with `method: joint`."""

    relaxation: Literal["softmax", "gumbel", "cuts", "perturbed"] = "softmax"
    """Each layer by itself, the same straight-through, monotone cuts, or a perturbed exact solver;
    the last two keep stages contiguous."""


class Joint(Section):
    """`method: joint`: weights, widths, assignment and hardware by one backward pass."""

    preference: Preference = Preference(io_bytes=0.2, energy=0.2)
    """What the costs weigh."""
    budget: Budget = Budget()
    """What the costs may not exceed."""
    steps: Count = 1500
    """Training steps."""
    design_learning_rate: Positive = 3e-2
    """Learning rate of widths, assignment and hardware."""
    freeze_widths: Fraction = 0.6
    """Share of the steps after which widths are frozen."""
    freeze_assignment: Fraction = 0.8
    """Share of the steps after which the assignment is frozen."""
    temperature: Temperatures = [1.0, 0.2]
    """Temperature of the relaxed assignment at the first and the last step."""


class Train(Section):
    """`method: train`: one network without bottlenecks, and no chip."""

    epochs: Positive = 20.0
    """How often every training picture is seen."""
    chunk: Annotated[int, annotated_types.Interval(ge=1, le=10_000)] = 1
    """Training steps between two chances to stop or save; on an accelerator they are one call."""


class InSitu(Section):
    """`method: insitu`: kernels generated from bases, after a dense teacher; no chip."""

    bases: Annotated[str, Field(pattern=r"^\d+-\d+-\d+-\d+-\d+$")] = "2-44-3-6-3"
    """Bi-Bc-qb-qu-qv: bases inside and across kernels, bits of B, U and V."""
    teacher_steps: Count = 1500
    """Training steps of the dense teacher, under `training`."""
    projection: Literal["l2", "svd"] = "l2"
    """Truncated singular values alone, or then gradient steps on the squared distance."""
    projection_steps: Count = 3000
    """Steps of the L2 projection."""
    projection_learning_rate: Positive = 2e-2
    """Its peak learning rate."""
    steps: Count = 3000
    """Steps of the quantisation-aware distillation."""
    learning_rate: Positive = 2e-3
    """Its peak learning rate."""
    weight_decay: Annotated[float, annotated_types.Interval(ge=0.0, le=10.0)] = 5e-4
    """Its decoupled weight decay."""
    soft_share: Fraction = 0.9
    """Weight of the teacher's predictions in the loss; the labels have the rest."""
    temperature: Positive = 3.0
    """Temperature of the teacher's and the student's predictions."""
    orthogonality: Annotated[float, annotated_types.Interval(ge=0.0, le=1e3)] = 0.05
    """Weight of the orthogonality of the bases."""
    memory_preference: Annotated[float, annotated_types.Interval(ge=0.0, le=1e3)] = 0.0
    """Weight of the log of the stored bits; above 0 Bi and Bc are relaxed widths of each kernel."""
    width_learning_rate: Positive = 3e-2
    """Learning rate of these widths [bases]."""
    freeze_widths: Fraction = 0.6
    """Share of the steps after which they are rounded and held."""
    core: str = "tpu_like"
    """The core on which dense and generated weights are compared."""


class Skipping(Section):
    """`method: skipping`: channels and columns chosen per input by attention; no chip."""

    blocks: list[str] = []
    """Paths of modules whose convolutions skip, such as stage2.block0."""
    keep: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.9]
    """Shares of the channels and of the columns that are kept, at first or throughout."""
    learned: bool = True
    """Whether the shares of each block are learned."""
    base_steps: Count = 1500
    """Training steps before anything is skipped, under `training`."""
    steps: Count = 1500
    """Training steps with skipping."""
    learning_rate: Positive = 1e-3
    """Their peak learning rate."""
    preference: Annotated[float, annotated_types.Interval(ge=0.0, le=1e3)] = 0.3
    """Weight of the log of the MACs that are left beside the cross-entropy."""
    traffic_preference: Annotated[float, annotated_types.Interval(ge=0.0, le=1e3)] = 0.0
    """Weight of the log of the bytes that are left."""
    share_learning_rate: Positive = 1e-2
    """Learning rate of the shares."""
    freeze_shares: Fraction = 0.7
    """Share of the steps after which the shares are held."""
    dropped: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.5, 1.0]
    """Probability with which what attention leaves out is left out, at the first step and from the
    time on at which the shares are held."""


class Bottlenecks(Section):
    """`dse bottlenecks`: one ratio at all cuts between stages, for `train.epochs` each."""

    networks: Annotated[list[str], Field(min_length=1)] = ["cifar_resnet8"]
    """Residual networks, shallow to deep, in place of `network.name`."""
    ratios: Annotated[
        list[Annotated[float, annotated_types.Interval(ge=1.0, le=1e6)]], Field(min_length=2)
    ] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    """Bottleneck ratios; 1: no pair."""
    seeds: Annotated[int, annotated_types.Interval(ge=1, le=1000)] = 3
    """Paired seeds, from the experiment's own on."""
    shared: Annotated[float, annotated_types.Interval(ge=0.0, lt=1.0)] = 0.0
    """Share of the steps, the first ones, that all ratios of a network and seed have in common:
    trained without bottlenecks."""


class Checkpoint(Section):
    """When the state is saved."""

    every_s: Annotated[float, annotated_types.Interval(ge=0.0, le=1e6)] = 10.0
    """Seconds between two checkpoints of a running phase [s]."""
    keep: Annotated[int, annotated_types.Interval(ge=2, le=100)] = 3
    """Checkpoints of running phases that are kept."""


class Experiment(Section):
    """One experiment."""

    name: Name
    """What the run directory is called."""
    question: str = ""
    """What the experiment is to answer."""
    expected: str = ""
    """What is expected to come out, in how long, on which device."""
    seed: Annotated[int, annotated_types.Interval(ge=0, le=2**31 - 1)] = 0
    """Everything random derives from it and the step index."""
    method: Literal["surface", "joint", "train", "insitu", "skipping"] = "surface"
    """All preferences in one run; one preference or budget; plain training of the network; in situ
    generation of its kernels; dynamic skipping."""
    data: Data = Data()
    """Which pictures."""
    network: Network
    """Which network."""
    chip: str | None = None
    """A shipped chip by name, or the path of a YAML file; only `surface` and `joint` need one."""
    hardware: Hardware = Hardware()
    """What of the chip may change."""
    mapping_objective: Literal["energy", "latency", "edp"] = "energy"
    """What the best mapping of a layer is best in."""
    training: Training = Training()
    """How weights are trained."""
    objective: Objective = Objective()
    """How task loss and costs become one number."""
    surface: Surface = Surface()
    """Options of `method: surface`."""
    requests: list[Request] = []
    """Designs that `method: surface` answers by name, beside the front; `joint` has one of its
    own."""
    assignment: Assignment = Assignment()
    """How cores are chosen by gradient; `method: surface` takes the softmax."""
    joint: Joint = Joint()
    """Options of `method: joint`."""
    train: Train = Train()
    """Options of `method: train`."""
    insitu: InSitu = InSitu()
    """Options of `method: insitu`."""
    skipping: Skipping = Skipping()
    """Options of `method: skipping`."""
    bottlenecks: Bottlenecks = Bottlenecks()
    """Options of `dse bottlenecks`."""
    log_every: Count = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint: Checkpoint = Checkpoint()
    """When the state is saved."""
