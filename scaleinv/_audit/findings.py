"""What is unusual about an audit, each in a sentence: a kind of finding is a small function from the audit's numbers.

Every threshold stands in the function that uses it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from statistics import median
from typing import NamedTuple

import torch

from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent
from scaleinv.known_optimizers import SIGN_STEP


class Severity(IntEnum):
    """How grave a finding is; findings of higher severity come first.

    >>> from scaleinv._audit.findings import Severity
    >>> Severity.FAULT > Severity.WARNING, Severity.FAULT.word
    (True, 'fault')
    """

    REMARK = 1  # unusual, and often meant
    WARNING = 2  # the training works, and probably less well than it could
    FAULT = 3  # the training, or a setting in it, does not do what it is meant to do

    @property
    def word(self) -> str:
        """As a report prints it."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """What is unusual, in a sentence.

    Attributes:
        severity: how grave it is, a ``Severity``: 3 for a fault, 2 for a warning, 1 for a remark.
        text: the sentence.
        parameters: the names of the parameters that it is about.
        size: how far from usual; findings of one severity are ranked by it.
        kind: one of ``KINDS``.
        remedy: what to do about it, a sentence; "" where there is nothing to do.

    >>> from scaleinv._audit.findings import Finding, Severity
    >>> print(Finding(Severity.REMARK, "the gradient of bias is zero.", ("bias",)))
    the gradient of bias is zero.
    """

    severity: Severity
    text: str
    parameters: tuple[str, ...] = ()
    size: float = 0.0
    kind: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return self.text


class Observation(NamedTuple):
    """What a kind of finding sees: a ``Finding`` but for its kind."""

    severity: Severity
    text: str
    parameters: tuple[str, ...] = ()
    size: float = 0.0


def findings_of(audit: Measurements) -> list[Finding]:
    """All findings, the gravest first."""
    findings = [Finding(*observation, kind) for kind, look in KINDS.items() for observation in look(audit)]
    return sorted(findings, key=lambda finding: (-finding.severity, -finding.size))


def not_finite(audit: Measurements) -> Iterator[Observation]:
    for problem, column in (("contains", "rms"), ("has a gradient with", "gradient_rms")):
        rows = [row for row in audit.rows if _broken(row, column)]
        if rows:
            text = f"{rows[0].parameter} {problem} NaN or infinity: training cannot continue from here."
            yield _about(rows, Severity.FAULT, 1e9, text)


def lr_of_different_units(audit: Measurements) -> Iterator[Observation]:
    """SGD's lr and Adam's cannot be compared, scheduled or tuned as one."""
    classes: dict[str, list[str]] = {}  # unit → optimizers
    for row in audit.trained:
        if row.unit is not None and row.optimizer not in classes.setdefault(str(row.unit), []):
            classes[str(row.unit)].append(row.optimizer)
    if len(classes) > 1:
        groups = " and ".join(f"{', '.join(names)} ({unit})" for unit, names in classes.items())
        text = f"lr has different units in these groups: {groups}. One value, or one sweep, for both is meaningless."
        yield Observation(Severity.FAULT, text, _names(audit.trained), len(classes))


def lost_to_rounding(audit: Measurements) -> Iterator[Observation]:
    """Half the gap between neighbouring numbers is a quarter to a half of the dtype's eps: smaller steps vanish."""
    rows = []
    for row in audit.trained:
        relative = row.relative if math.isnan(row.predicted) else row.predicted  # as meant, before it is rounded
        if relative < torch.finfo(getattr(torch, row.dtype)).eps / 4 and row.gradient_rms != 0:
            rows.append(row)
    if rows:
        text = (
            f"{rows[0].parameter}: {rows[0].dtype} loses most of a step to rounding; keep a copy in float32, or round "
            "stochastically."
        )
        yield _about(rows, Severity.FAULT, len(rows), text)


def most_below_eps(audit: Measurements) -> Iterator[Observation]:
    """The worst tensor is named, for each severity."""
    small = sorted((row for row in audit.trained if row.below_eps > 0.1), key=lambda row: -row.below_eps)
    for severity, least, most in ((Severity.FAULT, 0.5, math.inf), (Severity.WARNING, 0.1, 0.5)):
        rows = [row for row in small if least < row.below_eps <= most]
        if rows:
            text = (
                f"{percent(rows[0].below_eps)} of {rows[0].parameter}'s coordinates are below eps: their steps grow "
                "with the gradient, as SGD's do."
            )
            if len(rows) > 1:
                have = "has" if len(rows) == 2 else "have"
                text += f" {_other_tensors(len(rows) - 1)} {have} more than {percent(least)} below eps."
            yield Observation(severity, text, _names(rows), rows[0].below_eps)


def much_decay(audit: Measurements) -> Iterator[Observation]:
    """Decay that outweighs the gradient; a usual lr·λ is 1e-6 to 1e-3."""
    rows = [row for row in audit.trained if row.decay > 0.5 and row.rms > 0]
    for strong in (True, False):
        alike = [row for row in rows if (row.decay_rate > 0.01) == strong]
        if not alike:
            continue
        worst = max(alike, key=lambda row: row.decay)
        coupled = math.isnan(worst.decay_rate)
        text = f"weight decay is {percent(worst.decay)} of {worst.parameter}'s {'gradient' if coupled else 'step'}"
        if not coupled:
            text += f" and removes {percent(worst.decay_rate)} of the tensor at each step"
        if not math.isnan(worst.equilibrium):
            text += f"; under noise its RMS goes from {worst.rms:.2g} to {worst.equilibrium:.2g}"
        yield _about(alike, Severity.FAULT if strong else Severity.WARNING, worst.decay, text + ".")


def moves_unlike_the_rest(audit: Measurements) -> Iterator[Observation]:
    """More than ten times as far as the median of the others, and more than 1 % a step; or, a matrix among three or
    more, less than a tenth as far.  The worst of each is named.

    Biases in their first 100 steps that these can have made from zero are left out: they have no scale yet.
    """
    rows = [row for row in audit.trained if row.relative > 0]
    everyone = sorted(row.relative for row in rows)
    matrices = sorted(row.relative for row in rows if len(row.shape) > 1)
    fast, slow = [], []
    for row in rows:
        others, alike = _median_without(row.relative, everyone), _median_without(row.relative, matrices)
        if row.relative > 10 * others and row.relative > 0.01 and not _young_bias(row):
            fast.append((row.relative / others, row, f"the median of the other tensors {percent(others)}"))
        elif len(row.shape) > 1 and len(matrices) > 2 and row.relative < alike / 10:
            slow.append((alike / row.relative, row, f"the median of the other matrices {percent(alike)}"))
    for unlike in (fast, slow):
        if unlike:
            unlike.sort(key=lambda each: -each[0])
            ratio, row, others_move = unlike[0]
            text = f"{row.parameter} moves {percent(row.relative)} a step, {others_move}."
            yield _about([row for _, row, _ in unlike], Severity.WARNING, ratio, text)


def all_move_far(audit: Measurements) -> Iterator[Observation]:
    rows = [row for row in audit.trained if row.relative > 0]
    usual = median(row.relative for row in rows) if rows else 0.0
    if usual > 0.1:
        text = f"a step changes the median tensor by {percent(usual)}: lr is large for parameters this small."
        yield Observation(Severity.WARNING, text, _names(row for row in rows if row.relative > 0.1), usual)


def clipping_sets_the_step(audit: Measurements) -> Iterator[Observation]:
    """Where the unit of lr contains L, as SGD's does, a step is as large as the gradient that clipping leaves."""
    rows = [row for row in audit.trained if row.unit is None or row.unit.loss]
    if audit.clipped and rows:
        no_law = any(math.isnan(row.predicted) and row.rms > 0 for row in rows)
        text = f"clipping {'may set' if no_law else 'sets'} the step of {_optimizers(rows)}: {_norms(audit)}."
        yield Observation(Severity.WARNING, text, _names(rows), audit.gradient_norm / audit.max_norm)


def clipping_cancels(audit: Measurements) -> Iterator[Observation]:
    """Where the unit of lr contains no L, as Adam's does not, the scale of the gradients cancels."""
    rows = [row for row in audit.trained if row.unit is not None and not row.unit.loss]
    if audit.clipped and rows:
        text = (
            f"clipping does not set the step of {_optimizers(rows)}: {_norms(audit)}, but the scale of the gradients "
            "cancels. Clipping only weighs gradients of different steps against each other, and brings them nearer to "
            "eps and coupled decay."
        )
        yield Observation(Severity.REMARK, text, _names(rows), audit.gradient_norm / audit.max_norm)


def no_gradient(audit: Measurements) -> Iterator[Observation]:
    """None at all, where other tensors have one."""
    rows = audit.trained
    without = [row for row in rows if math.isnan(row.gradient_rms)]
    if len(without) < len(rows):
        if without:
            text = f"no gradient reaches {without[0].parameter}, though an optimizer trains it."
            yield _about(without, Severity.WARNING, len(without), text)
        zeros = [row for row in rows if row.gradient_rms == 0]
        if zeros:
            yield _about(zeros, Severity.REMARK, len(zeros), f"the gradient of {zeros[0].parameter} is zero.")
    for row in rows:
        if row.without_gradient > 0.5 and row.gradient_rms != 0:
            text = f"{percent(row.without_gradient)} of {row.parameter}'s coordinates have had no gradient."
            yield Observation(Severity.REMARK, text, (row.parameter,), row.without_gradient)


def left_out(audit: Measurements) -> Iterator[Observation]:
    rows = [row for row in audit.rows if row.status == "left out"]
    if rows:
        text = f"no optimizer holds {rows[0].parameter}, though it requires a gradient."
        yield _about(rows, Severity.WARNING, len(rows), text)
    if audit.other_tensors:
        number = "1 tensor" if audit.other_tensors == 1 else f"{audit.other_tensors} tensors"
        text = f"the optimizer holds {number} that the model does not have."
        yield Observation(Severity.WARNING, text, (), audit.other_tensors)


def zero(audit: Measurements) -> Iterator[Observation]:
    """As biases usually are: so it comes last of the remarks, however many there are."""
    for steps, verb in ((0, "starts at"), (1, "is")):
        rows = [row for row in audit.trained if row.rms == 0 and min(row.step, 1) == steps]
        if rows:
            text = f"{rows[0].parameter} {verb} zero: its relative step is undefined, {_absolute_step(rows[0])}."
            yield _about(rows, Severity.REMARK, 0.0, text)


def unit_not_known(audit: Measurements) -> Iterator[Observation]:
    unknown = [row for row in audit.trained if row.unit is None and row.note]
    for note in dict.fromkeys(row.note for row in unknown):
        yield Observation(Severity.REMARK, f"{note}.", _names(row for row in unknown if row.note == note))


KINDS: dict[str, Callable[[Measurements], Iterator[Observation]]] = {
    look.__name__: look
    for look in (
        not_finite, lr_of_different_units, lost_to_rounding, most_below_eps, much_decay, moves_unlike_the_rest,
        all_move_far, clipping_sets_the_step, clipping_cancels, no_gradient, left_out, zero, unit_not_known,
    )
}  # fmt: skip


def _names(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(row.parameter for row in rows)


def _optimizers(rows: Iterable[Row]) -> str:
    return " and ".join(dict.fromkeys(row.optimizer for row in rows))


def _norms(audit: Measurements) -> str:
    return f"the gradient norm is {audit.gradient_norm:.3g}, max_norm is {audit.max_norm:.3g}"


def _median_without(value: float, numbers: Sequence[float]) -> float:
    """The median of the other numbers of a sorted list; NaN where there are none."""
    at = bisect_left(numbers, value)
    others = len(numbers) - 1
    if others < 1:
        return math.nan
    middle = (numbers[i + (i >= at)] for i in ((others - 1) // 2, others // 2))
    return sum(middle) / 2


def _broken(row: Row, column: str) -> bool:
    value = getattr(row, column)
    return math.isinf(value) or (math.isnan(value) and column == "rms")


def _young_bias(row: Row) -> bool:
    return len(row.shape) < 2 and 0 < row.step <= 100 and row.rms < 2 * row.step * row.change


def _absolute_step(row: Row) -> str:
    size = "" if math.isnan(row.change) else f"{row.change:.2g}"
    if row.law == SIGN_STEP:
        return f"its absolute step is lr = {size}" if size else "its absolute step is lr"
    return f"its absolute step is {size}" if size else "its step is not known"


def _about(rows: Sequence[Row], severity: Severity, size: float, text: str) -> Observation:
    """A sentence about one of the rows, with the number of the others."""
    others = len(rows) - 1
    if others:
        text += f" {_other_tensors(others)} {'is' if others == 1 else 'are'} affected too."
    return Observation(severity, text, _names(rows), size)


def _other_tensors(number: int) -> str:
    return f"{number} other tensor{'' if number == 1 else 's'}"
