"""What a change of units changes in an optimizer: its hyperparameters, its state, and the gradients."""

from numbers import Real

import torch

from scaleinv._convert import convert_value
from scaleinv.known_optimizers import units_of
from scaleinv.units import G


class Conversion:
    """Everything about an optimizer that a change of units changes: computed, and so checked, before any is applied."""

    def __init__(self, optimizer, factors, loss, units):
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
        if getattr(optimizer.step, "_wrapped_by_lr_sched", False):
            raise ValueError(
                "optimizer: a learning-rate scheduler is attached, and would go on in the old units. Detach it "
                "(`del optimizer.step`) and make it anew afterwards, with last_epoch; initial_lr is converted for it"
            )
        self.optimizer = optimizer
        self.groups, self.tensors, self.numbers = [], [], []
        for group in optimizer.param_groups:
            parts = {}
            for p in group["params"]:
                parts.setdefault(factors.get(p, 1.0), []).append(p)
            self.groups.append([self._group(group, part, k, loss, units) for k, part in parts.items()] or [group])
        self.defaults = self._group(optimizer.defaults, None, 1.0, loss, units)

    def _group(self, group, parameters, weight, loss, units):
        """The group's hyperparameters in the new units, for these of its parameters; notes their tensors."""
        found = units_of(units or type(self.optimizer), group)
        new = dict(group)
        for name, unit in found.hyperparameters.items():
            if name in group:
                new[name] = convert_value(name, group[name], unit, weight, loss, found.reason)
        if "initial_lr" in group:  # left by a learning-rate scheduler
            unit = found.hyperparameters["lr"]
            new["initial_lr"] = convert_value("initial_lr", group["initial_lr"], unit, weight, loss, found.reason)
        if parameters is None:
            return new
        if "param_names" in group:
            names = dict(zip(group["params"], group["param_names"]))
            new["param_names"] = [names[p] for p in parameters]
        if weight != 1 or loss != 1:
            for p in parameters:
                self._convert_state(p, found.state, weight, loss)
        return new | {"params": parameters}

    def _convert_state(self, p, units, weight, loss):
        state = self.optimizer.state.get(p, {})
        for name, value in {"grad": p.grad, **state}.items():
            if value is None:
                continue
            unit = G if value is p.grad else units.get(name)
            if unit is None:
                raise ValueError(
                    f"state {name!r} of {type(self.optimizer).__name__} has no known unit; known are {sorted(units)}"
                )
            factor = unit.factor(weight=weight, loss=loss)
            if factor == 1:
                continue
            if isinstance(value, Real):
                self.numbers.append((state, name, value * factor))
            else:
                self.tensors.append((value, self._converted(value, name, p, factor)))

    def _converted(self, tensor, name, p, factor):
        what = f"{name} of a parameter of shape {tuple(p.shape)}"
        if tensor.is_sparse:
            raise ValueError(f"{what} is sparse; sparse tensors are not rescaled")
        if tensor.numel() > 1 and not _broadcasts(tensor.shape, p.shape):
            raise ValueError(f"{what} has the shape {tuple(tensor.shape)}; was it loaded from another model?")
        return multiplied(tensor.detach(), factor, what)

    def apply(self):
        with torch.no_grad():
            for tensor, new in self.tensors:
                tensor.copy_(new)
        for state, name, new in self.numbers:
            state[name] = new
        added = []
        for group, (first, *others) in zip(self.optimizer.param_groups, self.groups):
            group.update(first)
            added += others
        self.optimizer.param_groups += added
        self.optimizer.defaults.update(self.defaults)


def _broadcasts(shape, target):
    try:
        return torch.broadcast_shapes(shape, target) == target
    except RuntimeError:
        return False


def multiplied(tensor, factor, what, keep=False):
    """``tensor``·factor; ValueError where that overflows, or (``keep``) where a number turns into zero."""
    new = tensor * factor
    lost = new.isfinite().logical_not() & tensor.isfinite()
    if keep:
        lost |= (new == 0) & (tensor != 0)
    if lost.any():
        worst = tensor[lost][0].item()
        raise ValueError(f"{what}: {worst:.3g} times {factor:g} leaves the range of {tensor.dtype}")
    return new
