"""What all sections of an experiment share: how they are read, and the numbers that they take."""

from __future__ import annotations

from typing import Annotated

import annotated_types
from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, annotated_types.Interval(ge=1, le=10**9)]
Positive = Annotated[float, annotated_types.Interval(gt=0.0, le=1e30)]
Fraction = Annotated[float, annotated_types.Interval(ge=0.0, le=1.0)]
Temperatures = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Scalar = bool | int | float | str
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
