"""Which marked tensors are never negative, as far as their computation shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend import core

from models.primitives import MOVEMENT
from models.trace import Program

_KEEP = MOVEMENT | {
    "add",
    "clamp",
    "concatenate",
    "custom_jvp_call",
    "custom_vjp_call",
    "div",
    "integer_pow",
    "jit",
    "min",
    "mul",
    "name",
    "pad",
    "pjit",
    "reduce_max",
    "reduce_min",
    "reduce_sum",
    "reduce_window",
    "reduce_window_max",
    "reduce_window_sum",
    "select_n",
    "slice",
    "sqrt",
}
"""Gives something not negative of operands that are not (bounds of windows and pads apart)."""

_ALWAYS = frozenset(("abs", "exp", "exp2", "logistic", "square"))


def never_negative(program: Program) -> set[str]:
    """Names of the marks whose tensors cannot be negative; variables may be anything."""
    positive: set[Any] = set()
    marks: set[str] = set()
    for instruction in program.instructions:
        known = [slot in positive if isinstance(slot, int) else None for slot in instruction.inputs]
        if _result(instruction.equation, known):
            positive.update(instruction.outputs)
            if instruction.mark is not None:
                marks.add(instruction.mark)
    return marks


def _result(equation: Any, known: list[bool | None]) -> bool:
    """Whether an equation's results are never negative; `known` says it of operands in slots."""
    name = equation.primitive.name
    signs = [
        bool(np.all(np.asarray(atom.val) >= 0)) if isinstance(atom, core.Literal) else bool(sign)
        for atom, sign in zip(equation.invars, known, strict=True)
    ]
    if name in _ALWAYS or (name == "integer_pow" and equation.params["y"] % 2 == 0):
        return True
    if name == "max":
        return any(signs)
    if name in ("reduce_window_max", "reduce_window", "reduce_max", "pad"):
        return signs[0]
    if name in ("clamp",):
        return signs[0] or signs[1]
    inner = equation.params.get("call_jaxpr") or equation.params.get("jaxpr")
    if inner is not None:
        return _call(inner, signs)
    return name in _KEEP and all(signs)


def _call(inner: Any, signs: list[bool]) -> bool:
    """Whether all results of a called jaxpr are never negative."""
    jaxpr = getattr(inner, "jaxpr", inner)
    positive = {var for var, sign in zip(jaxpr.invars, signs, strict=True) if sign}
    for equation in jaxpr.eqns:
        known = [None if isinstance(a, core.Literal) else a in positive for a in equation.invars]
        if _result(equation, known):
            positive.update(equation.outvars)
    return all(not isinstance(var, core.Literal) and var in positive for var in jaxpr.outvars)
