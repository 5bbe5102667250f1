"""``gradients``: two saved gradients, compared."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scaleinv._cli.outcome import Outcome
from scaleinv._cli.units_command import measure
from scaleinv._cli.words import import_function, import_optimizer
from scaleinv._gradients import compare_gradients
from scaleinv._infer import infer_units
from scaleinv._report import as_json
from scaleinv.known_optimizers import UNITS


def gradients_outcome(options: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    """The comparison that the options ask for, as a report or as JSON."""
    if rest:
        raise ValueError(f"{' '.join(rest)!r} is not understood; give A.pt B.pt --optimizer OPTIMIZER")
    optimizer = None
    if options.optimizer is not None:
        known = import_optimizer(options.optimizer)
        optimizer = known if known in UNITS else measure(options.optimizer, {}, infer_units)
    a, b = _source(options.a), _source(options.b)
    result = compare_gradients(a, b, optimizer=optimizer, tolerance=options.tolerance)
    text = as_json(result.as_dict()) if options.json else ""
    return Outcome(text or result.report(), int(options.fail and result.kind != "equal"))


def _source(word: str) -> str | Callable[[], Any]:
    """A file, or a step that package:function names."""
    return import_function(word) if ":" in word and not Path(word).exists() else word
