"""Looks at how far tensors move, and how large they are."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from statistics import median

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.findings.wording import about, names_of, optimizers_of
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent


def moves_unlike_the_rest(audit: Measurements) -> Iterator[Observation]:
    """More than ten times as far as the median of the others, and more than 1 % a step; or, a matrix among three or
    more, less than a tenth as far.  The worst of each is named.

    A tensor that moves far is a warning where its lr is three times the usual one or it has been trained for a while;
    one that has started small moves far at first, which is often meant, a remark.  One that moves little is a warning
    where it is a hundred times too large for its steps, or tied, so that it starts as a head too; else a remark.  A
    lower lr was set on purpose.  What came from zero within the steps taken has no scale yet, and a table is compared
    by its rows that have a gradient.
    """
    rows = [row for row in audit.trained if 0 < row.relative < math.inf and not row.is_young]
    everyone = sorted(map(_move, rows))
    matrices = sorted(_move(row) for row in rows if len(row.shape) > 1)
    lr = {name: median(row.lr for row in rows if row.optimizer == name) for name in {row.optimizer for row in rows}}
    fast, slow = [], []
    for row in rows:
        others, alike = median_without(_move(row), everyone), median_without(_move(row), matrices)
        if _move(row) > 10 * others and row.relative > 0.01:
            fast.append((_move(row) / others, row, f"the median of the other tensors {percent(others)}"))
        elif len(row.shape) > 1 and len(matrices) > 2 and _is_slow(row, alike, lr):
            slow.append((alike / _move(row), row, f"the median of the other matrices {percent(alike)}"))
    for each, remedy in (
        (fast, "Give it a group with a smaller lr, or a larger start; leave it, if it is to move fast at first."),
        (slow, "Give it a group with a larger lr, or a smaller start; leave it, if it is to move slowly."),
    ):
        for severity in (Severity.WARNING, Severity.REMARK):
            graves = [item for item in each if _severity(item, each is fast, lr) == severity]
            if graves:
                graves.sort(key=lambda item: -item[0])
                ratio, row, others_move = graves[0]
                text = f"{row.parameter} moves {percent(row.relative)} a step, {others_move}"
                share = _share_of_lr(row, lr)
                text += f": its lr is {share:.2g} times theirs." * (not 1 / 3 < share < 3)
                yield about([row for _, row, _ in graves], severity, ratio, text.rstrip(".") + ".", remedy)


def _is_slow(row: Row, others: float, lr: dict[str, float]) -> bool:
    """And by less than 1 % a step: what moves by more is not slow, whatever the others do."""
    share = _share_of_lr(row, lr)
    return _move(row) < others / 10 and row.relative < 0.01 and not share < 1 / 3


def _share_of_lr(row: Row, lr: dict[str, float]) -> float:
    """lr over the usual one of its optimizer."""
    usual = lr[row.optimizer]
    return row.lr / usual if usual else 1.0


def _severity(item: tuple[float, Row, str], is_fast: bool, lr: dict[str, float]) -> Severity:
    ratio, row, _ = item
    if is_fast:
        is_grave = row.lr > 3 * lr[row.optimizer] or row.step > 100
    else:
        is_grave = ratio > 100 or (row.is_embedding and len(row.names) > 1)
    return Severity.WARNING if is_grave else Severity.REMARK


def _move(row: Row) -> float:
    """The relative step of the coordinates that have a gradient."""
    share = 1 - row.without_gradient if 0 < row.without_gradient < 1 else 1.0
    return row.relative / math.sqrt(share)


def all_move_far(audit: Measurements) -> Iterator[Observation]:
    """A matrix that changes by a tenth a step forgets in ten what it was.

    The usual step counts: Adam's first is four times as large as its later ones under noise.  So do matrices only, of
    a usual size, which enlarge their input by a fifth at least: tables and what starts small move far at first.  One
    matrix alone may be a small problem, with steps of up to a half.  SGD's gradients may yet be clipped, and are large
    at first: up to 40 % a step is a remark.
    """
    rows = [row for row in audit.trained if 0 < row.relative < math.inf and not row.is_young]
    matrices = [row for row in rows if len(row.shape) > 1 and not row.is_embedding and _factor(row) > 0.2]
    usual = median(map(_usual, matrices)) if matrices else 0.0
    if usual > (0.1 if len(matrices) > 1 else 0.5):
        far = [row for row in rows if row.relative > 0.1]
        of_loss = [row for row in far if row.unit is not None and row.unit.loss]
        text = f"a step changes the median tensor by {percent(median(row.relative for row in rows))}: lr is large for "
        remedy = "Lower lr."
        if of_loss:
            text += "gradients this large; is the loss a sum where a mean was meant?"
            remedy = f"Lower lr, or divide the loss: {optimizers_of(of_loss)}'s step grows with it."
        else:
            text += "parameters this small."
        severity = Severity.REMARK if of_loss and usual < 0.4 else Severity.WARNING
        yield Observation(severity, text, names_of(far), usual, remedy)


def _usual(row: Row) -> float:
    """The relative step, or the later one by the optimizer's law where that is smaller."""
    return min(row.relative, row.later) if row.later > 0 else row.relative


def all_move_little(audit: Measurements) -> Iterator[Observation]:
    """A step of less than 1e-5 of a matrix takes 10 000 steps for a tenth.

    A remark, for it is so at the start and at the end of a schedule; a warning where the run is known to have a tenth
    of its steps to go.
    """
    rows = [row for row in audit.trained if row.relative >= 0 and len(row.shape) > 1 and row.lr > 0]
    usual = median(row.relative for row in rows) if rows else math.nan
    if usual < 1e-5 and not all(row.gradient_rms == 0 for row in rows):
        to_go = audit.run_steps - max(row.step for row in rows)
        lr = median(row.lr for row in rows)
        text = f"a step changes the median matrix by {percent(usual)}: lr = {lr:.2g} is small"
        text += f", with {to_go:.0f} steps to go." if to_go > audit.run_steps / 10 else "."
        remedy = "Check lr and its schedule: SGD's lr is some hundred times Adam's."
        severity = Severity.WARNING if to_go > audit.run_steps / 10 else Severity.REMARK
        yield Observation(severity, text, names_of(rows), 1e-5 / max(usual, 1e-30), remedy)


def large_gains(audit: Measurements) -> Iterator[Observation]:
    """Gains of a normalisation start at 1, and trained ones are rarely beyond 10; 20 is twice that."""
    rows = sorted((row for row in audit.trained if row.is_gain and row.rms > 20), key=lambda row: -row.rms)
    if rows:
        text = (
            f"the gain {rows[0].parameter} has the RMS {rows[0].rms:.3g}, where 1 is usual: what it scales is as large."
        )
        remedy = "Start gains at 1; look for a diverged run or a wrong checkpoint."
        yield about(rows, Severity.WARNING, rows[0].rms, text, remedy)


def large_weights(audit: Measurements) -> Iterator[Observation]:
    """RMS·√(inputs) is the factor by which a matrix enlarges noise: about 1 at the usual starts, and rarely above 5
    after training; 30 is six times that.  Tables are looked up, not multiplied."""
    rows = [row for row in audit.trained if len(row.shape) > 1 and not row.is_embedding and _factor(row) > 30]
    rows.sort(key=lambda row: -_factor(row))
    if rows:
        text = f"{rows[0].parameter} enlarges its input about {_factor(rows[0]):.3g} times, where 1 is usual."
        remedy = "Look for a diverged run, a wrong start, or weights kept in another scale."
        yield about(rows, Severity.REMARK, _factor(rows[0]), text, remedy)


def _factor(row: Row) -> float:
    return row.rms * math.sqrt(math.prod(row.shape[1:]))


def zero(audit: Measurements) -> Iterator[Observation]:
    """As biases usually are: so it comes last of the remarks, however many there are."""
    for steps, verb in ((0, "starts at"), (1, "is")):
        rows = [row for row in audit.trained if row.rms == 0 and min(row.step, 1) == steps]
        if rows:
            text = f"{rows[0].parameter} {verb} zero: its relative step is undefined, {_absolute_step(rows[0])}."
            yield about(rows, Severity.REMARK, 0.0, text)


def _absolute_step(row: Row) -> str:
    """lr by name only where that is the size of the step."""
    if math.isnan(row.change):
        return "its step is not known"
    is_lr = math.isclose(row.change, row.lr, rel_tol=5e-3)
    return f"its absolute step is {'lr = ' if is_lr else ''}{row.change:.2g}"


def median_without(value: float, numbers: Sequence[float]) -> float:
    """The median of the other numbers of a sorted list; NaN where there are none."""
    at = bisect_left(numbers, value)
    others = len(numbers) - 1
    if others < 1:
        return math.nan
    middle = (numbers[i + (i >= at)] for i in ((others - 1) // 2, others // 2))
    return sum(middle) / 2
