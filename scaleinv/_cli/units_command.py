"""``units``: an optimizer's units, measured."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from scaleinv._cli.outcome import Outcome
from scaleinv._cli.words import check_names, import_optimizer, parse_hyperparameters
from scaleinv._hyperparameters import values_of
from scaleinv._infer import InferredUnits, infer_units, units_report


def units_outcome(path: str, words: Sequence[str]) -> Outcome:
    """The report on the optimizer that a path names, with hyperparameters from words."""
    return Outcome(units_report(measure(path, parse_hyperparameters(words))))


def measure(path: str, hyperparameters: dict[str, Any]) -> InferredUnits:
    """Measure the units of the optimizer that a path names.

    Args:
        path: ``package.module.Name``; ``Name`` alone is looked up in ``torch.optim``.
        hyperparameters: name → value.

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
        return infer_units(factory, hyperparameters)
    except ValueError as error:
        raise ValueError(_shortened(str(error).replace(f"factory={factory!r}", path), hyperparameters)) from error


def _shortened(message: str, hyperparameters: dict[str, Any]) -> str:
    """An error of ``infer_units``, which repeats all values, and may have a reason for each kind of parameters."""
    values = ", ".join(f"{name}={value!r}" for name, value in hyperparameters.items()) or "its defaults"
    message = re.sub(r"\. It was called with \{.*\}$", "", message, flags=re.DOTALL)
    message = message.replace("could not be run: ", f"could not be run with {values}: ", 1)
    advice = "pass what it needs as --name value, or name a function of yours that makes the optimizer"
    return f"{textwrap.shorten(message, 400, placeholder=' ...')}; {advice}"
