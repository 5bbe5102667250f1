"""Looks at gradients: missing, zero, piled up, scaled or clipped."""

import math
from collections.abc import Iterator, Sequence
from statistics import median

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.findings.wording import about, names_of, norms_of, optimizers_of
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent


def nothing_trains(audit: Measurements) -> Iterator[Observation]:
    """Every gradient is zero, now or, by the optimizer's state, since the start.

    Zeros that were written into gradients may be those of ``zero_grad(set_to_none=False)``: then the state decides.
    """
    rows = [row for row in audit.trained if _is_zero(row)]
    known = [row for row in audit.trained if row.has_gradient or not math.isnan(row.without_gradient)]
    proven = any(row.has_fresh_gradient for row in rows) or any(row.without_gradient == 1 for row in rows if row.step)
    if rows and len(rows) == len(known) and proven:
        text = (
            f"no gradient at all reaches {len(rows)} of {len(audit.trained)} tensors: nothing trains. Activations are "
            "dead, a factor is zero, or the loss does not depend on them."
        )
        remedy = "Follow the loss backwards to the first zero: a dead ReLU, a zero factor on both sides, a detach()."
        yield Observation(Severity.FAULT, text, names_of(rows), 1e6, remedy)


def stuck_at_zero(audit: Measurements) -> Iterator[Observation]:
    """A matrix of zeros whose gradient is zero too, as LoRA's two factors are if both start at zero."""
    zeros = [row for row in audit.trained if _is_zero(row)]
    stuck = [row for row in zeros if row.rms == 0 and len(row.shape) > 1 and (row.has_gradient or row.step >= 10)]
    if stuck and not _all_zero(audit) and not _factor_that_starts_at_zero(audit):
        text = f"{stuck[0].parameter} is zero and so is its gradient: it never trains, for a factor beside it is zero."
        rows = [*stuck, *(row for row in zeros if row not in stuck)]
        yield about(rows, Severity.FAULT, len(rows), text, "Start one of the two factors away from zero.")


def no_gradient(audit: Measurements) -> Iterator[Observation]:
    """None at all, or zeros, where other tensors have one.

    Zeros are a warning for a matrix, but for three kinds: what stands behind a factor that starts at zero (LoRA's B, a
    gate), which has a gradient now and moves at this step; tables of which no row is looked up; and experts that no
    token is sent to.
    """
    rows = audit.trained
    without = [row for row in rows if not row.has_gradient]
    if without and len(without) < len(rows):
        text = f"no gradient reaches {without[0].parameter}, though an optimizer trains it."
        remedy = "Look for a detach(), no_grad() or a layer that the loss does not use; or freeze it."
        yield about(without, Severity.WARNING, len(without), text, remedy)
    if all(_is_zero(row) for row in rows if row.has_gradient):  # nothing trains, or zero_grad() has just been called
        return
    zeros = [row for row in rows if _is_zero(row) and not (row.rms == 0 and len(row.shape) > 1)]
    if zeros and _factor_that_starts_at_zero(audit):
        text = f"the gradient of {zeros[0].parameter} is zero, behind a factor that starts at zero."
        yield about(zeros, Severity.REMARK, 0.1, text)
        return
    dead = [row for row in zeros if _has_to_have_one(row)]
    if dead:
        text = f"the gradient of {dead[0].parameter} is zero."
        remedy = "Look for dead activations behind it, or a factor of zero; freeze it if that is meant."
        dead += [row for row in zeros if row not in dead]
        yield about(dead, Severity.WARNING, len(dead), text, remedy)
    elif zeros:
        yield about(zeros, Severity.REMARK, 0.1, f"the gradient of {zeros[0].parameter} is zero.")
    rare = sorted((row for row in rows if 0.5 < row.without_gradient < 1), key=lambda row: -row.without_gradient)
    if rare:
        text = f"{percent(rare[0].without_gradient)} of {rare[0].parameter}'s coordinates have had no gradient."
        yield about(rare, Severity.REMARK, rare[0].without_gradient / 10, text)


def _is_zero(row: Row) -> bool:
    return row.gradient_rms == 0 or (not row.has_gradient and row.without_gradient == 1)


def _all_zero(audit: Measurements) -> bool:
    return any(True for _ in nothing_trains(audit))


def _factor_that_starts_at_zero(audit: Measurements) -> bool:
    return any(row.rms == 0 and not row.is_bias and row.gradient_rms > 0 for row in audit.trained)


def _has_to_have_one(row: Row) -> bool:
    """By the state, from step 10 on: the first gradients may be zero behind a factor that started at zero."""
    meant = row.is_embedding or "expert" in row.parameter or len(row.shape) < 2
    return not meant and (row.gradient_rms == 0 or row.step >= 10)


def gradients_not_reset(audit: Measurements) -> Iterator[Observation]:
    """Each gradient is the one before and something more: nobody resets them.

    Looked at only where no new gradient tensor was made for at least as many backward passes as there were steps.
    Measured on MLPs and GPTs, with random and with repeated batches, after 5 to 50 steps: where they pile up, the
    median size beside those of earlier steps is 1.4 to 2.2, and the median cosine with their average 0.7 to 1, or 0.4
    where each sum is clipped; where they do not, sizes are at most 1.25.
    """
    rows = [row for row in audit.trained if not math.isnan(row.growth)]
    if len(rows) > 1:
        growth, alignment = (median(getattr(row, column) for row in rows) for column in ("growth", "alignment"))
        if growth > (1.35 if alignment > 0.8 else 1.5) and alignment > 0.3:
            text = (
                f"gradients pile up: they are {growth:.1f} times as large as those of the steps before, and point the "
                f"same way (cosine {alignment:.2f}), as sums of all of them do. No zero_grad() resets them."
            )
            kept = [row for row in audit.trained if row.has_gradient and not row.has_fresh_gradient]
            kept = kept if len(kept) < 2 * len(rows) else rows
            yield Observation(Severity.FAULT, text, names_of(kept), 1e5, "Call optimizer.zero_grad() at each step.")


def large_gradients(audit: Measurements) -> Iterator[Observation]:
    """A norm of 1000 is rare but for a loss that is scaled (a GradScaler's first factor is 65 536) or a sum.

    It changes the step of an optimizer whose lr has a unit with L, as SGD's; a warning where that step is far too
    large too.
    """
    if not 1e3 < audit.gradient_norm < math.inf or audit.loss_scale != 1:
        return
    sized = [row for row in audit.trained if row.unit is not None and row.unit.loss]
    moves = [row.relative for row in sized if row.relative > 0]
    severity = Severity.WARNING if moves and median(moves) > 0.1 else Severity.REMARK
    text = f"the gradient norm is {audit.gradient_norm:.3g}: is the loss scaled, or a sum where a mean was meant?"
    if not sized:
        text += f" The step of {optimizers_of(audit.trained)} does not depend on it."
    remedy = "Pass scaler= for a loss that a GradScaler scales; else divide the loss by the number of its terms."
    yield Observation(severity, text, names_of(sized or audit.trained), audit.gradient_norm, remedy)


def clipped_before_unscaling(audit: Measurements) -> Iterator[Observation]:
    """The scaled gradients have the norm max_norm; or those of the steps before, in the optimizer's state, are smaller
    than the present ones by about the loss scale (a hundredth of it, for averages of noise)."""
    if not audit.scale > 1 or math.isnan(audit.max_norm):
        return
    scaled = audit.gradient_norm * audit.scale
    shrunk = [row.shrunk for row in audit.trained if row.shrunk > 0]
    if 0.99 < scaled / audit.max_norm < 1.001 or (shrunk and median(shrunk) > max(100, audit.scale / 100)):
        text = (
            f"gradients are clipped to max_norm = {audit.max_norm:.3g} before scaler.unscale_, with the loss scale of "
            f"{audit.scale:.3g} still in them: a step sees a norm of {audit.max_norm / audit.scale:.2g}."
        )
        remedy = "Call scaler.unscale_(optimizer) before clip_grad_norm_."
        yield Observation(Severity.FAULT, text, names_of(audit.trained), 1e4, remedy)


def clipping_sets_the_step(audit: Measurements) -> Iterator[Observation]:
    """Where the unit of lr contains L, as SGD's does, a step is as large as the gradient that clipping leaves.

    A warning where it leaves less than a fifth; gradients that are clipped already do not show how much it left.
    """
    rows = [row for row in audit.trained if row.unit is None or row.unit.loss]
    if audit.clipped and rows:
        no_law = any(math.isnan(row.predicted) and row.rms > 0 for row in rows)
        text = f"clipping {'may set' if no_law else 'sets'} the step of {optimizers_of(rows)}: {norms_of(audit)}."
        ratio = audit.gradient_norm / audit.max_norm
        text += " Is the loss a sum where a mean was meant?" * (ratio > 20)
        remedy = "Raise max_norm, or count the clip as a smaller lr."
        yield Observation(Severity.WARNING if ratio > 5 else Severity.REMARK, text, names_of(rows), ratio, remedy)


def clipping_cancels(audit: Measurements) -> Iterator[Observation]:
    """Where the unit of lr contains no L, as Adam's does not, the scale of the gradients cancels."""
    rows = [row for row in audit.trained if row.unit is not None and not row.unit.loss]
    if audit.clipped and rows:
        text = (
            f"clipping does not set the step of {optimizers_of(rows)}: {norms_of(audit)}, but the scale of the "
            "gradients cancels. Clipping only weighs gradients of different steps against each other, and brings them "
            f"nearer to eps and coupled decay{_nearer_to_eps(rows)}."
        )
        yield Observation(Severity.REMARK, text, names_of(rows), 0.3)


def _nearer_to_eps(rows: Sequence[Row]) -> str:
    below = max((row.below_eps for row in rows if not math.isnan(row.below_eps)), default=0.0)
    return f": {percent(below)} of a tensor's coordinates are below it" if below > 0.1 else ""
