"""Looks at weight decay."""

import math
from collections.abc import Iterator

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.findings.usual import is_rounding, usual_gradients
from scaleinv._audit.findings.wording import about
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent


def much_decay(audit: Measurements) -> Iterator[Observation]:
    """Decay that outweighs the gradient, and decay of gains and biases.

    Decoupled decay is compared with the usual step, not with one that is small because the training has converged or
    the gradient is zero for now.  A usual lr·λ is 1e-6 to 1e-3: more than 1 % a step is a fault.  Decay that is part
    of the gradient outweighs it at convergence too, so a usual λ, up to 0.01, is a warning at the first step only.
    """
    usual = usual_gradients(audit)
    rows = [row for row in audit.trained if _share(row) > 0.5 and row.rms > 0 and not is_rounding(row, usual)]
    for strong in (True, False):
        alike = [row for row in rows if (row.decay_rate > 0.01) == strong]
        if not alike:
            continue
        worst = max(alike, key=_share)
        coupled = math.isnan(worst.decay_rate)
        text = f"weight decay is {percent(_share(worst))} of {worst.parameter}'s {'gradient' if coupled else 'step'}"
        if not coupled:
            text += f" and removes {percent(worst.decay_rate)} of the tensor at each step"
        if not math.isnan(worst.equilibrium):
            text += f"; under noise its RMS goes from {worst.rms:.2g} to {worst.equilibrium:.2g}"
        severity = Severity.FAULT if strong else Severity.WARNING
        if coupled and worst.step > 0 and worst.weight_decay <= 0.01:
            severity = Severity.REMARK
        remedy = "Lower weight_decay" + (
            ", or use AdamW, whose decay is not divided by the gradient's scale." * coupled
        )
        alike = [worst, *(row for row in alike if row is not worst)]
        yield about(alike, severity, _share(worst), text + ".", remedy.rstrip(".") + ".")
    yield from _gains_and_biases(audit, {row.parameter for row in rows})


def _gains_and_biases(audit: Measurements, named: set[str]) -> Iterator[Observation]:
    """They set scales and offsets, which decay pulls to 0; most recipes leave them out.  A remark, for some do not; and
    nothing up to λ = 0.01, the default of AdamW, which nobody chose.  Some models mark others, as Mamba does."""
    rows = [
        row for row in audit.trained
        if row.weight_decay > (0 if row.no_decay else 0.01) and (row.is_gain or row.is_bias or row.no_decay)
        and row.parameter not in named and not row.decay_lost > 0.5 and row.lr != 0
    ]  # fmt: skip
    if rows:
        row = max(rows, key=lambda row: row.rms if row.is_gain else 0.0)
        what = "a gain" if row.is_gain else "a bias" if row.is_bias else "which is marked as one not to decay"
        text = f"weight_decay = {row.weight_decay:g} acts on {row.parameter}, {what}"
        if row.rms > 0 and not math.isnan(row.equilibrium):
            text += f"; under noise its RMS goes from {row.rms:.2g} to {row.equilibrium:.2g}"
        rows = [row, *(each for each in rows if each is not row)]
        share = 0.0 if math.isnan(_share(row)) else _share(row)
        remedy = "Put gains and biases into a group with weight_decay=0."
        yield about(rows, Severity.REMARK, share, text + ".", remedy)


def _share(row: Row) -> float:
    """Decay's share of a step, or of the usual step where that is larger; of the gradient where it is part of it."""
    if math.isnan(row.decay_rate) or math.isnan(row.decay):
        return row.decay
    if row.without_gradient == 1 or row.gradient_rms == 0:
        return math.nan
    usual = row.predicted * row.rms
    return row.decay * min(1.0, row.change / usual) if usual > 0 else row.decay
