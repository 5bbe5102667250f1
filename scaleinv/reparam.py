"""Change the scale of a model's parameters without changing the model: y = w·x becomes y = (w'/k)·x with w' = k·w.

``scale_parameters`` does so before training, ``rescale`` in the middle of it, together with the optimizer: every
hyperparameter and every state buffer is multiplied by the factor of its unit.  ``unscale_parameters`` undoes both.
In formulas, k is the factor ``weight`` of the stored parameters and c the factor ``loss`` of the loss.
"""

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from scaleinv._checks import check_scale
from scaleinv._reparam import Scale, Slot, multiplied, parameter_slots, plan_conversion
from scaleinv.changes import Change, check_change
from scaleinv.units import Units

Weight: TypeAlias = float | Mapping[str, float]
_Module = TypeVar("_Module", bound=nn.Module)


def scale_parameters(module: _Module, weight: Weight | None = None, *, k: Weight | None = None) -> _Module:
    """Store every parameter of ``module`` as w' = k·w, and let the module compute with w'/k.

    Its output stays the same up to rounding, and bit for bit when k is a power of two.

    Args:
        module: any ``nn.Module``.  Its Parameter objects stay the same and hold w' from now on; a ``state_dict`` saved
            before still loads.
        weight: a positive number, or a dict from parameter names, as in ``module.named_parameters()``, to positive
            numbers; parameters not named keep their scale.
        k: deprecated name of ``weight``.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``module`` is not a module or ``weight`` is not a number.
        ValueError: if ``weight`` is not positive and finite, a name is unknown, a parameter is shared, already scaled
            or has sparse gradients, or k·w leaves the range of its dtype.  ``module`` is left unchanged.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(2, 1)
    >>> x = torch.ones(3, 2)
    >>> before = layer(x)
    >>> torch.equal(scaleinv.scale_parameters(layer, 8)(x), before)
    True
    """
    slots = parameter_slots(module)
    factors = _factors("weight", _weight_or_k(weight, k), slots)
    for name in factors:
        scale = slots[name].scale
        if scale is not None:
            raise ValueError(
                f"weight: parameter {name!r} is already scaled, by {scale.weight:g}; "
                "use rescale to scale it further or unscale_parameters to undo it"
            )
    _check_scalable(slots, factors)
    _scale(slots, factors)
    return module


def _weight_or_k(weight: Weight | None, k: Weight | None) -> Weight | None:
    if k is None:
        return weight
    if weight is not None:
        raise TypeError(f"weight={weight!r}, k={k!r}: pass weight alone; k is its deprecated name")
    warnings.warn("scale_parameters: k is deprecated; use weight", DeprecationWarning, stacklevel=3)
    return k


def rescale(  # noqa: PLR0913
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    change: Change | None = None,
    *,
    of: Iterable[str] | None = None,
    weight: Weight = 1.0,
    loss: float = 1.0,
    units: Units | None = None,
) -> None:
    """Change the units of a training in the middle of it.

    The training continues as if nothing had happened: bit for bit when both factors are powers of two, short of
    underflow.  The parameters (through ``torch.nn.utils.parametrize``), their gradients, the optimizer's
    hyperparameters and ``optimizer.state`` change in place.  Parameters of the optimizer outside ``module`` keep their
    scale.

    Args:
        module: the ``nn.Module`` whose parameters are scaled.
        optimizer: the ``torch.optim.Optimizer`` that trains it.
        change: one of ``scaleinv.changes``, in place of weight and loss: *you* change the module or the loss, and what
            is stored follows.  Nothing is parametrized, since the module's own code compensates the factor.
        of: the names of the parameters that ``change`` concerns, if it changes their scale.
        weight: the factor of the stored parameters: a positive number, or a dict from parameter names to positive
            numbers; parameters not named keep their scale.  Parameter groups whose parameters get different scales are
            split.
        loss: a positive number by which *you* multiply the loss from the next backward pass on.
        units: the optimizer's units, by default those in ``UNITS``.  For an optimizer that is not in that table, pass
            the result of ``infer_units``.

    Raises:
        TypeError: if ``module`` is not a module, ``optimizer`` not an optimizer, ``change`` not a ``Change``, or a
            factor not a number.
        ValueError: if a factor is not positive and finite, a name is unknown, a parameter is shared or has sparse
            gradients, ``change`` is a different initialisation or needs ``of``, a hyperparameter or state buffer has
            no known unit, a state buffer does not fit its parameter, a learning-rate scheduler is attached (it would
            continue in the old units), or a result leaves the range of its dtype.  Module and optimizer are left
            unchanged.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(layer.parameters(), lr=0.001)
    >>> scaleinv.rescale(layer, optimizer, weight=8)
    >>> optimizer.param_groups[0]["lr"]
    0.008
    """
    loss = check_scale("loss", loss)
    slots = parameter_slots(module)
    if change is not None:
        weight, loss = _change_by_name(change, of, *check_change(change, weight, loss))
    elif of is not None:
        raise ValueError(f"of={of!r} names what a change concerns; without a change pass weight={{name: factor}}")
    factors = _factors("weight", weight, slots)
    _check_scalable(slots, factors)
    conversion = plan_conversion(optimizer, {slots[n].parameter: k for n, k in factors.items()}, loss, units)
    if change is None:
        _scale(slots, factors)
    else:
        _multiply(slots, factors)
    conversion.apply()


def _change_by_name(
    change: Change, of: Iterable[str] | None, weight: float, loss: float
) -> tuple[float | dict[str, float], float]:
    """The weight and loss of a change; the weight as a dict from the names of the parameters that it concerns."""
    if not change.exact:
        raise ValueError(
            f"change={change.reason!r} is a different initialisation; make the module again and convert its settings"
        )
    if weight == 1:
        return 1.0, loss
    if of is None or isinstance(of, str):
        raise ValueError(f"of={of!r}: pass a list of the names of the parameters, here {change.of}")
    return dict.fromkeys(of, weight), loss


def unscale_parameters(
    module: _Module, optimizer: torch.optim.Optimizer | None = None, *, units: Units | None = None
) -> _Module:
    """Undo ``scale_parameters`` and the weight of ``rescale``: store every parameter as w again.

    Args:
        module: any ``nn.Module``.
        optimizer: the optimizer to convert along, state included, as by ``rescale``; None for none.
        units: as for ``rescale``.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``module`` is not a module or ``optimizer`` not an optimizer.
        ValueError: as ``rescale``, and if a scaled parameter has another parametrization on top of its scale.

    >>> import torch, scaleinv
    >>> layer = scaleinv.scale_parameters(torch.nn.Linear(2, 1), 8)
    >>> list(scaleinv.unscale_parameters(layer).state_dict())
    ['weight', 'bias']
    """
    scaled = {name: (slot, slot.scale) for name, slot in parameter_slots(module).items() if slot.scale is not None}
    for name, (slot, scale) in scaled.items():
        if not scale.is_alone(slot.owner, slot.attribute):
            raise ValueError(f"parameter {name!r} has another parametrization on top of its scale; remove that first")
    if optimizer is not None:
        weights = {slot.parameter: 1 / scale.weight for slot, scale in scaled.values()}
        plan_conversion(optimizer, weights, 1.0, units).apply()
    for slot, scale in scaled.values():
        if slot.parameter.grad is not None:
            slot.parameter.grad *= scale.weight
        scale.detach(slot.owner, slot.attribute)
    return module


def fold_parameters(
    module: _Module, optimizer: torch.optim.Optimizer | None = None, *, units: Units | None = None
) -> _Module:
    """Deprecated name of ``unscale_parameters``.

    >>> import torch, warnings, scaleinv
    >>> layer = scaleinv.scale_parameters(torch.nn.Linear(2, 1), 8)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     list(scaleinv.fold_parameters(layer).state_dict())
    ['weight', 'bias']
    """
    warnings.warn("fold_parameters is deprecated; use unscale_parameters", DeprecationWarning, stacklevel=2)
    return unscale_parameters(module, optimizer, units=units)


def effective_parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return name → the parameter with which the module computes: w = w'/k if it is scaled.

    Args:
        module: any ``nn.Module``.

    Returns:
        Detached copies, under the names that the parameters had before they were scaled.

    Raises:
        TypeError: if ``module`` is not a module.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(2, 1)
    >>> before = scaleinv.effective_parameters(layer)
    >>> after = scaleinv.effective_parameters(scaleinv.scale_parameters(layer, 8))
    >>> all(torch.equal(before[name], after[name]) for name in before)
    True
    """
    slots = parameter_slots(module).items()
    return {name: getattr(slot.owner, slot.attribute).detach().clone() for name, slot in slots}


def _factors(argument: str, value: Weight | None, slots: dict[str, Slot]) -> dict[str, float]:
    """Name → factor of each parameter whose scale is to change."""
    if not isinstance(value, Mapping):
        factor = check_scale(argument, value)
        return {slot.names[0]: factor for slot in slots.values() if factor != 1}
    for name in value:
        if name not in slots:
            near = difflib.get_close_matches(str(name), slots, n=3) or list(slots)[:3]
            raise ValueError(f"{argument}[{name!r}]: no such parameter; did you mean one of {near}?")
    factors = {name: check_scale(f"{argument}[{name!r}]", factor) for name, factor in value.items()}
    return {name: factor for name, factor in factors.items() if factor != 1}


def _check_scalable(slots: dict[str, Slot], factors: dict[str, float]) -> None:
    for name, factor in factors.items():
        _check_slot(name, slots[name])
        multiplied(slots[name].parameter.detach(), factor, f"parameter {name!r}", keep_nonzero=True)


def _check_slot(name: str, slot: Slot) -> None:
    p = slot.parameter
    if slot.shared:
        raise ValueError(
            f"parameter {name!r} is shared, under the names {list(slot.names)}: "
            "parametrize would scale only one of its uses; untie it, or leave it out by naming the others"
        )
    if is_lazy(p):
        raise ValueError(f"parameter {name!r} is not initialised yet; run the module once before")
    if not (p.is_floating_point() or p.is_complex()):
        raise TypeError(f"parameter {name!r} of dtype {p.dtype} has no scale")
    if isinstance(slot.owner, nn.RNNBase):
        raise ValueError(
            f"parameter {name!r} of {type(slot.owner).__name__} is also kept in a list that parametrize does "
            "not reach; use the cell modules (nn.LSTMCell, nn.GRUCell, nn.RNNCell), or leave it out"
        )
    if getattr(slot.owner, "sparse", False) or (p.grad is not None and p.grad.is_sparse):
        raise ValueError(f"parameter {name!r} has sparse gradients, which a scaled one cannot have; use sparse=False")


def _scale(slots: dict[str, Slot], factors: dict[str, float]) -> None:
    for name, factor in factors.items():
        slot = slots[name]
        if slot.scale is None:
            Scale(factor).attach(slot.owner, slot.attribute)
        else:
            _multiply(slots, {name: factor})
            slot.scale.weight *= factor


def _multiply(slots: dict[str, Slot], factors: dict[str, float]) -> None:
    with torch.no_grad():
        for name, factor in factors.items():
            slots[name].parameter.mul_(factor)


__all__ = [
    "Scale",
    "effective_parameters",
    "fold_parameters",
    "rescale",
    "scale_parameters",
    "unscale_parameters",
]
