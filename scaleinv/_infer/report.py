"""The units of an optimizer as a report for a terminal: what was measured, what it means for lr, and what to do."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from scaleinv._convert import convert_value
from scaleinv._entries import get_entry
from scaleinv._infer.result import InferredUnits
from scaleinv._report import percent, table, value_text
from scaleinv.units import Unit

FACTOR = 8  # a power of two, so that whole powers convert exactly
TIMES = f"{FACTOR} times as large"
_DECAYS = {
    "times lr": "takes lr·weight_decay·w from a parameter w at each step",
    "independent": "takes weight_decay·w from a parameter w at each step, whatever lr is",
    "coupled": "is coupled: weight_decay·w is added to the gradient of a parameter w",
}


def units_report(units: InferredUnits) -> Group:
    """Report what ``infer_units`` measured.

    The report has the verdict; for each hyperparameter its value, its unit, and its value for the same training with a
    loss, or with parameters, 8 times as large; the units of the state; what lr means; and what has no unit, why, and
    what to do about it.  "?" stands where there is no unit to convert by, "same" where nothing changes.

    Args:
        units: the result of ``infer_units``.

    Returns:
        An object for ``rich.print`` or a ``rich`` console of any width.

    >>> import torch
    >>> from rich.console import Console
    >>> from scaleinv import infer_units
    >>> from scaleinv._infer import units_report
    >>> Console(width=80).print(units_report(infer_units(torch.optim.Rprop)))  # doctest: +NORMALIZE_WHITESPACE
    Rprop: consistent. Runs rescaled by these units agree bit for bit.
    <BLANKLINE>
                                          loss  parameters
    hyperparameter  value        unit     × 8   × 8
    lr              0.01         W        same  0.08
    etas            (0.5, 1.2)   1        same  same
    step_sizes      (1e-06, 50)  W        same  (8e-06, 400)
    <BLANKLINE>
    state      unit
    step       1
    prev       L W⁻¹
    step_size  W
    <BLANKLINE>
    L is the unit of the loss, W that of a parameter, 1 that of a pure number.
    <BLANKLINE>
    With lr as it is, a loss 8 times as large makes steps as large as before (degree
    0). Parameters stored 8 times as large need lr × 8 to train the same. The other
    hyperparameters change as in the table.
    """
    headings = ("hyperparameter", "value", "unit", f"loss\n× {FACTOR}", f"parameters\n× {FACTOR}")
    tables = table(headings, _rows(units)), table(("state", "unit"), units.state.items())
    parts: list[RenderableType] = [
        _verdict(units),
        *(each for each in tables if each.rows),
        *map(Text, _paragraphs(units)),
    ]
    lines: list[RenderableType] = []
    for part in parts:
        lines += [Text(), part]
    return Group(*lines[1:])


def _verdict(units: InferredUnits) -> Text:
    name = f"{units.name}: ", "bold"
    if units.not_for:
        kinds = ", or ".join(units.not_for)
        unexplained = f" for parameters {kinds}: {percent(units.residual)} of a rescaled run is left unexplained."
        return Text.assemble(name, ("inconsistent", "bold red"), unexplained)
    if units.verdict == "inconsistent":
        unexplained = f". No units explain {percent(units.residual)} of a rescaled run."
        return Text.assemble(name, ("inconsistent", "bold red"), unexplained)
    without = ", ".join((*units.inconsistent, *units.undetermined))
    but = f"; no unit for {without}" if without else ""
    agree = "bit for bit" if units.verdict == "bitwise" else f"within rounding, to {units.residual:.0e}"
    return Text.assemble(name, ("consistent", "bold green"), f"{but}. Runs rescaled by these units agree {agree}.")


def _rows(units: InferredUnits) -> Iterator[tuple[str, ...]]:
    for key, unit in units.entries():
        value = get_entry(units.probed[0], key)
        text = units.unit_text(key, unit).split(",")[0].split(" (")[0]  # residual and value stand elsewhere
        text = f"{units.nearby[key]} (nearby)" if key in units.nearby else text
        by = units.unit_to_convert(key, value) if unit is None else unit
        yield key, value_text(value), text, _converted(value, by, loss=FACTOR), _converted(value, by, weight=FACTOR)


def _converted(value: Any, unit: Any, weight: float = 1, loss: float = 1) -> str:
    try:
        new = convert_value("value", value, unit, weight, loss)
    except (TypeError, ValueError):  # without a unit, or beyond the range of floats
        return "?"
    return "same" if new is value else value_text(new)


def _paragraphs(units: InferredUnits) -> Iterator[str]:
    others = [(name, value) for name, value in units.probed[0].items() if name not in units.hyperparameters]
    kept = ", ".join(f"{name}={value!s:.30}" for name, value in others if value is not None and value is not False)
    legend = "L is the unit of the loss, W that of a parameter, 1 that of a pure number."
    yield f"{legend} Measured with {kept}." if kept else legend
    lr = units.hyperparameters.get("lr")
    if isinstance(lr, Unit):
        yield _meaning_of_lr(lr, units)
    if units.decay in _DECAYS:
        yield f"Weight decay {_DECAYS[units.decay]}."
    if units.verdict == "inconsistent" or units.inconsistent:
        yield " ".join(_faults(units))
    if units.undetermined:
        yield (
            f"Undetermined: {', '.join(units.undetermined)}. No run shows an effect, or shows it only together with "
            "another's, as in a product: a conversion may share the factor among them in any way, and does as in the "
            "table. To tell them apart, give values with which each acts alone, and measure again."
        )


def _meaning_of_lr(lr: Unit, units: InferredUnits) -> str:
    loss, weight, steps = lr.factor(loss=FACTOR), lr.factor(weight=FACTOR), lr.factor(loss=1 / FACTOR)
    makes = "as large as before" if steps == 1 else f"{steps:.3g} times as large"
    needs = "" if loss == 1 else f" and needs lr × {loss:.3g} to train the same"
    stored = "the same lr" if weight == 1 else f"lr × {weight:.3g}"
    condition = f"{units.suspect}=0 and " if units.suspect else ""
    return (
        f"With {condition}lr as it is, a loss {TIMES} makes steps {makes} (degree {units.degree}){needs}. Parameters "
        f"stored {TIMES} need {stored} to train the same. The other hyperparameters change as in the table."
    )


def _faults(units: InferredUnits) -> Iterator[str]:
    if units.not_for:
        yield "For other parameters the units above hold: scaleinv.rescale takes a model that has no such parameters."
    elif units.reason and units.verdict == "inconsistent":
        yield f"{units.reason[0].upper()}{units.reason[1:].rstrip('.')}."
    if units.inconsistent:
        shares = ", ".join(f"{key} leaves {percent(share)}" for key, share in units.inconsistent.items())
        yield f"When made to matter or changed, {shares} of a run unexplained."
    if units.kept:
        yield f"A conversion leaves {', '.join(f'{key}={value:g}' for key, value in units.kept.items())} as measured."
    if units.not_for:
        yield "For those, tune the values anew when the scale of the loss or of the parameters changes."
    elif units.verdict != "inconsistent":
        yield "The other units hold for the values given."
    elif units.suspect:
        yield f"The units and numbers above hold for {units.suspect}=0 only: give that, or find where in the code"
        yield f"{units.suspect} meets quantities of different units, correct it, and measure again."
    else:
        if units.nearby:
            yield "Units marked nearby hold for small changes of scale only: do not convert by them."
        yield "Look in the code for a constant that is added to a gradient, a parameter or the state, or compared with"
        yield "one, and for steps of different kinds under one lr; correct it, and measure again. Until then, tune the"
        yield "values anew whenever the scale of the loss or of the parameters changes."
