"""A conversion as a report for a terminal: the reason in a line, and each hyperparameter before and after."""

from rich.console import Group
from rich.text import Text

from scaleinv._report import table, value_text
from scaleinv._convert.settings import convert, defaults_of
from scaleinv.known_optimizers import units_of
from scaleinv.units import G


def convert_report(optimizer_class, hyperparameters, change):
    """What ``convert`` makes of a change and why, for ``rich.print`` or a ``rich`` console of any width.

    Arguments and errors are those of ``convert``.
    """
    new = convert(optimizer_class, hyperparameters, change)
    units = units_of(optimizer_class, hyperparameters).hyperparameters
    old = defaults_of(optimizer_class) | hyperparameters
    rows = [(name, units[name], old[name], new[name]) for name in units if name in new and new[name] is not old[name]]
    parts = [Text(f"For {change.of}: {change.reason}.")]
    if rows:
        cells = [(n, value_text(a), value_text(b), *_unit_and_factor(unit, change)) for n, unit, a, b in rows]
        parts += [Text(), table(("hyperparameter", "before", "after", "unit", "factor"), cells), Text()]
    changed = [row[0] for row in rows]
    kept = [name for name in units if name in old and name not in changed]
    return Group(*parts, Text(" ".join(_notes(change, kept))))


def _unit_and_factor(unit, change):
    units = unit if isinstance(unit, tuple) else (unit,)
    factors = [f"{u.factor(weight=change.weight, loss=change.loss):.4g}" for u in units]
    words = [", ".join(parts) for parts in (map(str, units), factors)]
    return [f"({word})" for word in words] if len(units) > 1 else words


def _notes(change, kept):
    if kept:
        yield f"As they are: {', '.join(kept)}."
    factor = G.factor(weight=change.weight, loss=change.loss)
    if change.weight == 1 and factor != 1:
        yield f"A max_norm of clip_grad_norm_, in {G}: times {factor:.4g}."
    if not change.exact:
        yield f"It is the same training only where the module divides by {change.weight:.4g} again."
    elif factor != 1:
        stored = f"the parameters (zeros stay zeros) by {change.weight:.4g} and " if change.weight != 1 else ""
        yield f"In the middle of a training scaleinv.rescale multiplies {stored}the optimizer's state by their factors."
