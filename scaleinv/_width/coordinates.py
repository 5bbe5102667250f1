"""Check by training whether a step moves every module's output as far at one width as at another."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from rich.console import RenderableType
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from scaleinv._checks import check_count
from scaleinv._float64 import in_float64
from scaleinv._random_state import kept_random_state
from scaleinv._report import as_text, json_value
from scaleinv._width.coordinate_picture import plot_check
from scaleinv._width.coordinate_report import LEVEL, check_report, page_of, sentence
from scaleinv.curves import slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Made = tuple[nn.Module, Optimizer, Callable[[], Tensor]]
WHOLE = "(output)"  # the name of the whole model


@dataclass(frozen=True)
class CoordinateCheck:
    """What ``coordinate_check`` returns.

    Attributes:
        data: a DataFrame with a row for each width, seed, step and module: size is the RMS of the module's output,
            change the RMS of what it has changed by since the start.

    >>> import pandas
    >>> from scaleinv._width import CoordinateCheck
    >>> rows = [(n, seed, 1, "head", 1.0, n * 1.0) for n in (16, 32, 64) for seed in (0, 1)]
    >>> check = CoordinateCheck(pandas.DataFrame(rows, columns=["width", "seed", "step", "module", "size", "change"]))
    >>> check.level, check.frame().loc["head", "verdict"]
    (False, 'grows')
    """

    data: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row for each module: how its change, and its size at the start, go with the width.

        Returns:
            A DataFrame, indexed by module, with the columns slope (of the change after the last step, in log-log),
            error (its standard error, over the seeds), verdict ("level", "grows", "shrinks", "unclear", or "not
            finite"), and start (the slope of the size before the first step).
        """
        return self._frame.copy()

    @cached_property
    def _frame(self) -> pd.DataFrame:
        last, first = self.data["step"].max(), self.data["step"].min()
        rows = []
        for module, of_one in self.data.groupby("module", sort=False):
            value, error = _slope(of_one[of_one["step"] == last], "change")
            start, _ = _slope(of_one[of_one["step"] == first], "size")
            rows.append((module, value, error, _verdict(value, error), start))
        columns = ["module", "slope", "error", "verdict", "start"]
        return pd.DataFrame(rows, columns=columns).set_index("module")

    @property
    def level(self) -> bool:
        """Whether no module's change grows or shrinks with the width."""
        return bool(self._frame["verdict"].isin(["level"]).all())

    @property
    def verdict(self) -> str:
        """What the check found, in a sentence."""
        return sentence(self._frame)

    def report(self) -> RenderableType:
        """The verdict and a table, for ``rich.print``."""
        return check_report(self._frame, self.data)

    def plot(self) -> "Figure":
        """Draw the change of each module after the last step against the width.

        Raises:
            ImportError: without matplotlib.
        """
        return plot_check(self._frame, self.data)

    def as_dict(self) -> dict[str, Any]:
        """All numbers, for JSON: the verdict, a slope for each module, and the data; None where one is not finite."""
        modules = self._frame.reset_index().to_dict("records")
        return {"verdict": self.verdict, "level": self.level, "modules": _plain(modules),
                "data": _plain(self.data.to_dict("records"))}  # fmt: skip

    def __str__(self) -> str:
        return as_text(self.report())

    def _repr_html_(self) -> str:
        return page_of(str(self), self.plot)


def coordinate_check(
    make: Callable[..., Made], widths: Iterable[int], *, steps: int = 3, seeds: Iterable[int] = range(3)
) -> CoordinateCheck:
    """Train a model for a few steps at several widths, and compare how far each module's output moves.

    If every layer has the lr that holds at its width, the change is the same at all widths: its slope over the width,
    in log-log, is 0.  Exponents are multiples of ½, so a change is called level if its slope is surely less than ¼
    from 0, by twice its standard error, and growing or shrinking if it is surely more.

    The check of Yang et al. (2021), arXiv 2203.03466, appendix D.1, who look at the activations.

    Args:
        make: ``make(width)`` returns the model, an optimizer of it, and a function without arguments that returns the
            loss on one batch, always the same.  If it takes ``seed``, it gets that too; torch is seeded before anyway.
        widths: three or more.
        steps: of training, after which the outputs are compared with those at the start.
        seeds: two or more; they give the slopes an error.

    Returns:
        A ``CoordinateCheck``, of the modules that have parameters of their own and are called, and of the whole model.

    Raises:
        TypeError: if ``make`` cannot be called, or returns something else.
        ValueError: if there are too few widths or seeds, or two losses of one model differ.

    The random state of torch stays as it was.

    >>> import torch, scaleinv
    >>> from torch import nn
    >>> x, y = torch.randn(32, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 4
    >>> def make(width):
    ...     model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 4))
    ...     optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ...     return model, optimizer, lambda: nn.functional.cross_entropy(model(x), y)
    >>> check = scaleinv.coordinate_check(make, [32, 128, 512])
    >>> check.frame()["verdict"].tolist()
    ['level', 'grows', 'grows']
    """
    if not callable(make):
        raise TypeError(f"make={make!r} cannot be called; pass a function of the width")
    steps = check_count("steps", steps)
    at = sorted({check_count("widths", each) for each in widths})
    seeds = list(seeds)
    if len(at) < 3 or len(set(seeds)) < 2:
        raise ValueError(f"widths={at}, seeds={seeds}: give three widths or more, and two seeds or more")
    with_seed = "seed" in inspect.signature(make).parameters
    rows = []
    with kept_random_state():
        for n in tqdm(at, desc="coordinate_check", unit=" widths", delay=1, leave=False, disable=None):
            for seed in seeds:
                torch.manual_seed(seed)
                made = make(n, seed=seed) if with_seed else make(n)
                rows += [(n, seed, *row) for row in _trained(_checked(made), steps)]
    data = pd.DataFrame(rows, columns=["width", "seed", "step", "module", "size", "change"])
    of_all = data.groupby("module")["width"].nunique()
    return CoordinateCheck(data[data["module"].isin(of_all[of_all == len(at)].index)].reset_index(drop=True))


def _checked(made: Any) -> Made:
    fits = isinstance(made, tuple | list) and len(made) == 3
    if not fits or not isinstance(made[0], nn.Module) or not isinstance(made[1], Optimizer) or not callable(made[2]):
        returned = ", ".join(type(each).__name__ for each in made) if isinstance(made, tuple | list) else repr(made)
        raise TypeError(f"make returns {returned}; it has to return a model, an optimizer, and a function for the loss")
    return made[0], made[1], made[2]


def _trained(made: Made, steps: int) -> Iterator[tuple[int, str, float, float]]:
    """(step, module, size, change) of one training."""
    model, optimizer, loss = made
    first, start = _outputs(model, loss)
    again, _ = _outputs(model, loss)
    if not torch.equal(first, again):
        raise ValueError(
            f"make: its loss is {first.item():.6g}, and {again.item():.6g} when it is computed again; let it return "
            "the loss on one batch, the same each time"
        )
    for step in range(steps + 1):
        if step:
            optimizer.zero_grad()
            with _same_noise():
                loss().backward()
            optimizer.step()
        _, outputs = _outputs(model, loss)
        for name, output in outputs.items():
            yield step, name, _rms(output), _rms([new - old for new, old in zip(output, start[name], strict=True)])


def _outputs(model: nn.Module, loss: Callable[[], Tensor]) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """The loss, and what each module returns on its way, call by call."""
    found: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple | list) and len(output) else output
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                found.setdefault(name, []).append(tensor.detach().clone())

        return hook

    own = [
        (name, each)
        for name, each in model.named_modules()
        if name and next(each.parameters(recurse=False), None) is not None
    ]
    handles = [each.register_forward_hook(keep(name)) for name, each in [*own, (WHOLE, model)]]
    try:
        with torch.no_grad(), _same_noise():
            value = loss()
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TypeError("make: the loss is not a tensor of one number; let its third result return one")
    whole = found.pop(WHOLE, [])
    if not any(len(each) == len(whole) and all(map(torch.equal, each, whole)) for each in found.values()):
        found[WHOLE] = whole
    return value.detach(), found


@contextmanager
def _same_noise() -> Iterator[None]:
    """The same random numbers, as for dropout, in each pass."""
    with kept_random_state():
        torch.manual_seed(0)
        yield


def _rms(tensors: list[Tensor]) -> float:
    squares = sum(in_float64(each).square().sum().item() for each in tensors)
    return (squares / max(1, sum(each.numel() for each in tensors))) ** 0.5


def _slope(rows: pd.DataFrame, column: str) -> tuple[float, float]:
    """The slope over the width and its error; NaN where a number is not positive and finite."""
    lines = rows.pivot(index="seed", columns="width", values=column)
    if not (np.isfinite(lines.to_numpy()) & (lines.to_numpy() > 0)).all():
        return (0.0, 0.0) if (lines.to_numpy() == 0).all() else (np.nan, np.nan)
    fit = slope(lines.stack().to_xarray(), over="width")
    return fit.value, fit.error


def _verdict(value: float, error: float) -> str:
    if np.isnan(value):
        return "not finite"
    if abs(value) + 2 * error < LEVEL:
        return "level"
    if abs(value) - 2 * error > LEVEL:
        return "grows" if value > 0 else "shrinks"
    return "unclear"


def _plain(rows: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    return [{str(key): json_value(value) for key, value in row.items()} for row in rows]


__all__ = ["CoordinateCheck", "coordinate_check"]
