"""The configuration of an experiment: what a YAML file may say, and how `--set` changes it.

Each section is one frozen model; a new field needs a type, a default, bounds and one line of
documentation here and nothing anywhere else. Names of networks, chips, data sets and relaxations
are checked by whoever owns them (`models`, `costs`, `dse.data`) when the experiment is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from costs import strict_yaml
from costs.errors import InputError, nearest

Count = Annotated[int, annotated_types.Interval(ge=1, le=10**9)]
Positive = Annotated[float, annotated_types.Interval(gt=0.0, le=1e30)]
Fraction = Annotated[float, annotated_types.Interval(ge=0.0, le=1.0)]
Temperatures = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Scalar = bool | int | float | str
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]

MAY_CHANGE_ON_RESUME = ("log_every", "checkpoint", "question", "expected")
"""Keys (with all below them) that say when something is logged or saved, never what is computed."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Data(Section):
    """Which pictures."""

    name: str = "digits"
    """Data set by name."""
    folder: str | None = None
    """Where it stands, for data sets that do not come with a package."""


class Network(Section):
    """Which network, and where its bottlenecks stand."""

    name: str
    """A shipped network."""
    options: dict[str, Scalar | list[Scalar]] = {}
    """What the network's own description takes, such as `channels` or `blocks`."""
    bottlenecks: list[str] | Literal["all"] = "all"
    """Boundaries that may be narrowed, by name."""
    largest_width: Count | None = None
    """Largest width [channels]; none: each boundary's own channels."""
    bits: Annotated[int, annotated_types.Interval(ge=2, le=16)] = 8
    """Bits of an activation that crosses between cores."""
    relaxation: str = "stochastic"
    """Relaxation of the widths."""


class Hardware(Section):
    """What of the chip may change."""

    mode: Literal["per_design", "fixed"] = "per_design"
    """`per_design`: arrays and buffers are chosen with each design; `fixed`: the chip as described."""
    area_budget_mm2: Positive | None = None
    """Largest area of a design [mm2]."""


class Training(Section):
    """How the network's weights are trained, in every method."""

    batch: Count = 128
    """Pictures per step."""
    learning_rate: Positive = 3e-3
    """Peak learning rate of the one-cycle schedule."""
    weight_decay: Annotated[float, annotated_types.Interval(ge=0.0, le=10.0)] = 1e-4
    """Decoupled weight decay."""
    label_smoothing: Annotated[float, annotated_types.Interval(ge=0.0, le=0.5)] = 0.05
    """Probability mass spread over all classes."""
    shift: Annotated[int, annotated_types.Interval(ge=0, le=64)] = 1
    """Pictures are moved by up to so many pixels."""
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


class Weights(Section):
    """Phase (a) of the surface: weights that serve every width."""

    steps: Count = 1500
    """Training steps, one integer design each."""
    tied_fraction: Fraction = 0.5
    """Share of the steps whose widths are one common power of each boundary's largest."""
    minimum_fraction: Fraction = 0.15
    """Share of the steps overwritten by all widths at their minimum."""


class Predictor(Section):
    """Phase (b): accuracy from widths, fitted on designs measured on validation pictures."""

    designs: Annotated[int, annotated_types.Interval(ge=16, le=10**6)] = 256
    """Designs measured."""
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
    temperature: Temperatures = [1.0, 0.2]  # noqa: RUF012 - pydantic copies defaults
    """Temperature of the softmax over cores at the first and the last step."""


class Selection(Section):
    """Phase (d), first half: candidates, local search, exact assignment, choice on validation."""

    candidates: Count = 64
    """Preferences for which the policy proposes a design."""
    designs: Annotated[int, annotated_types.Interval(ge=1, le=1000)] = 16
    """Designs of the front."""


class Finetune(Section):
    """Phase (d), second half: a short training of each chosen design."""

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
    temperature: Temperatures = [1.0, 0.2]  # noqa: RUF012 - pydantic copies defaults
    """Temperature of the softmax over cores at the first and the last step."""


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
    method: Literal["surface", "joint"] = "surface"
    """All preferences in one run, or one preference or budget."""
    data: Data = Data()
    """Which pictures."""
    network: Network
    """Which network."""
    chip: str
    """A shipped chip by name, or the path of a YAML file."""
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
    joint: Joint = Joint()
    """Options of `method: joint`."""
    log_every: Count = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint: Checkpoint = Checkpoint()
    """When the state is saved."""


def load_config(path: str | Path, overrides: list[str] | None = None) -> Experiment:
    """Read an experiment from a YAML file.

    Args:
        path: The file.
        overrides: `a.b=c` each, the value written as in YAML; applied in order.

    Raises:
        InputError: Naming file (or `--set`), dotted key, value and what is allowed.
    """
    document = strict_yaml.load(path)
    if not isinstance(document, dict):
        raise InputError("an experiment is a mapping of keys to values", file=path, value=document)
    set_keys = [_apply(document, override) for override in overrides or ()]
    return parse_config(document, file=path, set_keys=set_keys)


def parse_config(
    document: dict[str, Any], *, file: object = None, set_keys: list[str] | None = None
) -> Experiment:
    """Check a document and fill in the defaults.

    Args:
        document: As a YAML file says it; whole numbers are accepted where reals are expected.
        file: What errors name as its origin.
        set_keys: Dotted keys that came from `--set`: errors name that as their origin.
    """
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise _first_problem(error, document, file, set_keys or []) from None


def resolved(config: Experiment) -> dict[str, Any]:
    """The configuration with every default filled in, as plain data."""
    return config.model_dump(mode="json")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What changed between two resolved configurations, one `key: old -> new` each."""
    found = []
    for key in dict.fromkeys((*old, *new)):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            found += differences(was, now, f"{prefix}{key}.")
        elif was != now or type(was) is not type(now):
            found.append(f"{prefix}{key}: {was!r} -> {now!r}")
    return found


def forbidden_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The differences that would make a resumed run another run."""
    return [
        change
        for change in differences(old, new)
        if change.partition(":")[0].partition(".")[0] not in MAY_CHANGE_ON_RESUME
    ]


def _apply(document: dict[str, Any], override: str) -> str:
    """Set one dotted key of a document; returns the key."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise InputError("not of the form", file="--set", value=override, allowed="a.b=value")
    node = document
    for part in path[:-1]:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise InputError("has no keys below it", file="--set", key=part, value=override)
    node[path[-1]] = strict_yaml.loads(text, file="--set")
    return ".".join(path)


def _first_problem(
    error: ValidationError, document: Any, file: object, set_keys: list[str]
) -> InputError:
    """The first thing pydantic found wrong, as this project words errors."""
    problem = error.errors(include_url=False)[0]
    kind, value = problem["type"], problem["input"]
    location = _in_document(problem["loc"], document)
    key = ".".join(location) or None
    origin = "--set" if key and any(key.startswith(name) for name in set_keys) else file
    if kind == "missing":
        return InputError("is required", file=origin, key=key)
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = nearest(location[-1], known)
        hint = f"unknown key; did you mean {close}?" if close else "unknown key"
        return InputError(hint, file=origin, key=key, value=value, allowed=sorted(known))
    if kind == "literal_error":
        allowed = problem.get("ctx", {}).get("expected", "")
        close = nearest(str(value), re.findall(r"'([^']*)'", allowed))
        hint = f"unknown value; did you mean {close}?" if close else "unknown value"
        return InputError(hint, file=origin, key=key, value=value, allowed=allowed)
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "model_type":
        message = "must be a mapping of keys to values"
    message = message[:1].lower() + message[1:]
    return InputError(message, file=origin, key=key, value=value, allowed=_interval(location))


def _in_document(location: tuple[int | str, ...], document: Any) -> list[str]:
    """A location without the tags that pydantic adds for the members of a union."""
    kept: list[str] = []
    for number, part in enumerate(location):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and isinstance(part, int) and part < len(document):
            document = document[part]
        elif not isinstance(document, dict) or number + 1 < len(location):
            continue  # a tag; a missing key is the last part of a location, in a mapping
        kept.append(str(part))
    return kept


def _field(location: list[str]) -> FieldInfo | None:
    """The field at a dotted location, or None where the location leaves the sections."""
    section: Any = Experiment
    field = None
    for part in location:
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
        field = section.model_fields.get(part)
        section = None if field is None else field.annotation
    return field


def _known_keys(location: list[str]) -> list[str]:
    """The keys of the section at a dotted location."""
    field = _field(location)
    section = field.annotation if field is not None else None if location else Experiment
    if isinstance(section, type) and issubclass(section, BaseModel):
        return list(section.model_fields)
    return []


def _interval(location: list[str]) -> str | None:
    """The bounds of a number, in words."""
    field = _field(location)
    bounds = () if field is None else field.metadata
    for bound in bounds:
        if isinstance(bound, annotated_types.Interval):
            low = f"above {bound.gt:.10g}" if bound.gt is not None else f"from {bound.ge:.10g}"
            return f"{low} to {bound.le:.10g}"
    return None
