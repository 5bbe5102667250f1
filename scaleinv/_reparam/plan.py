"""What a change of units changes in an optimizer: its hyperparameters, its state, and the gradients."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from scaleinv._convert import convert_value, convert_values
from scaleinv.known_optimizers import units_of
from scaleinv.units import G, Unit, Units

_Group: TypeAlias = dict[str, Any]


class TensorChange(NamedTuple):
    """A gradient or state buffer, and its new values."""

    tensor: torch.Tensor
    new: torch.Tensor


class NumberChange(NamedTuple):
    """A number in a parameter's state, and its new value."""

    state: dict[str, Any]
    name: str
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
    """

    optimizer: torch.optim.Optimizer
    groups: list[list[_Group]]
    defaults: dict[str, Any]
    tensors: list[TensorChange]
    numbers: list[NumberChange]

    def apply(self) -> None:
        """Change the optimizer and the gradients in place."""
        with torch.no_grad():
            for tensor, new in self.tensors:
                tensor.copy_(new)
        for state, name, number in self.numbers:
            state[name] = number
        added = []
        for group, (first, *others) in zip(self.optimizer.param_groups, self.groups, strict=True):
            group.update(first)
            added += others
        self.optimizer.param_groups += added
        self.optimizer.defaults.update(self.defaults)


def plan_conversion(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[nn.Parameter, float],
    loss: float,
    units: Units | None,
) -> Conversion:
    """Compute what a change of units changes in an optimizer.  Nothing is changed yet.

    Args:
        optimizer: the optimizer.
        weights: parameter → its factor; other parameters keep their scale.
        loss: the factor of the loss.
        units: the optimizer's units, if they are not in ``UNITS``.

    Raises:
        TypeError: if ``optimizer`` is not an optimizer.
        ValueError: if a learning-rate scheduler is attached, a hyperparameter or a state buffer has no known unit,
            a state buffer does not fit its parameter, or a result leaves the range of its dtype.
    """
    _check_optimizer(optimizer)
    planner = _Planner(optimizer, loss, units)
    parts = [(group, _by_factor(group["params"], weights)) for group in optimizer.param_groups]
    changes = [
        change for group, by in parts for weight, ps in by.items() for change in planner.states(group, ps, weight)
    ]
    return Conversion(
        optimizer,
        groups=[[planner.group(group, ps, weight) for weight, ps in by.items()] or [group] for group, by in parts],
        defaults=planner.hyperparameters(optimizer.defaults, 1.0),
        tensors=[change for change in changes if isinstance(change, TensorChange)],
        numbers=[change for change in changes if isinstance(change, NumberChange)],
    )


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
    if getattr(optimizer.step, "_wrapped_by_lr_sched", False):
        raise ValueError(
            "optimizer: a learning-rate scheduler is attached and would continue in the old units. Detach it "
            "(`del optimizer.step`) and make a new one afterwards, with last_epoch; initial_lr is converted for it"
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

    def hyperparameters(self, group: _Group, weight: float) -> _Group:
        """The group with its hyperparameters in the new units, and what a scheduler left of them."""
        units = self.units_in(group)
        new = {**group, **convert_values(group, units, weight, self.loss)}
        if "initial_lr" in group:
            unit = units.hyperparameters["lr"]
            new["initial_lr"] = convert_value("initial_lr", group["initial_lr"], unit, weight, self.loss)
        return new

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
            state = self.optimizer.state.get(p, {})
            for name, value in state.items():
                if value is None:
                    continue
                factor = self._state_unit(name, units).factor(weight=weight, loss=self.loss)
                if not isinstance(value, Real):
                    yield from _tensor_change(name, value, p, factor)
                elif factor != 1:
                    yield NumberChange(state, name, float(value) * factor)

    def _state_unit(self, name: str, units: Mapping[str, Unit | None]) -> Unit:
        unit = units.get(name)
        if unit is None:
            optimizer = type(self.optimizer).__name__
            raise ValueError(f"state {name!r} of {optimizer} has no known unit; known are {sorted(units)}")
        return unit


def _tensor_change(name: str, tensor: torch.Tensor, p: torch.Tensor, factor: float) -> Iterator[TensorChange]:
    if factor == 1:
        return
    description = f"{name} of a parameter of shape {tuple(p.shape)}"
    if tensor.is_sparse:
        raise ValueError(f"{description} is sparse; sparse tensors cannot be rescaled")
    if tensor.numel() > 1 and not _broadcasts(tensor.shape, p.shape):
        raise ValueError(f"{description} has the shape {tuple(tensor.shape)}; was it loaded from another model?")
    yield TensorChange(tensor, multiplied(tensor.detach(), factor, description))


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
    lost = new.isfinite().logical_not() & tensor.isfinite()
    if keep_nonzero:
        lost |= (new == 0) & (tensor != 0)
    if lost.any():
        worst = tensor[lost][0].item()
        raise ValueError(f"{description}: {worst:.3g} times {factor:g} leaves the range of {tensor.dtype}")
    return new
