"""``units``: an optimizer's units, measured."""

import re
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from scaleinv._cli.outcome import Outcome
from scaleinv._cli.words import check_names, import_optimizer, parse_expected, parse_hyperparameters
from scaleinv._hyperparameters import values_of
from scaleinv._infer import infer_units, units_report
from scaleinv.testing import assert_units

Measured = TypeVar("Measured")


def units_outcome(path: str, words: Sequence[str], expected: Sequence[str] = ()) -> Outcome:
    """The report on the optimizer that a path names, with hyperparameters from words.

    ``expected`` are words such as ``lr=W``: where a unit is another, the outcome says so.
    """
    wanted = parse_expected(expected, "lr=W")
    how = partial(assert_units, **wanted) if wanted else infer_units
    try:
        return Outcome(units_report(measure(path, parse_hyperparameters(words), how)))
    except AssertionError as error:
        return Outcome(str(error), 1)


def measure(path: str, hyperparameters: dict[str, Any], how: Callable[..., Measured]) -> Measured:
    """Measure the optimizer that a path names.

    Args:
        path: ``package.module.Name``; ``Name`` alone is looked up in ``torch.optim``.
        hyperparameters: name → value.
        how: ``infer_units``, or another function of a factory and hyperparameters.

    Raises:
        ImportError: if nothing of that name can be imported.
        TypeError: if it is not an optimizer.
        ValueError: if a value is missing or not finite, or the optimizer cannot be run with the values.
    """
    factory = import_optimizer(path)
    check_names(factory, list(hyperparameters))
    for name, default in values_of(factory, {})[1].items():
        if hyperparameters.get(name) is True and isinstance(default, float):
            raise ValueError(f"--{name} has no value; give one, as in --{name} {default:g}")
    try:
        return how(factory, hyperparameters)
    except ValueError as error:
        if not str(error).startswith(("factory=", "hyperparameters")):
            raise  # it is about what is expected
        raise ValueError(_shortened(str(error).replace(f"factory={factory!r}", path), hyperparameters)) from error


def _shortened(message: str, hyperparameters: dict[str, Any]) -> str:
    """An error of the measurement, which repeats all values, and may have a reason for each kind of parameters."""
    values = ", ".join(f"{name}={value!r}" for name, value in hyperparameters.items()) or "its defaults"
    message = re.sub(r"\. It was called with \{.*\}$", "", message, flags=re.DOTALL)
    message = message.replace("could not be run: ", f"could not be run with {values}: ", 1)
    advice = "pass what it needs as --name value, or name a function of yours that makes the optimizer"
    return f"{textwrap.shorten(message, 400, placeholder=' ...')}; {advice}"
