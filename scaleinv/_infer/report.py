"""The units of an optimizer as a report for a terminal: what was found, what it means for lr, and what to do next."""

from rich.console import Group
from rich.text import Text

from scaleinv._report import table, value_text
from scaleinv._infer.result import InferredUnits
from scaleinv._convert import convert_value
from scaleinv.units import Unit
from scaleinv._hyperparameters import Values

FACTOR = 8  # a power of two, so that whole powers convert exactly
TIMES = f"{FACTOR} times as large"


def units_report(found: InferredUnits):
    """What ``infer_units`` found, for ``rich.print`` or a ``rich`` console of any width.

    The verdict; for each hyperparameter its value, its unit, and its value for the same training with a loss, or with
    parameters, 8 times as large, as ``convert`` has them; the units of the state; what lr means; and what has no unit,
    why, and what to do about it.  "?" stands where there is no unit to convert by, "same" where nothing changes.
    """
    headings = ("hyperparameter", "value", "unit", f"loss\n× {FACTOR}", f"parameters\n× {FACTOR}")
    tables = table(headings, _rows(found)), table(("state", "unit"), found.state.items())
    parts = [_verdict(found), *(each for each in tables if each.rows), *map(Text, _paragraphs(found))]
    return Group(*[line for part in parts for line in (Text(), part)][1:])


def _verdict(found):
    name = f"{found.name}: ", "bold"
    if found.verdict == "inconsistent":
        unexplained = f". No units explain {_percent(found.residual)} of a rescaled run."
        return Text.assemble(name, ("inconsistent", "bold red"), unexplained)
    without = ", ".join((*found.inconsistent, *found.undetermined))
    but = f"; no unit for {without}" if without else ""
    agree = "bit for bit" if found.verdict == "bitwise" else f"within rounding, to {found.residual:.0e}"
    return Text.assemble(name, ("consistent", "bold green"), f"{but}. Runs rescaled by these units agree {agree}.")


def _rows(found):
    given = Values(found.probed[0])
    for key, unit in found.entries():
        said = found.said(key, unit).split(",")[0].split(" (")[0]  # residual and value are said elsewhere
        said = f"{found.nearby[key]} (nearby)" if key in found.nearby else said
        converted = (_converted(key, given[key], unit, *scales) for scales in ((1, FACTOR), (FACTOR, 1)))
        yield key, value_text(given[key]), said, *converted


def _converted(key, value, unit, weight, loss):
    try:
        new = convert_value(key, value, unit, weight, loss)
    except (TypeError, ValueError):  # without a unit, or beyond the range of floats
        return "?"
    return "same" if new is value else value_text(new)


def _paragraphs(found):
    others = [(name, value) for name, value in found.probed[0].items() if name not in found.hyperparameters]
    kept = ", ".join(f"{name}={value!s:.30}" for name, value in others if value is not None and value is not False)
    legend = "L is the unit of the loss, W that of a parameter, 1 that of a pure number."
    yield f"{legend} Measured with {kept}." if kept else legend
    lr = found.hyperparameters.get("lr")
    if isinstance(lr, Unit):
        loss, weight, steps = lr.factor(loss=FACTOR), lr.factor(weight=FACTOR), lr.factor(loss=1 / FACTOR)
        makes = "as large as before" if steps == 1 else f"{steps:.3g} times as large"
        needs = "" if loss == 1 else f" and needs lr × {loss:.3g} to train the same"
        stored = "the same lr" if weight == 1 else f"lr × {weight:.3g}"
        given = f"{found.suspect}=0 and " if found.suspect else ""
        yield (
            f"With {given}lr as it is, a loss {TIMES} makes steps {makes} (degree {found.degree}){needs}. Parameters "
            f"stored {TIMES} need {stored} to train the same. The other hyperparameters change as in the table."
        )
    if found.verdict == "inconsistent" or found.inconsistent:
        yield " ".join(_faults(found))
    if found.undetermined:
        yield (
            f"Undetermined: {', '.join(found.undetermined)}. No run shows an effect, or shows it only together with "
            "another's, as in a product. Give values with which each acts alone, if there are any, and measure again."
        )


def _faults(found):
    if found.reason and found.verdict == "inconsistent":
        yield f"{found.reason[0].upper()}{found.reason[1:].rstrip('.')}."
    if found.inconsistent:
        shares = ", ".join(f"{key} leaves {_percent(share)}" for key, share in found.inconsistent.items())
        yield f"When made to matter or changed, {shares} of a run unexplained."
    if found.verdict != "inconsistent":
        yield "The other units hold for the values given."
    elif found.suspect:
        yield f"The units and numbers above hold for {found.suspect}=0 only: give that, or find where in the code"
        yield f"{found.suspect} meets quantities of different units, correct it, and measure again."
    else:
        if found.nearby:
            yield "Units marked nearby hold for small changes of scale only: do not convert by them."
        yield "Look in the code for a constant that is added to a gradient, a parameter or the state, or compared with"
        yield "one, and for steps of different kinds under one lr; correct it, and measure again. Until then, tune the"
        yield "values anew whenever the scale of the loss or of the parameters changes."


def _percent(share):
    return f"{float(f'{100 * share:.2g}'):g} %"  # 100 %, not 1e+02 %
