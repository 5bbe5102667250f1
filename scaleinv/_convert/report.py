"""A conversion as a report for a terminal: its reason, and each hyperparameter before and after."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from scaleinv._convert.settings import OptimizerOrUnits, convert, defaults_of
from scaleinv._report import table, value_text
from scaleinv.changes import Change
from scaleinv.known_optimizers import units_of
from scaleinv.units import ONE, G, HyperparameterUnit

_HEADINGS = ("hyperparameter", "before", "after", "unit", "factor")


def convert_report(optimizer_class: OptimizerOrUnits, hyperparameters: Mapping[str, Any], change: Change) -> Group:
    """Report what ``convert`` does for a change, and why.

    Args:
        optimizer_class: as for ``convert``.
        hyperparameters: as for ``convert``.
        change: as for ``convert``.

    Returns:
        An object for ``rich.print`` or a ``rich`` console of any width.

    Raises:
        TypeError: as ``convert``.
        ValueError: as ``convert``.

    >>> import torch
    >>> from rich.console import Console
    >>> from scaleinv import changes
    >>> from scaleinv._convert import convert_report
    >>> report = convert_report(torch.optim.SGD, {"lr": 0.1}, changes.loss_times(8))
    >>> Console(width=80).print(report)  # doctest: +NORMALIZE_WHITESPACE
    For all parameters: the loss is 8 times as large, and so are its gradients.
    <BLANKLINE>
    hyperparameter  before  after   unit    factor
    lr              0.1     0.0125  L⁻¹ W²  0.125
    <BLANKLINE>
    Unchanged: momentum, dampening, weight_decay. The max_norm of clip_grad_norm_,
    of unit L W⁻¹: times 8. In the middle of a training scaleinv.rescale multiplies
    the optimizer's state by its factors.
    """
    new = convert(optimizer_class, hyperparameters, change)
    units = units_of(optimizer_class, hyperparameters).hyperparameters
    old = {**defaults_of(optimizer_class), **hyperparameters}
    changed = [name for name in units if name in new and new[name] is not old[name]]
    unchanged = [name for name in units if name in old and name not in changed]
    parts: list[Any] = [Text(f"For {change.of}: {change.reason}.")]
    if changed:
        rows = [_row(name, old[name], new[name], units[name], change) for name in changed]
        parts += [Text(), table(_HEADINGS, rows), Text()]
    return Group(*parts, Text(" ".join(_notes(change, unchanged))))


def _row(name: str, old: Any, new: Any, unit: HyperparameterUnit, change: Change) -> tuple[str, ...]:
    if change.decay:
        return name, value_text(old), value_text(new), str(unit), "1/lr" if change.decay == "times lr" else "lr"
    if change.of_time:
        factor = f"power {change.batch:.4g}" if unit == ONE else f"{float(new / old):.4g}"  # of a decay rate, or others
        return name, value_text(old), value_text(new), str(unit), factor
    units = unit if isinstance(unit, tuple) else (unit,)
    factors = [f"{u.factor(weight=change.weight, loss=change.loss):.4g}" if u else "1" for u in units]
    texts = [", ".join(each) for each in (map(str, units), factors)]
    if len(units) > 1:
        texts = [f"({text})" for text in texts]
    return name, value_text(old), value_text(new), *texts


def _notes(change: Change, unchanged: list[str]) -> Iterator[str]:
    if unchanged:
        yield f"Unchanged: {', '.join(unchanged)}."
    if change.of_time:
        yield " ".join(("Not exact.", *change.limits))
        return
    if change.decay:
        yield "With a schedule, lr is that at which its multiplier is 1, and a decay without lr is to be multiplied by"
        yield "the schedule too."
    factor = G.factor(weight=change.weight, loss=change.loss)
    if change.weight == 1 and factor != 1:
        yield f"The max_norm of clip_grad_norm_, of unit {G}: times {factor:.4g}."
    if not change.exact:
        yield f"The training is the same only if the module divides by {change.weight:.4g} again."
    elif factor != 1:
        stored = f"the parameters (zeros stay zeros) by {change.weight:.4g} and " if change.weight != 1 else ""
        yield f"In the middle of a training scaleinv.rescale multiplies {stored}the optimizer's state by its factors."
