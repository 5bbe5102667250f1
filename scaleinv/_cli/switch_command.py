"""``convert --to``: settings of another optimizer whose steps are as large."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from rich.console import Group
from rich.text import Text

from scaleinv._cli.outcome import Outcome
from scaleinv._cli.words import check_names, import_optimizer
from scaleinv._report import table, value_text
from scaleinv._switch import Settings, carried, check_proportional, completed, depends_on, limits, new_settings
from scaleinv.known_optimizers import StepContext

TENSOR = {  # what a step may depend on → an example of its option
    "shape": "--shape 512,2048",
    "rms": "--rms 0.02",
    "gradient_rms": "--gradient-rms 1e-4",
}
_SHAPE = (64, 64)  # where the shape does not matter


def switch_outcome(path: str, options: Mapping[str, Any]) -> Outcome:
    """The report on settings of the optimizer ``options["to"]`` in place of the one that a path names.

    Args:
        path: of the old optimizer.
        options: hyperparameters of the old optimizer; ``to``, the path of the new one; ``to_NAME``, its
            hyperparameters; and the tensor's shape, rms and gradient_rms.

    Raises:
        ImportError, TypeError, ValueError: as ``switch_optimizer``, and if something that a step depends on is missing.
    """
    own = {name: value for name, value in options.items() if name not in TENSOR and name.split("_")[0] != "to"}
    old_class, to = import_optimizer(path), import_optimizer(str(options["to"]))
    check_names(old_class, list(own), f" and nothing about a tensor ({', '.join(TENSOR.values())})")
    theirs = {name.removeprefix("to_"): value for name, value in options.items() if name.startswith("to_")}
    old, new = Settings(old_class, completed(old_class, own)), new_settings(to, theirs)
    if "lr" not in old.values:
        raise ValueError(f"{old.name} has no default for lr; give it, as in --lr 1e-3")
    for name in sorted(depends_on(old) | depends_on(new)):
        if name not in options:
            raise ValueError(f"a step depends on the tensor's {name.replace('_', ' ')}; give it, as in {TENSOR[name]}")
    row = carried(old, new, _context(options))
    check_proportional(new, row.at)
    rows = [
        (name, *(value_text(x) for x in (before, after)))
        for name, before, after in (
            ("lr", old.values["lr"], row.lr),
            ("weight_decay", old.values.get("weight_decay", 0.0), row.weight_decay),
        )
    ]
    headings = "hyperparameter", old.name, new.name
    same = f"Steps of {new.name} that are as large as those of {old.name} under noise: an RMS of {row.step:.3g}"
    decay = f", of which decay takes {row.share:.3g} of the parameter at each." if row.share else "."
    notes = ["This is not exact.", *limits(old.name, new, [row], 0)]
    return Outcome(Group(Text(same + decay), Text(), table(headings, rows), Text(), Text(" ".join(notes))))


def _context(options: Mapping[str, Any]) -> StepContext:
    shape = options.get("shape", _SHAPE)
    shape = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"shape={shape!r} is not a shape; give it as in {TENSOR['shape']}")
    sizes = {name: options.get(name, 1.0) for name in ("rms", "gradient_rms")}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Real) or not 0 < float(size) < math.inf:
            raise ValueError(f"{name}={size!r} is not a positive number; give it as in {TENSOR[name]}")
    return StepContext(shape=shape, rms=float(sizes["rms"]), gradient_rms=float(sizes["gradient_rms"]))
