"""Looks at what a number format does: numbers that are not finite, and what rounding takes away."""

import math
from collections.abc import Iterator

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.findings.wording import about
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent

_LOW = "bfloat16", "float16"


def not_finite(audit: Measurements) -> Iterator[Observation]:
    """A loss scaler skips a step whose gradients are infinite, and tries a smaller scale: no fault."""
    rows = [row for row in audit.rows if row.has_size and not math.isfinite(row.rms)]
    if rows:
        text = f"{rows[0].parameter} contains NaN or infinity: training cannot continue from here."
        yield about(rows, Severity.FAULT, 1e9, text, "Go back to the last good checkpoint, with a smaller lr.")
    rows = [row for row in audit.rows if math.isinf(row.gradient_rms) or _is_nan_gradient(row)]
    if not rows:
        return
    text = f"{rows[0].parameter} has a gradient with NaN or infinity: "
    if audit.loss_scale > 1:
        text += "the scaler will skip this step and lower its scale, as it does now and then."
        yield about(rows, Severity.REMARK, len(rows), text)
    else:
        text += "training cannot continue from here."
        remedy = "Skip this step; look for a division by zero, a log of zero, or an overflow in float16."
        yield about(rows, Severity.FAULT, 1e9, text, remedy)


def _is_nan_gradient(row: Row) -> bool:
    return row.has_gradient and math.isnan(row.gradient_rms)


def next_step_is_infinite(audit: Measurements) -> Iterator[Observation]:
    """The step was tried, and what it leaves is not finite, though parameter and gradient are."""
    rows = [row for row in audit.trained if math.isinf(row.change)]
    if rows:
        text = f"the next step makes {rows[0].parameter} infinite or NaN"
        zero_eps = next((row for row in rows if row.eps_rounds_to_zero), None)
        if zero_eps:
            text += f": eps = {zero_eps.eps:g} is 0 in {zero_eps.dtype}, and {zero_eps.optimizer} divides by it"
        yield about(rows, Severity.FAULT, 1e8, text + ".", _widen(zero_eps or rows[0]))


def eps_rounds_to_zero(audit: Measurements) -> Iterator[Observation]:
    """Below half of its smallest number, 3e-8, float16 has 0; a gradient whose square is 0 is then divided by 0."""
    rows = [row for row in audit.trained if row.eps_rounds_to_zero and not math.isinf(row.change)]
    if rows:
        row = rows[0]
        text = (
            f"eps = {row.eps:g} of {row.parameter} is 0 in {row.dtype}: the first coordinate whose squared gradient "
            "rounds to 0 makes the next step infinite or NaN."
        )
        yield about(rows, Severity.FAULT, 1e7, text, _widen(row))


def _widen(row: Row) -> str:
    return f"Keep the parameters in float32 and compute under autocast, or set eps to 1e-4 where {row.dtype} stays."


def lost_to_rounding(audit: Measurements) -> Iterator[Observation]:
    """More than half of the coordinates stay where they are.

    A fault where they are most of all that 16 bits hold; else a warning: gains of 1 lose a step before matrices of
    0.02 do.  A remark where a schedule has lr below a tenth of its peak, or in float32, where the step is so small
    that it hardly matters.
    """
    rows = sorted((row for row in audit.trained if row.lost > 0.5), key=lambda row: -row.lost)
    for low in (True, False):
        alike = [row for row in rows if (row.dtype in _LOW) == low]
        if not alike:
            continue
        stored = sum(row.coordinates for row in audit.trained if row.dtype in _LOW)
        severity = Severity.FAULT if sum(row.coordinates for row in alike) > stored / 2 else Severity.WARNING
        if not low or all(row.schedule < 0.1 for row in alike):
            severity = Severity.REMARK
        row = max(alike, key=lambda row: row.coordinates)
        text = (
            f"{row.parameter}: {row.dtype} loses most of a step to rounding: {percent(row.lost)} of the coordinates "
            "that it is to move stay as they are."
        )
        remedy = "Keep the parameters in float32 and compute under autocast, or round stochastically."
        alike = [row, *(each for each in alike if each is not row)]
        yield about(alike, severity, len(alike), text, remedy if low else "Check that an lr this small is meant.")


def decay_lost_to_rounding(audit: Measurements) -> Iterator[Observation]:
    """w·(1 − lr·λ) rounds to w.

    A warning where decay was to matter: at lr·λ ≥ 1e-5 it takes a tenth in 10 000 steps; else a remark, and nothing
    while a schedule has lr below half of its peak.
    """
    rows = [row for row in audit.trained if row.decay_lost > 0.5 and row.rms > 0 and not row.schedule < 0.5]
    if rows:
        row = max(rows, key=lambda row: row.decay_rate)
        strong = row.decay_rate >= 1e-5 and row.dtype in _LOW
        text = (
            f"weight decay does nothing to {percent(row.decay_lost)} of {row.parameter}: {row.dtype} rounds "
            f"w·(1 − lr·λ) = w·(1 − {row.decay_rate:.2g}) to w."
        )
        rows = [row, *(each for each in rows if each is not row)]
        remedy = "Keep the parameters in float32, or decay less often and by more."
        yield about(rows, Severity.WARNING if strong else Severity.REMARK, len(rows), text, remedy)


def cannot_forget(audit: Measurements) -> Iterator[Observation]:
    """β₂·v rounds to v: the second moment grows with a large gradient and never shrinks, so that steps stay small."""
    rows = [row for row in audit.trained if row.stuck > 0.5]
    if rows:
        row = rows[0]
        dtype = row.dtype
        text = (
            f"{row.parameter}: the second moment cannot shrink in {dtype}: beta2 = {row.beta2:g} times it rounds to "
            f"itself on {percent(row.stuck)} of the coordinates, so that after one large gradient steps stay small."
        )
        remedy = f"Keep the optimizer's state in float32, or lower beta2 until 1 − beta2 exceeds {dtype}'s spacing."
        yield about(rows, Severity.WARNING, len(rows), text, remedy)
