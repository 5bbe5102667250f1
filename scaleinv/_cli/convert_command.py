"""``convert``: an optimizer's settings after a change."""

import re
from collections.abc import Sequence
from typing import Any

from scaleinv import changes
from scaleinv._cli.outcome import Outcome
from scaleinv._cli.units_command import measure
from scaleinv._cli.words import check_names, import_optimizer, parse_hyperparameters
from scaleinv._convert import convert_report
from scaleinv._infer import infer_units
from scaleinv.known_optimizers import UNITS

CHANGES = {  # function of scaleinv.changes -> an example of its option
    "loss_times": "--loss-times 8",
    "sum_over": "--sum-over 512",
    "lora_alpha": "--lora-alpha 16,64",
    "gain": "--gain 1/sqrt(512)",
    "init_times": "--init-times 10",
    "batch": "--batch 64,256",
    "horizon": "--horizon 1000,4000",
    "decay_times_lr": "--decay-times-lr",
    "decay_independent": "--decay-independent",
}
OLD_NAMES = {"start_times": "init_times"}
EXAMPLES = ", ".join(CHANGES.values())


def convert_outcome(path: str, words: Sequence[str]) -> Outcome:
    """The report on the conversion of the optimizer that a path names, with hyperparameters and a change from words."""
    options = {OLD_NAMES.get(name, name): value for name, value in parse_hyperparameters(words).items()}
    if "to" in options:
        from scaleinv._cli.switch_command import switch_outcome

        return switch_outcome(path, options)
    given = [name for name in options if name in CHANGES]
    hyperparameters = {name: value for name, value in options.items() if name not in CHANGES}
    optimizer = import_optimizer(path)
    check_names(optimizer, list(hyperparameters), f" and no change ({EXAMPLES})")
    if len(given) != 1:
        raise ValueError(f"{len(given) or 'no'} changes are given; give one, as in {EXAMPLES}")
    change = _change(given[0], options[given[0]])
    known = optimizer if optimizer in UNITS else measure(path, hyperparameters, infer_units)
    return Outcome(convert_report(known, hyperparameters, change))


def _change(name: str, value: Any) -> changes.Change:
    entries = value if isinstance(value, tuple) else (value,)
    numbers = [] if value is True and name.startswith("decay_") else [_number(entry) for entry in entries]
    try:
        return getattr(changes, name)(*numbers)
    except TypeError as error:
        raise TypeError(f"{name}={value!r} is not such a change; give one as in {CHANGES[name]}") from error


def _number(value: Any) -> Any:
    """A number for "1/sqrt(512)" or "1/√512"; other values as they are."""
    root = re.fullmatch(r"1/(?:sqrt\(([1-9]\d*)\)|√([1-9]\d*))", str(value))
    return int(root[1] or root[2]) ** -0.5 if root else value
