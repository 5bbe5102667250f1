"""What is unusual about an audit, each in a sentence: a kind of finding is a small function from the audit to them.

Every threshold stands in the function that uses it.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from statistics import median

import torch

FAULT, WARNING, REMARK = 3, 2, 1


@dataclass(frozen=True)
class Finding:
    """A sentence, which parameters it is about, how grave it is (3 a fault, 2 a warning, 1 a remark), how far from
    usual, by which findings of the same gravity are ranked, and its kind, one of ``KINDS``."""

    severity: int
    text: str
    parameters: tuple = ()
    size: float = 0.0
    kind: str = ""

    def __str__(self):
        return self.text


def findings_of(audit):
    """All findings, the gravest first."""
    found = [replace(finding, kind=kind) for kind, look in KINDS.items() for finding in look(audit)]
    return sorted(found, key=lambda finding: (-finding.severity, -finding.size))


def not_finite(audit):
    for what, column in (("holds", "rms"), ("has a gradient with", "gradient_rms")):
        rows = [row for row in audit.rows if _broken(row, column)]
        if rows:
            yield _about(rows, FAULT, 1e9, f"{{}} {what} NaN or infinity: training goes nowhere from here.")


def lr_of_different_units(audit):
    """SGD's lr and Adam's are not to be compared, nor to be scheduled or tuned as one."""
    names = {}
    for row in _trained(audit):
        if row.unit is not None:
            names.setdefault(str(row.unit), {})[row.optimizer] = None
    if len(names) > 1:
        said = " and ".join(f"{', '.join(classes)} ({unit})" for unit, classes in names.items())
        text = f"lr differs in unit between these groups: {said}. One number, or one sweep, for both means nothing."
        yield Finding(FAULT, text, _names(_trained(audit)), len(names))


def lost_to_rounding(audit):
    """Half the gap between neighbouring numbers is a quarter to a half of the dtype's eps: smaller steps vanish."""
    rows = []
    for row in _trained(audit):
        relative = row.relative if math.isnan(row.predicted) else row.predicted  # as meant, before it is rounded
        if relative < torch.finfo(getattr(torch, row.dtype)).eps / 4 and row.gradient_rms != 0:
            rows.append(row)
    if rows:
        text = f"{{}}: {rows[0].dtype} loses most of a step to rounding; keep a copy in float32, or round at random."
        yield _about(rows, FAULT, len(rows), text)


def most_below_eps(audit):
    """The worst one is told, for each gravity."""
    small = sorted((row for row in _trained(audit) if row.below_eps > 0.1), key=lambda row: -row.below_eps)
    for severity, least, most in ((FAULT, 0.5, math.inf), (WARNING, 0.1, 0.5)):
        rows = [row for row in small if least < row.below_eps <= most]
        if rows:
            share = percent(rows[0].below_eps)
            text = f"{share} of {{}}'s coordinates are below eps: their steps grow with the gradient, as SGD's."
            more = f" More than {percent(least)} are in {len(rows) - 1} more." if len(rows) > 1 else ""
            yield Finding(severity, text.format(rows[0].parameter) + more, _names(rows), rows[0].below_eps)


def much_decay(audit):
    """Decay that outweighs the gradient; a usual lr·λ is 1e-6 to 1e-3."""
    rows = [row for row in _trained(audit) if row.decay > 0.5 and row.rms > 0]
    for strong in (True, False):
        some = [row for row in rows if (row.decay_rate > 0.01) == strong]
        if not some:
            continue
        worst = max(some, key=lambda row: row.decay)
        coupled = math.isnan(worst.decay_rate)
        text = f"weight decay is {percent(worst.decay)} of {{}}'s {'gradient' if coupled else 'step'}"
        if not coupled:
            text += f", and takes {percent(worst.decay_rate)} of it each time"
        if not math.isnan(worst.equilibrium):
            text += f": from RMS {worst.rms:.2g} it heads for {worst.equilibrium:.2g} under noise"
        yield _about(some, FAULT if strong else WARNING, worst.decay, text + ".", first=worst)


def moves_unlike_the_rest(audit):
    """More than ten times as far as the median of the others, and more than 1 % a step; or, a matrix among three or
    more, less than a tenth.  The worst one is told of each.

    Left out are biases in their first 100 steps that these can have made from zero: they have no scale yet.
    """
    rows = [row for row in _trained(audit) if row.relative > 0]
    everyone = sorted(row.relative for row in rows)
    matrices = sorted(row.relative for row in rows if len(row.shape) > 1)
    fast, slow = [], []
    for row in rows:
        rest, alike = _median_without(row.relative, everyone), _median_without(row.relative, matrices)
        young = len(row.shape) < 2 and 0 < row.step <= 100 and row.rms < 2 * row.step * row.change
        if row.relative > 10 * rest and row.relative > 0.01 and not young:
            fast.append((row.relative / rest, row, f"the median of the rest {percent(rest)}"))
        elif len(row.shape) > 1 and len(matrices) > 2 and row.relative < alike / 10:
            slow.append((alike / row.relative, row, f"the median of the other matrices {percent(alike)}"))
    for found in (fast, slow):
        if found:
            found.sort(key=lambda each: -each[0])
            ratio, row, rest = found[0]
            text = f"{{}} moves {percent(row.relative)} a step, {rest}."
            yield _about([row for _, row, _ in found], WARNING, ratio, text)


def all_move_far(audit):
    rows = [row for row in _trained(audit) if row.relative > 0]
    relative = [row.relative for row in rows]
    if rows and median(relative) > 0.1:
        text = (
            f"a step changes the median tensor by {percent(median(relative))}: lr is large for parameters this small."
        )
        yield Finding(WARNING, text, _names(row for row in rows if row.relative > 0.1), median(relative))


def clipping_sets_the_step(audit):
    if audit.clipped:
        ratio = audit.gradient_norm / audit.max_norm
        text = (
            f"clipping sets the step: the gradient's norm is {audit.gradient_norm:.3g}, max_norm {audit.max_norm:.3g}."
        )
        yield Finding(WARNING, text, (), ratio)


def no_gradient(audit):
    """None at all, where others have one."""
    rows = _trained(audit)
    without = [row for row in rows if math.isnan(row.gradient_rms)]
    if len(without) < len(rows):
        if without:
            yield _about(without, WARNING, len(without), "no gradient reaches {}, though it is to be trained.")
        zero = [row for row in rows if row.gradient_rms == 0]
        if zero:
            yield _about(zero, REMARK, len(zero), "the gradient of {} is zero.")
    for row in rows:
        if row.without_gradient > 0.5 and row.gradient_rms != 0:
            text = f"{percent(row.without_gradient)} of {row.parameter}'s coordinates have had no gradient."
            yield Finding(REMARK, text, (row.parameter,), row.without_gradient)


def left_out(audit):
    rows = [row for row in audit.rows if row.status == "left out"]
    if rows:
        yield _about(rows, WARNING, len(rows), "no optimizer holds {}, though it requires a gradient.")
    if audit.other_tensors:
        number = "1 tensor" if audit.other_tensors == 1 else f"{audit.other_tensors} tensors"
        yield Finding(WARNING, f"the optimizer holds {number} that the model has not.", (), audit.other_tensors)


def zero(audit):
    """As biases usually do: so it comes last of the remarks, however many there are."""
    for steps, word in ((0, "starts at"), (1, "is")):
        rows = [row for row in _trained(audit) if row.rms == 0 and min(row.step, 1) == steps]
        if rows:
            row = rows[0]
            of = "" if math.isnan(row.change) else f" {row.change:.2g}"
            law = " lr" if row.law == "first step: lr·sign(g)" else ""
            step = (
                f"its absolute step is{law}{' =' if law and of else ''}{of}" if law or of else "its step is not known"
            )
            yield _about(rows, REMARK, 0.0, f"{{}} {word} zero: its relative step is undefined, {step}.")


def unit_not_known(audit):
    notes = dict.fromkeys(row.note for row in _trained(audit) if row.unit is None and row.note)
    for note in notes:
        rows = [row for row in _trained(audit) if row.unit is None and row.note == note]
        yield Finding(REMARK, f"{note}.", _names(rows))


KINDS = {
    look.__name__: look
    for look in (
        not_finite, lr_of_different_units, lost_to_rounding, most_below_eps, much_decay, moves_unlike_the_rest,
        all_move_far, clipping_sets_the_step, no_gradient, left_out, zero, unit_not_known,
    )
}  # fmt: skip


def _trained(audit):
    return [row for row in audit.rows if row.status == "trained"]


def _names(rows):
    return tuple(row.parameter for row in rows)


def _median_without(value, numbers):
    """The median of the other numbers, of a sorted list; NaN where there are none."""
    at = bisect_left(numbers, value)
    others = len(numbers) - 1
    if others < 1:
        return math.nan
    middle = (numbers[i + (i >= at)] for i in ((others - 1) // 2, others // 2))
    return sum(middle) / 2


def _broken(row, column):
    value = getattr(row, column)
    return math.isinf(value) or (math.isnan(value) and column == "rms")


def _about(rows, severity, size, text, first=None):
    first = first or rows[0]
    name = first.parameter
    return Finding(severity, text.format(name) + _others(len(rows) - 1), _names(rows), size)


def _others(number):
    if not number:
        return ""
    return f" So it is with {number} other{'s' if number > 1 else ''}."


def percent(share):
    """0.01 as "1 %"; NaN as nothing."""
    if math.isnan(share):
        return ""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
