"""How a live optimizer can train members: found out by trying, before anything is trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scaleinv._random_state import kept_random_state
from scaleinv._sweep.grid import Grid
from scaleinv._sweep.kinds import Point, is_live
from scaleinv._sweep.live import Factory, Optimizers, of_members, of_stacks
from scaleinv._sweep.members import Members, as_they_are, in_common_units, unit_of
from scaleinv._sweep.packing import Shapes, packed
from scaleinv.known_optimizers import units_of_rule

STEPS = 12  # of a trial: more than RAdam's first ones, and some rounds of what happens every fifth step
SAME = (
    1e-5  # of a member's way, up to which it is that of a single run; tried in float64, in which rounding is far less
)
ENTRIES = 2**19  # of all parameters in a trial at most: of large tensors a part is tried
TRIED = 64  # stacks, evenly spaced in a grid that has more
SIZES = (2.0**-7, 2.0**-19, 2.0**7)  # of the gradients in a trial


class Way(NamedTuple):
    """How members are trained.

    Attributes:
        members: as they are trained.
        alone: whether each has an optimizer of its own, and does not share one with its stack.
    """

    members: Members
    alone: bool
    is_live: bool = True

    def labels(self, grid: Grid) -> dict[str, dict[str, str]]:
        """For each axis its unit and, for the optimizer's, how it is trained: "units", "stacks" or "members"."""
        labels: dict[str, dict[str, str]] = {}
        for name in grid.hyperparameters:
            unit = unit_of(self.members.units, name)
            labels[name] = {"units": str(unit)} if unit is not None else {}
            if self.is_live and name in grid.axes and len(grid.axes[name]) > 1:
                stacks = self.members.stack_list()
                mixed = any(len({grid.points[i][name] for i in stack}) > 1 for stack in stacks)
                labels[name]["trained_by"] = "members" if self.alone else "units" if mixed else "stacks"
        return labels


def find_way(optimizer: Callable[..., Any], grid: Grid, parameters: Mapping[str, Tensor], device: torch.device) -> Way:
    """The first of three ways in which a trial gives each member what a single run gives; a rule needs no trial.

    One live optimizer for members that agree in common units; one for members with the same hyperparameters; one each.

    Args:
        optimizer: a factory of live optimizers, or a rule.
        grid: of the sweep.
        parameters: those of the largest model that are trained.
        device: on which they are: an optimizer may run there only.

    Raises:
        ValueError: if there is none, with what went wrong.
    """
    if not is_live(optimizer):
        function = optimizer.func if isinstance(optimizer, partial) else optimizer
        return Way(Members(grid.points, [0] * len(grid.points), units_of_rule(function)), alone=False, is_live=False)
    factory, failure = Factory(optimizer), None
    _check_settings(factory, grid, device)
    tried = {name: _part(p.detach(), len(parameters)).to(device) for name, p in parameters.items()}
    low_precision = any(p.element_size() < 4 for p in parameters.values())  # it would round lr₀/lr to a few digits
    for way in _ways(factory, grid, may_convert=not low_precision):
        try:
            with kept_random_state(), torch.enable_grad():
                failure = _difference(factory, way, grid, tried)
        except Exception as error:  # of whatever kind a stranger's optimizer raises
            failure = f"{type(error).__name__}: {error}"
        if failure is None:
            return way
    raise ValueError(
        f"optimizer={factory.name} cannot train members side by side, not even with one optimizer each: {failure}; "
        "train in a loop, or with one of scaleinv.optimizers"
    )


def _part(p: Tensor, tensors: int) -> Tensor:
    """The first corner of a tensor, with its share of ENTRIES, in float64."""
    most = max(2**8, ENTRIES // tensors)
    while p.numel() > most:
        longest = max(range(p.ndim), key=lambda i: p.shape[i])
        p = p.narrow(longest, 0, p.shape[longest] // 2)
    return p.double()


def _check_settings(factory: Factory, grid: Grid, device: torch.device) -> None:
    """Make an optimizer at both ends of each axis, and at each value that is not a number."""
    settings = [factory.settings({**grid.fixed, **point}) for point in grid.points]
    tried = {0: settings[0]}
    for name in {name for each in settings for name in each}:
        values = {i: each[name] for i, each in enumerate(settings) if name in each}
        numbers = {i: x for i, x in values.items() if isinstance(x, Real) and not isinstance(x, bool)}
        others = {repr(x): i for i, x in values.items() if i not in numbers}
        ends = [min(numbers, key=numbers.__getitem__), max(numbers, key=numbers.__getitem__)] if numbers else []
        tried |= {i: settings[i] for i in [*ends, *others.values()]}
    for each in tried.values():
        try:
            factory.make([torch.zeros(2, 2, device=device)], each)
        except Exception as error:  # of whatever kind a stranger's optimizer raises
            raise ValueError(f"optimizer={factory.name} cannot be made with {each}: {error}") from error


def _ways(factory: Factory, grid: Grid, may_convert: bool) -> Iterator[Way]:
    plain = as_they_are(grid.points, grid.fixed, factory)
    common = in_common_units(grid.points, grid.fixed, factory, grid.hyperparameters)
    if may_convert and max(common.stacks) < max(plain.stacks):
        yield Way(common, alone=False)
    plain = plain._replace(units=common.units)
    yield Way(plain, alone=False)
    yield Way(plain, alone=True)


def _difference(factory: Factory, way: Way, grid: Grid, parameters: Mapping[str, Tensor]) -> str | None:
    """What a trial finds wrong with a way: a member's training that is not that of a single run; None if nothing."""
    stacks = way.members.stack_list()
    for i in sorted({round(x) for x in np.linspace(0, len(stacks) - 1, min(TRIED, len(stacks)))}):
        stack = stacks[i]
        tried = _farthest(stack, way.members.points)
        points = [{**grid.fixed, **way.members.points[i]} for i in tried]
        together = _Trial(factory, points, parameters).run(way.alone)
        for i, index in enumerate(tried[:-1]):  # the gradients of the last one become NaN
            point = {**grid.fixed, **grid.points[index]}
            (single,) = _Trial(factory, [point], parameters, only=i).run(alone=True)
            if not _agree(together[i], single):
                return f"at {point} its steps are not the same beside other members, or not when repeated"
    return None


def _agree(member: Tensor, single: Tensor) -> bool:
    """Whether a member has gone where a single run goes, or nowhere; both (start and end, parameters)."""
    if not single.isfinite().all():
        return not member.isfinite().all()
    start, end = single
    allowed = SAME * (end - start).abs().max() + 1e-12 * start.abs().max()
    return bool((member - single).abs().max() <= allowed)


def _farthest(stack: Sequence[int], points: Sequence[Point]) -> list[int]:
    """Four members of a stack: its first, those in the units farthest from it, and one to diverge."""
    by_weight = sorted(stack, key=lambda i: (points[i].get("weight", 1), points[i].get("loss", 1)))
    by_loss = sorted(stack, key=lambda i: (points[i].get("loss", 1), points[i].get("weight", 1)))
    return [by_weight[0], by_weight[-1], by_loss[-1], by_loss[0]]


class _Trial:
    """Some steps of an optimizer on given gradients.

    Args:
        factory: of the optimizer.
        points: for each member, name → value.
        parameters: of a model.
        only: the number of the member, where there is one.
    """

    def __init__(
        self, factory: Factory, points: Sequence[Point], parameters: Mapping[str, Tensor], only: int | None = None
    ) -> None:
        self.factory, self.points, self.only = factory, points, only
        self.shapes: Shapes = {name: p.shape for name, p in parameters.items()}
        self.start = packed(parameters, self.shapes)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(len(self.start), generator=generator, dtype=torch.float64, device="cpu")
        self.noise = 0.5 + noise.to(self.start.device)

    def run(self, alone: bool) -> Tensor:
        """(members, start and end, parameters), as the models compute with them."""
        scales = [[[point.get(name, 1.0)] for point in self.points] for name in ("weight", "loss")]
        k, c = map(self.start.new_tensor, scales)
        w = k * self.start
        before, grad = w / k, torch.zeros_like(w)
        for t in range(STEPS):
            grad.copy_(self._gradients(t) * c / k)
            if t == 0:
                optimizers = self._optimizers(w, grad, alone)
            for optimizer in optimizers:
                optimizer.step()
        if self.only is not None:  # what the optimizer holds, wherever that is
            held = [p.detach().flatten() for group in optimizers[0].param_groups for p in group["params"]]
            w = torch.cat(held)[None]
        return torch.stack([before, w / k], dim=1)

    def _optimizers(self, w: Tensor, grad: Tensor, alone: bool) -> Optimizers:
        if alone:
            return of_members(self.factory, self.points, w, grad, (self.shapes, [self.shapes] * len(self.points)))
        return of_stacks(self.factory, self.points, w, grad)

    def _gradients(self, t: int) -> Tensor:
        """Noise with a mean; the last of four members diverges."""
        members = range(len(self.points)) if self.only is None else [self.only]
        grads = torch.stack([self.noise.roll(1000 * i + t) * SIZES[i % len(SIZES)] for i in members])
        if t >= STEPS // 3 and 3 in members:
            grads[members.index(3)] = torch.nan
        return grads
