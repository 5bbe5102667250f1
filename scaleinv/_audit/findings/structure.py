"""Looks at which optimizer holds what, and at what could not be looked at."""

import math
from collections.abc import Iterator

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.findings.wording import about, brief, names_of
from scaleinv._audit.measurements import Measurements


def left_out(audit: Measurements) -> Iterator[Observation]:
    """An optimizer that holds what the model has not, of the shapes that it does not hold, was made too early.

    Where most of the model is left out, only a part is to be trained: a remark.
    """
    rows = [row for row in audit.rows if row.status == "left out"]
    if not audit.trained:
        text = f"the optimizer holds none of the {len(audit.rows)} parameters of the model: nothing trains it."
        names = names_of(rows or audit.rows)
        yield Observation(Severity.FAULT, text, names, 1e6, "Make the optimizer from model.parameters().")
        return
    others = f"{audit.other_tensors} tensor{'' if audit.other_tensors == 1 else 's'}"
    if rows and audit.stale_tensors:
        text = (
            f"the optimizer holds {others} that the model does not have, and not {rows[0].parameter}, though it "
            "requires a gradient: the model was changed after the optimizer was made."
        )
        remedy = "Make the optimizer after the last change of the model, or call optimizer.add_param_group."
        yield about(rows, Severity.FAULT, len(rows), text, remedy)
        return
    if rows:
        most = sum(row.coordinates for row in rows) > sum(row.coordinates for row in audit.trained)
        severity = Severity.REMARK if most else Severity.WARNING
        text = f"no optimizer holds {rows[0].parameter}, though it requires a gradient."
        remedy = "Pass it to the optimizer, or call requires_grad_(False) on it."
        yield about(rows, severity, len(rows), text, remedy)
    if audit.other_tensors:
        text = f"the optimizer holds {others} that the model does not have."
        remedy = "If they are no part of the training, make the optimizer anew."
        yield Observation(Severity.REMARK, text, (), audit.other_tensors, remedy)


def unregistered_layers(audit: Measurements) -> Iterator[Observation]:
    """A gradient proves that they compute; where the model has gradients and they have none, they do not."""
    has_gradients = not math.isnan(audit.gradient_norm)
    for each in audit.unregistered:
        if has_gradients and not each.with_gradient:
            continue
        severity = Severity.FAULT if each.with_gradient else Severity.WARNING
        tensors = f"{each.tensors} parameter{'' if each.tensors == 1 else 's'}"
        text = (
            f"{each.where} holds {tensors} in a plain list or dict, which the model does not register: nothing trains "
        )
        text += "or saves them."
        remedy = f"Make {each.where} an nn.ModuleList, ModuleDict or ParameterList."
        yield Observation(severity, text, (), 1000.0 * each.tensors, remedy)


def not_frozen(audit: Measurements) -> Iterator[Observation]:
    """The attribute of a module that torch does not look at."""
    rows = [row for row in audit.trained if row.parameter in audit.not_frozen]
    if rows:
        text = f"requires_grad = False was set on a module, which freezes nothing: {rows[0].parameter} is trained."
        remedy = "Call module.requires_grad_(False)."
        yield about(rows, Severity.FAULT, len(rows), text, remedy)


def held_twice(audit: Measurements) -> Iterator[Observation]:
    if audit.twice:
        text = f"an optimizer holds {brief(audit.twice)} twice or more: they are stepped as often."
        remedy = "Pass each parameter once, as model.parameters() does for tied ones."
        yield Observation(Severity.FAULT, text, tuple(dict.fromkeys(audit.twice)), len(audit.twice), remedy)


def unit_not_known(audit: Measurements) -> Iterator[Observation]:
    unknown = [row for row in audit.trained if row.unit is None and row.note]
    for note in dict.fromkeys(row.note for row in unknown):
        rows = [row for row in unknown if row.note == note]
        yield Observation(Severity.REMARK, f"{note}.", names_of(rows), 0.5, "Pass units='infer', or a Recorder.")


def not_checked(audit: Measurements) -> Iterator[Observation]:
    """No step is known, so that nothing about it can be found."""
    rows = [row for row in audit.trained if math.isnan(row.change)]
    if rows:
        why = "; ".join(dict.fromkeys(f"{row.optimizer}: {row.law}" for row in rows if row.law))
        text = f"no step is known of {len(rows)} of {len(audit.trained)} tensors, so none was checked ({why})."
        remedy = "Audit after backward() and before step(), or pass a Recorder."
        yield Observation(Severity.REMARK, text, names_of(rows), 0.4, remedy)
