"""What a change of units changes in an optimizer: its hyperparameters, its state, and the gradients."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from scaleinv._convert import convert_value, convert_values, defaults_of
from scaleinv._kinds import KINDS
from scaleinv._leaves import leaves, values_of_buffer
from scaleinv._reparam.schedulers import IN_GROUPS, PURE_IN_GROUPS, NewGroup, SchedulerChange, scheduler_changes
from scaleinv.known_optimizers import units_of
from scaleinv.units import ONE, G, HyperparameterUnit, Unit, Units

_Group: TypeAlias = dict[str, Any]
_NOT_NUMBERS = ("params", "param_names")  # of a group


class TensorChange(NamedTuple):
    """A gradient or state buffer, and its new values."""

    tensor: torch.Tensor
    new: torch.Tensor


class NumberChange(NamedTuple):
    """A number in a parameter's state, or in a list, dict or object there, and its new value."""

    container: Any
    key: Any
    new: float


@dataclass(frozen=True)
class Conversion:
    """Everything that a change of units changes in an optimizer; ``plan_conversion`` computes it.

    Attributes:
        optimizer: the optimizer.
        groups: for each of its parameter groups, the groups that take its place.
        defaults: its new defaults.
        tensors: the gradients and state buffers that change.
        numbers: the numbers in its state that change.
        schedulers: what changes in its learning-rate schedulers.
    """

    optimizer: torch.optim.Optimizer
    groups: list[list[_Group]]
    defaults: dict[str, Any]
    tensors: list[TensorChange]
    numbers: list[NumberChange]
    schedulers: list[SchedulerChange]

    def apply(self) -> None:
        """Change the optimizer and the gradients in place."""
        with torch.no_grad():
            for tensor, new in self.tensors:
                tensor.copy_(new)
        for container, key, number in self.numbers:
            container[key] = number
        for scheduler in self.schedulers:
            scheduler.apply()
        added, in_place = [], self._tensors_to_keep()
        for group, (first, *others) in zip(self.optimizer.param_groups, self.groups, strict=True):
            for name, new in first.items():
                if id(group[name]) in in_place:
                    group[name].copy_(new)
                else:
                    group[name] = new
            added += others
        self.optimizer.param_groups += added
        self.optimizer.defaults.update(self.defaults)

    def _tensors_to_keep(self) -> set[int]:
        """The ids of tensors in groups, such as an lr that the user or a compiled step holds too, which get one new
        value: they are changed in place."""
        values: dict[int, list[torch.Tensor]] = {}
        for group, (first, *_) in zip(self.optimizer.param_groups, self.groups, strict=True):
            for name, new in first.items():
                if isinstance(group[name], torch.Tensor):
                    values.setdefault(id(group[name]), []).append(new)
        return {key for key, (one, *others) in values.items() if all(torch.equal(one, other) for other in others)}


def plan_conversion(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[nn.Parameter, float],
    loss: float,
    units: Units | None,
    with_schedulers: bool = True,
) -> Conversion:
    """Compute what a change of units changes in an optimizer.  Nothing is changed yet.

    Args:
        optimizer: the optimizer.
        weights: parameter → its factor; other parameters keep their scale.
        loss: the factor of the loss.
        units: the optimizer's units, if they are not in ``UNITS``.
        with_schedulers: whether to look for its schedulers among all live objects, which takes some 20 ms.

    Raises:
        TypeError: if ``optimizer`` is not an optimizer.
        ValueError: if the units do not hold for a kind of parameters; if a hyperparameter, another number in a group
            or a state buffer has no known unit; if a state buffer does not fit its parameter, a scheduler cannot be
            carried along, or a result leaves the range of its dtype.
    """
    _check_optimizer(optimizer)
    if units is not None and units.midway:
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} cannot be rescaled in the middle of a training: {units.midway}; "
            "make it anew with converted settings (scaleinv.convert)"
        )
    planner = _Planner(optimizer, loss, units)
    planner.check_kinds(weights)
    parts = [(group, _by_factor(group["params"], weights)) for group in optimizer.param_groups]
    changes = [
        change for group, by in parts for weight, ps in by.items() for change in planner.states(group, ps, weight)
    ]
    groups = [[planner.group(group, ps, weight) for weight, ps in by.items()] or [group] for group, by in parts]
    factors = {weight for _, by in parts for weight in by}
    return Conversion(
        optimizer,
        groups,
        # of a group that is added later, whose parameters are taken to be stored like those here
        defaults=planner.hyperparameters(optimizer.defaults, factors.pop() if len(factors) == 1 else 1.0),
        tensors=[change for change in changes if isinstance(change, TensorChange)],
        numbers=[change for change in changes if isinstance(change, NumberChange)],
        schedulers=scheduler_changes(optimizer, _new_groups(planner, parts), loss) if with_schedulers else [],
    )


_Parts: TypeAlias = list[tuple[_Group, dict[float, list[nn.Parameter]]]]


def _new_groups(planner: "_Planner", parts: _Parts) -> list[NewGroup]:
    """The groups after the change, in their order: the first part of each, then all others."""
    each = [
        [NewGroup(number, planner.lr_factor(group, weight)) for weight in by or [1.0]]
        for number, (group, by) in enumerate(parts)
    ]
    return [of_one[0] for of_one in each] + [other for of_one in each for other in of_one[1:]]


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
    if isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        raise TypeError(
            f"optimizer={type(optimizer).__name__} wraps {type(inner).__name__}; pass that one, optimizer.optimizer"
        )


def _by_factor(
    parameters: Iterable[nn.Parameter], weights: Mapping[nn.Parameter, float]
) -> dict[float, list[nn.Parameter]]:
    parts: dict[float, list[nn.Parameter]] = {}
    for p in parameters:
        parts.setdefault(weights.get(p, 1.0), []).append(p)
    return parts


@dataclass(frozen=True)
class _Planner:
    """Converts parts of an optimizer whose loss is rescaled by ``loss``."""

    optimizer: torch.optim.Optimizer
    loss: float
    units: Units | None

    def units_in(self, group: _Group) -> Units:
        return units_of(self.units or type(self.optimizer), group)

    def check_kinds(self, weights: Mapping[nn.Parameter, float]) -> None:
        """Refuse parameters of a kind for which the units do not hold."""
        groups = self.optimizer.param_groups
        if self.loss == 1 and all(weights.get(p, 1.0) == 1 for group in groups for p in group["params"]):
            return
        for kind in {kind for group in groups for kind in self.units_in(group).not_for}:
            if KINDS[kind].in_groups(groups):
                raise ValueError(
                    f"optimizer: the units of {type(self.optimizer).__name__} do not hold for parameters {kind}, which "
                    "it may hold"
                )

    def hyperparameters(self, group: _Group, weight: float) -> _Group:
        """The group with all its numbers in the new units: hyperparameters, running state, and what schedulers left."""
        units = self.units_in(group)
        if weight == self.loss == 1:
            return group
        settings = {*units.hyperparameters, *defaults_of(self.units or type(self.optimizer)), *_NOT_NUMBERS}
        running = {
            name: convert_value(name, value, self._unit_in_group(name, units), weight, self.loss)
            for name, value in group.items()
            if name not in settings and _is_number(value)
        }
        return {**group, **running, **convert_values(group, units, weight, self.loss)}

    def _unit_in_group(self, name: str, units: Units) -> HyperparameterUnit:
        """The unit of a number that is in a group without being a hyperparameter."""
        if name in PURE_IN_GROUPS:
            return ONE
        unit = units.hyperparameters.get("lr") if name in IN_GROUPS else units.state.get(name)
        if unit is None:
            optimizer = type(self.optimizer).__name__
            raise ValueError(
                f"{name!r} in a parameter group of {optimizer} has no known unit and cannot be converted; pass the "
                "units of all numbers in the group, as measured by infer_units"
            )
        return unit

    def lr_factor(self, group: _Group, weight: float) -> float:
        """The factor of the group's lr; 1 where it has no unit, which the conversion of lr itself refuses."""
        unit = self.units_in(group).hyperparameters.get("lr")
        return unit.factor(weight=weight, loss=self.loss) if isinstance(unit, Unit) else 1.0

    def group(self, group: _Group, parameters: list[nn.Parameter], weight: float) -> _Group:
        """The group of those of its parameters whose factor is ``weight``."""
        new = self.hyperparameters(group, weight) | {"params": parameters}
        if "param_names" in group:
            names = dict(zip(group["params"], group["param_names"], strict=True))
            new["param_names"] = [names[p] for p in parameters]
        return new

    def states(
        self, group: _Group, parameters: list[nn.Parameter], weight: float
    ) -> Iterator[TensorChange | NumberChange]:
        """The changes of the parameters' gradients and state."""
        if weight == self.loss == 1:
            return
        units = self.units_in(group).state
        for p in parameters:
            if p.grad is not None:
                yield from _tensor_change("grad", p.grad, p, G.factor(weight=weight, loss=self.loss))
            for name, container, key, value in leaves(self.optimizer.state.get(p, {})):
                factor = self._state_unit(name, units).factor(weight=weight, loss=self.loss)
                if isinstance(value, torch.Tensor):
                    self._check_shape(name, value, p)
                    yield from _tensor_change(name, value, p, factor)
                elif factor != 1:
                    yield NumberChange(container, key, float(value) * factor)

    def _check_shape(self, name: str, value: torch.Tensor, p: torch.Tensor) -> None:
        """A buffer of torch.optim has the parameter's shape, or is broadcast to it; others may be factored."""
        if self.units is None and value.numel() > 1 and not _broadcasts(value.shape, p.shape):
            raise ValueError(
                f"{name} of a parameter of shape {tuple(p.shape)} has the shape {tuple(value.shape)}; was it loaded "
                "from another model?"
            )

    def _state_unit(self, name: str, units: Mapping[str, Unit | None]) -> Unit:
        unit = units.get(name)
        if unit is None:
            optimizer = type(self.optimizer).__name__
            raise ValueError(f"state {name!r} of {optimizer} has no known unit; known are {sorted(units)}")
        return unit


def _is_number(value: Any) -> bool:
    """Whether a value of a group is a number, or a tuple or list of numbers; a flag is not."""
    if isinstance(value, tuple | list):
        return bool(value) and all(_is_number(entry) for entry in value)
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and value.dtype != torch.bool
    return isinstance(value, Real) and not isinstance(value, bool)


def _tensor_change(name: str, tensor: torch.Tensor, p: torch.Tensor, factor: float) -> Iterator[TensorChange]:
    if factor == 1:
        return
    description = f"{name} of a parameter of shape {tuple(p.shape)}"
    yield TensorChange(tensor, multiplied(values_of_buffer(tensor.detach()), factor, description))


def _broadcasts(shape: torch.Size, target: torch.Size) -> bool:
    try:
        return torch.broadcast_shapes(shape, target) == target
    except RuntimeError:
        return False


def multiplied(tensor: torch.Tensor, factor: float, description: str, *, keep_nonzero: bool = False) -> torch.Tensor:
    """Return ``tensor``·factor.

    Args:
        tensor: the tensor.
        factor: the factor.
        description: what the tensor is called in an error.
        keep_nonzero: whether to refuse that an entry turns into zero.

    Raises:
        ValueError: if an entry overflows, or turns into zero where ``keep_nonzero``.
    """
    new = tensor * factor
    before, after = (each.coalesce().values() if each.is_sparse else each for each in (tensor, new))
    lost = after.isfinite().logical_not() & before.isfinite()
    if keep_nonzero:
        lost |= (after == 0) & (before != 0)
    if lost.any():
        worst = before[lost][0].item()
        raise ValueError(f"{description}: {worst:.3g} times {factor:g} leaves the range of {tensor.dtype}")
    return new
