"""How many steps a run has."""

import math
from typing import Any

from scaleinv._checks import check_scale


def steps_of(steps: Any) -> float:
    """The number itself, or the one that a scheduler of torch.optim goes by; NaN for None.

    Raises:
        TypeError: if it is neither.
        ValueError: if it is not positive and finite.

    >>> from scaleinv._audit.run_steps import steps_of
    >>> steps_of(200), steps_of(None)
    (200.0, nan)
    """
    if steps is None:
        return math.nan
    names = [name for name in ("total_steps", "T_max", "total_iters") if hasattr(steps, name)]
    if names:
        return check_scale(f"steps.{names[0]}", getattr(steps, names[0]))
    if isinstance(steps, bool) or not isinstance(steps, int | float):
        raise TypeError(f"steps={steps!r} is not a number, or a scheduler that knows one; pass how many the run has")
    return check_scale("steps", steps)
