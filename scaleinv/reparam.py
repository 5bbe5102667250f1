"""Change the scale of a model's parameters without changing the model: y = w·x becomes y = (w'/k)·x with w' = k·w.

``scale_parameters`` does so before training, ``rescale`` in the middle of it, together with the optimizer: every
hyperparameter and every state buffer is multiplied by the factor of its unit.  ``unscale_parameters`` undoes both.
In formulas, k is the factor ``weight`` of the stored parameters and c the factor ``loss`` of the loss.
"""

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from scaleinv._checks import check_scale
from scaleinv._reparam import Slot, kept_elsewhere, multiplied, parameter_slots, plan_conversion, set_scale
from scaleinv.changes import Change, check_change
from scaleinv.units import Units

Optimizers: TypeAlias = torch.optim.Optimizer | list[torch.optim.Optimizer]
Weight: TypeAlias = float | Mapping[str, float]
_Module = TypeVar("_Module", bound=nn.Module)


def scale_parameters(module: _Module, weight: Weight | None = None, *, k: Weight | None = None) -> _Module:
    """Store every parameter of ``module`` as w' = k·w, and let the module compute with w'/k.

    Its output stays the same up to rounding, and bit for bit when k is a power of two.  ``module.weight`` shows w, a
    new tensor each time; to change a stored parameter in place, go through ``module.parameters()``, which holds w'.

    Args:
        module: any ``nn.Module``.  Its Parameter objects stay the same, under their names, and hold w' from now on.
            Its ``state_dict`` holds w' and k; one saved before, which holds w, still loads.
        weight: a positive number, or a dict from parameter names, as in ``module.named_parameters()``, to positive
            numbers; parameters not named keep their scale.
        k: deprecated name of ``weight``.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``module`` is not a module or ``weight`` is not a number.
        ValueError: if ``weight`` is not positive and finite, a name is unknown, a parameter is already scaled or not
            initialised, a module uses it in a way that a scale does not reach, or k·w leaves the range of its dtype.
            ``module`` is left unchanged.

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
        if slots[name].weight != 1:
            raise ValueError(
                f"weight: parameter {name!r} is already scaled, by {slots[name].weight:g}; "
                "use rescale to scale it further or unscale_parameters to undo it"
            )
    _check_scalable(module, slots, factors)
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
    optimizer: Optimizers,
    change: Change | None = None,
    *,
    of: Iterable[str] | None = None,
    weight: Weight = 1.0,
    loss: float = 1.0,
    units: Units | Mapping[type[torch.optim.Optimizer], Units] | None = None,
    copies: Iterable[nn.Module] = (),
) -> None:
    """Change the units of a training in the middle of it.

    The training continues as if nothing had happened: bit for bit when both factors are powers of two, short of
    underflow.  The parameters (as by ``scale_parameters``), their gradients, the optimizers' hyperparameters and state,
    and their learning-rate schedulers of ``torch.optim``, which are found by themselves, change in place.  What you
    apply to gradients or parameters by hand stays in the old units: a ``max_norm``, an lr that your loop sets.

    Args:
        module: the ``nn.Module`` whose parameters are scaled.
        optimizer: the ``torch.optim.Optimizer`` that trains it, or a list of those that train it together.  Parameters
            outside ``module`` keep their scale.
        change: one of ``scaleinv.changes``, in place of weight and loss: *you* change the module or the loss, and what
            is stored follows.  The module shows what is stored, since its own code compensates the factor.
        of: the names of the parameters that ``change`` concerns, if it changes their scale.
        weight: the factor of the stored parameters: a positive number, or a dict from parameter names to positive
            numbers; parameters not named keep their scale.  Parameter groups whose parameters get different scales are
            split.
        loss: a positive number by which *you* multiply the loss from the next backward pass on.
        units: the units of an optimizer that is not in ``UNITS``: the result of ``infer_units``, or a dict from classes
            to such results.
        copies: modules with the same parameters to scale alike, such as an ``AveragedModel`` of torch.

    Raises:
        TypeError: if ``module`` is not a module, ``optimizer`` not an optimizer, ``change`` not a ``Change``, or a
            factor not a number.
        ValueError: if a factor is not positive and finite, a name is unknown, a module uses a parameter in a way that
            a scale does not reach, ``change`` is a different initialisation, optimizer or time, or needs ``of``, a
            trainable parameter that is scaled belongs to no optimizer, a hyperparameter, another number in a group or a
            state buffer has no known unit, a state buffer does not fit its parameter, a scheduler is not one of
            torch.optim, or a result leaves the range of its dtype.  Nothing is changed then.

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
    factors = _factors("weight" if of is None else "of", weight, slots)
    _check_scalable(module, slots, factors)
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else _listed(optimizer)
    weights = {slots[n].parameter: k for n, k in factors.items()}
    conversions = [plan_conversion(each, weights, loss, _units_of(each, units)) for each in optimizers]
    _check_all_are_held(slots, factors, optimizers)
    scaled = [(slots, factors), *(_of_copy(copy, factors) for copy in copies)]
    for each_slots, each_factors in scaled:
        if change is None:
            _scale(each_slots, each_factors)
        else:
            _multiply(each_slots, each_factors)
    for conversion in conversions:
        conversion.apply()


def _listed(optimizers: Any) -> list[torch.optim.Optimizer]:
    if not isinstance(optimizers, list | tuple) or not optimizers:
        raise TypeError(f"optimizer={optimizers!r} is not a torch.optim.Optimizer, nor a list of them")
    return list(optimizers)


def _units_of(
    optimizer: torch.optim.Optimizer, units: Units | Mapping[type[torch.optim.Optimizer], Units] | None
) -> Units | None:
    return units.get(type(optimizer)) if isinstance(units, Mapping) else units


def _check_all_are_held(
    slots: dict[str, Slot], factors: dict[str, float], optimizers: list[torch.optim.Optimizer]
) -> None:
    held = {p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    left_out = [n for n in factors if slots[n].parameter.requires_grad and slots[n].parameter not in held]
    if left_out:
        raise ValueError(
            f"optimizer: none of those passed holds the trainable parameters {left_out[:5]}"
            f"{' and others' if len(left_out) > 5 else ''}; pass a list of all optimizers that train the module, name "
            "the parameters to scale in weight, or freeze these with requires_grad_(False)"
        )


def _of_copy(copy: nn.Module, factors: dict[str, float]) -> tuple[dict[str, Slot], dict[str, float]]:
    """The slots of a copy of the module, and the factors by the names that it has for the parameters."""
    slots = parameter_slots(copy)
    by_name = {name.removeprefix("module.").replace("_orig_mod.", ""): name for name in slots}
    if missing := [name for name in factors if name not in by_name]:
        raise ValueError(f"copies: {type(copy).__name__} has no parameter {missing[0]!r}; it is not a copy of module")
    of_copy = {by_name[name]: factor for name, factor in factors.items()}
    _check_scalable(copy, slots, of_copy)
    return slots, of_copy


def _change_by_name(
    change: Change, of: Iterable[str] | None, weight: float, loss: float
) -> tuple[float | dict[str, float], float]:
    """The weight and loss of a change; the weight as a dict from the names of the parameters that it concerns."""
    if change.decay:
        raise ValueError(
            f"change={change.reason!r} is a change of optimizer, not of units; convert its settings (scaleinv.convert)"
        )
    if change.of_time:
        raise ValueError(
            f"change={change.reason!r} is not a change of units, and not exact; convert the settings (scaleinv.convert)"
        )
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
        ValueError: as ``rescale``.

    >>> import torch, scaleinv
    >>> layer = scaleinv.scale_parameters(torch.nn.Linear(2, 1), 8)
    >>> list(scaleinv.unscale_parameters(layer).state_dict())
    ['weight', 'bias']
    """
    slots = parameter_slots(module)
    scaled = {slot.names[0]: slot for slot in slots.values() if slot.weight != 1}
    factors = {name: 1 / slot.weight for name, slot in scaled.items()}
    if optimizer is not None:
        rescale(module, optimizer, weight=factors, units=units)
    else:
        _scale(slots, factors)
        _multiply_gradients(slots, {name: slot.weight for name, slot in scaled.items()})
    for slot in scaled.values():
        for place in slot.places:
            set_scale(place, 1.0)  # also where k·(1/k) is not
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
    shown = {name: slot.parameter if slot.weight == 1 else slot.parameter / slot.weight for name, slot in slots}
    return {name: parameter.detach().clone() for name, parameter in shown.items()}


def parameter_scales(module: nn.Module) -> dict[str, float]:
    """Return name → k of each parameter that is stored as k·w.

    Args:
        module: any ``nn.Module``.

    Raises:
        TypeError: if ``module`` is not a module.

    >>> import torch, scaleinv
    >>> scaleinv.parameter_scales(scaleinv.scale_parameters(torch.nn.Linear(2, 1), {"weight": 8}))
    {'weight': 8.0}
    """
    return {name: slot.weight for name, slot in parameter_slots(module).items() if slot.weight != 1}


def _factors(argument: str, value: Weight | None, slots: dict[str, Slot]) -> dict[str, float]:
    """Name → factor of each parameter whose scale is to change."""
    if not isinstance(value, Mapping):
        factor = check_scale(argument, value)
        return {slot.names[0]: factor for slot in slots.values() if factor != 1}
    for name in value:
        if name not in slots:
            near = difflib.get_close_matches(str(name), slots, n=3) or list(slots)[:3]
            raise ValueError(f"{argument}[{name!r}]: no such parameter; did you mean one of {near}?")
    factors: dict[str, float] = {}
    for name, factor in value.items():
        first = slots[name].names[0]
        factor = check_scale(f"{argument}[{name!r}]", factor)
        if factors.setdefault(first, factor) != factor:
            raise ValueError(
                f"{argument}[{name!r}]={factor:g}: the same parameter is named {first!r}, with {factors[first]:g}"
            )
    return {name: factor for name, factor in factors.items() if factor != 1}


def _check_scalable(module: nn.Module, slots: dict[str, Slot], factors: dict[str, float]) -> None:
    parameters = {slots[name].parameter: name for name in factors}
    for parameter, where in kept_elsewhere(module, parameters).items():
        raise ValueError(
            f"parameter {parameters[parameter]!r} is also kept in {where}, where a scale does not reach; register it "
            "once and read it as an attribute, or leave it out by naming the others"
        )
    for name, factor in factors.items():
        _check_slot(name, slots[name])
        multiplied(slots[name].parameter.detach(), factor, f"parameter {name!r}", keep_nonzero=True)


def _check_slot(name: str, slot: Slot) -> None:
    p = slot.parameter
    if is_lazy(p):
        raise ValueError(f"parameter {name!r} is not initialised yet; run the module once before")
    if not (p.is_floating_point() or p.is_complex()):
        raise TypeError(f"parameter {name!r} of dtype {p.dtype} has no scale")
    for owner, _ in slot.places:
        kind = type(owner).__name__
        if type(p).__name__ == "FlatParameter":
            raise ValueError(f"parameter {name!r} of {kind}: FSDP 1 reads it past a scale; use fully_shard")
        if getattr(owner, "max_norm", None) is not None:
            raise ValueError(
                f"parameter {name!r} of {kind} is changed in place by max_norm={owner.max_norm}, which a scale would "
                "hide; leave it out by naming the others"
            )


def _scale(slots: dict[str, Slot], factors: dict[str, float]) -> None:
    """Store parameters as factor·w, and let their modules compute with w still."""
    _multiply(slots, factors)
    for name, factor in factors.items():
        for place in slots[name].places:
            set_scale(place, slots[name].weight * factor)


def _multiply(slots: dict[str, Slot], factors: dict[str, float]) -> None:
    with torch.no_grad():
        for name, factor in factors.items():
            slots[name].parameter.mul_(factor)


def _multiply_gradients(slots: dict[str, Slot], factors: dict[str, float]) -> None:
    for name, factor in factors.items():
        if (grad := slots[name].parameter.grad) is not None:
            grad *= factor


__all__ = [
    "effective_parameters",
    "fold_parameters",
    "parameter_scales",
    "rescale",
    "scale_parameters",
    "unscale_parameters",
]
