"""``width``: settings of each layer at another width, and whether they hold."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text
from torch import nn

from scaleinv._cli.outcome import Outcome
from scaleinv._cli.words import check_names, import_function, import_optimizer, parse_expected, parse_hyperparameters
from scaleinv._report import as_json
from scaleinv._width import coordinate_check, width

SETTINGS = "--base 64 --width 512 --optimizer torch.optim.AdamW --lr 1e-3"
CHECK = "--check 64,128,256"


def width_outcome(options: argparse.Namespace, words: Sequence[str]) -> Outcome:
    """The settings, or with ``--check`` the coordinate check, of a model that a function of the width makes.

    Raises:
        ImportError, TypeError, ValueError: as ``width`` and ``coordinate_check``, and if an option is missing.
    """
    make = import_function(options.factory)
    if options.check is not None:
        return _check(make, options, words)
    missing = [name for name in ("base", "width", "optimizer") if getattr(options, name) is None]
    if missing:
        raise ValueError(f"--{missing[0]} is missing; give it, as in {SETTINGS}, or {CHECK}")
    optimizer = import_optimizer(options.optimizer)
    settings = parse_hyperparameters(words)
    check_names(optimizer, list(settings))
    model, base = (_model(make, n, options.factory) for n in (options.width, options.base))
    kinds = parse_expected(options.kind, "position=input", "--kind")
    result = width(model, base, optimizer, settings, kinds=kinds, start=options.start)
    if not options.json:
        return Outcome(Text(str(result)))
    return Outcome(as_json({"n": float(result.n), "parameters": _rows(result.frame().reset_index())}))


def _check(make: Callable[..., Any], options: argparse.Namespace, words: Sequence[str]) -> Outcome:
    if words:
        raise ValueError(f"{' '.join(words)!r} is not understood beside --check; {options.factory} makes the optimizer")
    try:
        widths = [int(each) for each in options.check.split(",")]
    except ValueError:
        raise ValueError(f"--check {options.check} is not a list of widths; give one as in {CHECK}") from None
    check = coordinate_check(make, widths, steps=options.steps)
    return Outcome(as_json(check.as_dict()) if options.json else check.report(), int(options.fail and not check.level))


def _model(make: Callable[..., Any], n: int, name: str) -> nn.Module:
    """What the function makes, or the first of what it makes."""
    try:
        made = make(n)
    except Exception as error:  # whatever a user's code may raise
        raise ValueError(f"{name}({n}) fails: {type(error).__name__}: {error}; it has to take the width") from error
    model = made[0] if isinstance(made, tuple | list) and made else made
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name}({n}) returns {type(model).__name__}; it has to return a model, or a model first")
    return model


def _rows(frame: Any) -> list[Mapping[str, Any]]:
    return [{key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}
            for row in frame.to_dict("records")]  # fmt: skip
