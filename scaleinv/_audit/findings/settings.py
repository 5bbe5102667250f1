"""Looks at the optimizer's settings: lr, eps, beta2, and Muon where it does not belong."""

import math
from collections.abc import Iterator, Sequence
from statistics import median

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.findings.usual import usual_gradients
from scaleinv._audit.findings.wording import about, brief, names_of, norms_of, other_tensors
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent


def lr_of_different_units(audit: Measurements) -> Iterator[Observation]:
    """SGD's lr and Adam's cannot be compared, scheduled or tuned as one; a fault where they are the same number."""
    classes: dict[str, list[str]] = {}  # unit → optimizers
    numbers: set[tuple[str, float]] = set()  # (unit, lr)
    for row in audit.trained:
        if row.unit is not None:
            numbers.add((str(row.unit), row.lr))
            if row.optimizer not in classes.setdefault(str(row.unit), []):
                classes[str(row.unit)].append(row.optimizer)
    if len(classes) > 1:
        groups = " and ".join(f"{', '.join(names)} ({unit})" for unit, names in classes.items())
        text = f"lr has different units in these groups: {groups}. One value, or one sweep, for both is meaningless."
        remedy = "Tune an lr for each group, or convert each with its own class."
        shared = len({lr for _, lr in numbers if lr}) < sum(bool(lr) for _, lr in numbers)
        severity = Severity.FAULT if shared else Severity.REMARK
        yield Observation(severity, text, names_of(audit.trained), len(classes), remedy)


def lr_is_zero(audit: Measurements) -> Iterator[Observation]:
    """As at the first step of a warm-up and at the end of a schedule."""
    rows = [row for row in audit.trained if row.lr == 0]
    if len(rows) == len(audit.trained) and rows:
        text = "lr is 0: nothing moves at this step, as at the start of a warm-up or the end of a schedule."
        yield Observation(Severity.REMARK, text, names_of(rows), 1e3, "Step the scheduler, if this is neither.")
    elif rows:
        text = f"lr is 0 for {len(rows)} of {len(audit.trained)} tensors, which do not move: {brief(names_of(rows))}."
        yield Observation(Severity.REMARK, text, names_of(rows), 1e3, "Freeze them, if they are not to move.")


def lr_of_groups(audit: Measurements) -> Iterator[Observation]:
    """Groups of one optimizer whose lr are far apart.

    Ratios up to 20 are usual (LoRA+ has 16, a new head 10), and layer-wise decay of 0.65 in 12 layers reaches 200: a
    remark.  Beyond 3000 the slow layers do not train, a warning.  So is a group with 8 times the lr of
    another whose matrices move by more than 5 % a step, and more than 5 times as far as those of the other.
    """
    for optimizer in dict.fromkeys(row.optimizer for row in audit.trained):
        rows = [row for row in audit.trained if row.optimizer == optimizer and row.lr > 0 and not row.orthogonal]
        lrs = sorted({row.lr for row in rows})
        if len(lrs) < 2 or lrs[-1] < 8 * lrs[0]:
            continue
        fast, slow = ([row for row in rows if row.lr == lr] for lr in (lrs[-1], lrs[0]))
        ratio = lrs[-1] / lrs[0]
        text = f"lr is {ratio:.3g} times as large ({lrs[-1]:.3g}) for {brief(names_of(fast))} as ({lrs[0]:.3g}) for "
        text += f"{brief(names_of(slow))}"
        far, near = _usual_move(fast), _usual_move(slow)
        if ratio > 3000:
            text += ", which hardly move" + ("; is a layer-wise decay too strong?" if len(lrs) > 2 else ".")
            yield Observation(Severity.WARNING, text, names_of(slow), ratio, "Raise the smallest lr.")
        elif far > 0.05 and far > 5 * near:
            text += f": they move {percent(far)} a step, the others {percent(near)}."
            yield Observation(Severity.WARNING, text, names_of(fast), far / near, "Lower the larger lr.")
        else:
            yield Observation(Severity.REMARK, text + ".", names_of(fast), 0.2)


def _usual_move(rows: Sequence[Row]) -> float:
    """The median relative step of matrices that did not start small."""
    moves = [row.relative for row in rows if len(row.shape) > 1 and row.relative > 0 and not row.is_young]
    return median(moves) if moves else math.nan


def most_below_eps(audit: Measurements) -> Iterator[Observation]:
    """More than a tenth of a tensor's coordinates are below eps; the worst tensor is named, for each severity.

    A fault where they are nine tenths: then the tensor trains as under SGD.  A warning where they are half, or where
    half of all tensors have a tenth, so that the loss or eps is in another scale.  Else a remark: a tensor whose step
    is RMS-wise near the usual one.  Left out are gradients that are zero in exact arithmetic; and in the first ten
    steps, what stands behind a factor that starts below 1e-4, as layer scale does, is a remark.
    """
    usual = usual_gradients(audit)
    small = [row for row in audit.trained if _share_below(row) > 0.1 and not _is_below_by_rounding(row, usual)]
    small.sort(key=lambda row: -_share_below(row))
    widely = 2 * len(small) > len(audit.trained)
    behind_a_gate = any(0 < row.rms < 1e-4 and row.step <= 10 and not row.is_bias for row in audit.trained)
    for severity, least, most in (
        (Severity.FAULT, 0.9, math.inf), (Severity.WARNING, 0.5, 0.9),
        (Severity.WARNING if widely else Severity.REMARK, 0.1, 0.5),
    ):  # fmt: skip
        rows = [row for row in small if least < _share_below(row) <= most]
        if rows and all(row.unit is not None and row.unit.loss for row in rows):
            severity = Severity.REMARK  # Adadelta's eps, which its first steps are made of
        if not rows:
            continue
        text = (
            f"{percent(rows[0].below_eps)} of {rows[0].parameter}'s coordinates are below eps = {rows[0].eps:.3g}: "
            "their steps grow with the gradient, as SGD's do."
        )
        if len(rows) > 1:
            have = "has" if len(rows) == 2 else "have"
            text += f" {other_tensors(len(rows) - 1)} {have} more than {percent(least)} below eps."
        remedy = "Lower eps, or undo what makes the gradients small, such as a loss divided twice."
        if audit.clipped:
            text += f" They are made this small by clipping: {norms_of(audit)}."
            remedy = "Raise max_norm: what is clipped under eps does not train as Adam does."
        yield Observation(
            Severity.REMARK if behind_a_gate else severity, text, names_of(rows), 1 + rows[0].below_eps, remedy
        )


def _share_below(row: Row) -> float:
    """Of the coordinates that have a gradient."""
    return row.below_eps / (1 - row.without_gradient) if row.below_eps > 0 else 0.0


def _is_below_by_rounding(row: Row, usual: dict[bool, float]) -> bool:
    """As ``is_rounding``; a whole matrix is not zero in exact arithmetic, but some of its rows may be."""
    return row.small_scale < 1e-3 * max(row.gradient_scale, usual[True] if len(row.shape) < 2 else 0)


def long_memory(audit: Measurements) -> Iterator[Observation]:
    """1/(1 − β₂) steps are more than the run has: the second moment is the mean of all squares, the first ones too."""
    rows = [row for row in audit.trained if 1 / (1 - row.beta2) > audit.run_steps]
    if rows:
        text = (
            f"beta2 = {rows[0].beta2:g} remembers {1 / (1 - rows[0].beta2):.0f} steps, and the run has "
            f"{audit.run_steps:.0f}: large gradients of its start keep steps small to its end."
        )
        remedy = f"Take beta2 = {max(0.9, 1 - 10 / audit.run_steps):.3g}, which forgets within a tenth of the run."
        yield about(rows, Severity.REMARK, 1.0, text, remedy)


def muon_elsewhere(audit: Measurements) -> Iterator[Observation]:
    """Muon makes the step of a matrix orthogonal.  Rows of a table, or of a head as large as a table, are looked up one
    by one, and a vector is no matrix: for these it is not meant."""
    tables = {row.shape for row in audit.rows if row.is_embedding}
    rows = [
        row for row in audit.trained
        if row.orthogonal and (row.is_embedding or len(row.shape) < 2 or row.shape in tables or row.is_head)
    ]  # fmt: skip
    if rows:
        what = "a table" if rows[0].is_embedding else "a vector" if len(rows[0].shape) < 2 else "a head"
        text = f"{rows[0].optimizer} trains {rows[0].parameter}, {what}; it is meant for hidden matrices."
        remedy = "Train embeddings, the head, gains and biases with AdamW."
        yield about(rows, Severity.WARNING, len(rows), text, remedy)
