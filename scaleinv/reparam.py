"""Change the scale of a model's parameters without changing the model: y = w·x becomes y = (w'/k)·x with w' = k·w.

``scale_parameters`` does it before training, ``rescale`` in the middle of it, together with the optimizer: every
hyperparameter and every state buffer is multiplied by what its unit says.  ``fold_parameters`` takes it back.
"""

import difflib
from functools import partial

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from scaleinv._reparam import Conversion, Scale, multiplied, parameter_slots
from scaleinv._checks import check_scale
from scaleinv.changes import check_change


def scale_parameters(module, k):
    """Store every parameter of ``module`` as w' = k·w, and let the module compute with w'/k.

    Its output stays what it was, up to rounding; bit for bit when k is a power of two.

    Args:
        module: any ``nn.Module``.  Its Parameter objects stay the same ones, and hold w' from now on; a
            ``state_dict`` saved before loads as before.
        k: a positive number, or a dict from parameter names, as in ``module.named_parameters()``, to one.

    Returns:
        ``module``.

    Raises:
        TypeError: for a k that is no number.
        ValueError: for a k that is not positive and finite, an unknown name, a parameter that is shared, already
            scaled or has sparse gradients, and a k·w beyond its dtype's range.  ``module`` is left as it was.
    """
    slots = parameter_slots(module)
    factors = _factors("k", k, slots)
    for name in factors:
        if slots[name].scale is not None:
            raise ValueError(
                f"k: parameter {name!r} is already scaled, by {slots[name].scale.k:g}; "
                "use rescale to scale it further or fold_parameters to undo it"
            )
    _check_scalable(slots, factors)
    _scale(slots, factors)
    return module


def rescale(module, optimizer, change=None, *, of=None, weight=1.0, loss=1.0, units=None):
    """Change the units of a run, in the middle of it: parameters ``weight`` and a loss ``loss`` times as large.

    The training goes on as if nothing had happened; bit for bit when both are powers of two, short of underflow.
    The parameters (through ``torch.nn.utils.parametrize``), their gradients, the optimizer's hyperparameters and
    ``optimizer.state`` change in place.  Parameters of the optimizer outside ``module`` keep their scale.

    Args:
        module: the ``nn.Module`` whose parameters are to be scaled.
        optimizer: the ``torch.optim.Optimizer`` that trains it.
        change: one of ``scaleinv.changes``, instead of weight and loss: *you* change the module or the loss, and what
            is stored follows.  Nothing is parametrized, for the module's own code makes up for the factor.
        of: the names of the parameters that a change of their scale concerns.
        weight: a positive number, or a dict from parameter names to one; parameters not named keep their scale.
            Parameter groups whose parameters get different scales are split.
        loss: a positive number by which *you* multiply the loss from the next backward pass on.
        units: the ``Units`` of the optimizer; by default those in ``UNITS``.  For an optimizer that is not in that
            table pass what ``infer_units`` finds.

    Raises:
        TypeError: as ``scale_parameters`` and ``convert``.
        ValueError: for what these refuse (but scaled parameters may be scaled further), for a change that is another
            start, or whose parameters are not named, for state of unknown unit or of another shape than its parameter,
            and for an optimizer with a learning-rate scheduler, which would go on in the old units.  Module and
            optimizer are left as they were.
    """
    loss = check_scale("loss", loss)
    slots = parameter_slots(module)
    if change is not None:
        weight, loss = _named(change, of, *check_change(change, weight, loss))
    elif of is not None:
        raise ValueError(f"of={of!r} names what a change concerns; without one give weight={{name: factor}}")
    factors = _factors("weight", weight, slots)
    _check_scalable(slots, factors)
    conversion = Conversion(optimizer, {slots[n].parameter: k for n, k in factors.items()}, loss, units)
    if change is None:
        _scale(slots, factors)
    else:
        _multiply(slots, factors)
    conversion.apply()


def _named(change, of, weight, loss):
    """The weight and loss of a change, its weight by the names of the parameters that it concerns."""
    if not change.exact:
        raise ValueError(f"change={change.reason!r} is another start; make the module anew and convert its settings")
    if weight == 1:
        return 1.0, loss
    if of is None or isinstance(of, str):
        raise ValueError(f"of={of!r}: give a list with the names of the parameters, here {change.of}")
    return dict.fromkeys(of, weight), loss


def fold_parameters(module, optimizer=None, *, units=None):
    """Undo ``scale_parameters`` and ``rescale``'s weight: store every parameter as w again.

    Args:
        module: a module with scaled parameters, or without.
        optimizer: if given, converted along, state included, as by ``rescale``.
        units: as for ``rescale``.

    Returns:
        ``module``.

    Raises:
        ValueError: as ``rescale``, and for a scaled parameter with another parametrization on top.
    """
    slots = {name: slot for name, slot in parameter_slots(module).items() if slot.scale is not None}
    for name, slot in slots.items():
        if len(slot.owner.parametrizations[slot.attribute]) > 1:
            raise ValueError(f"parameter {name!r} got another parametrization on top of its scale; remove that first")
    if optimizer is not None:
        back = {slot.parameter: 1 / slot.scale.k for slot in slots.values()}
        Conversion(optimizer, back, 1.0, units).apply()
    for slot in slots.values():
        slot.scale.loading.remove()
        if slot.parameter.grad is not None:
            slot.parameter.grad *= slot.scale.k
        parametrize.remove_parametrizations(slot.owner, slot.attribute, leave_parametrized=True)
    return module


def effective_parameters(module):
    """name → the parameter that the module computes with: w = w'/k where it is scaled; detached copies."""
    slots = parameter_slots(module).items()
    return {name: getattr(slot.owner, slot.attribute).detach().clone() for name, slot in slots}


def _factors(argument, value, slots):
    """name → factor, for the parameters whose scale is to change."""
    if not isinstance(value, dict):
        factor = check_scale(argument, value)
        return {slot.names[0]: factor for slot in slots.values() if factor != 1}
    for name in value:
        if name not in slots:
            near = difflib.get_close_matches(str(name), slots, n=3) or list(slots)[:3]
            raise ValueError(f"{argument}[{name!r}]: no such parameter; did you mean one of {near}?")
    factors = {name: check_scale(f"{argument}[{name!r}]", factor) for name, factor in value.items()}
    return {name: factor for name, factor in factors.items() if factor != 1}


def _check_scalable(slots, factors):
    for name, factor in factors.items():
        slot = slots[name]
        p = slot.parameter
        if slot.shared:
            raise ValueError(
                f"parameter {name!r} is shared, under the names {slot.names}: "
                "parametrize would scale one of its uses only; untie it, or leave it out by naming the others"
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
            raise ValueError(f"parameter {name!r} has sparse gradients, and a scaled one has not; use sparse=False")
        multiplied(p.detach(), factor, f"parameter {name!r}", keep=True)


def _scale(slots, factors):
    for name, factor in factors.items():
        slot = slots[name]
        if slot.scale is not None:
            _multiply(slots, {name: factor})
            slot.scale.k *= factor
            continue
        scale = Scale(factor)
        parametrize.register_parametrization(slot.owner, slot.attribute, scale)
        scale.loading = slot.owner.register_load_state_dict_pre_hook(partial(_load_plain, slot.attribute))


def _multiply(slots, factors):
    with torch.no_grad():
        for name, factor in factors.items():
            slots[name].parameter *= factor


def _load_plain(attribute, module, state_dict, prefix, *args):
    """Lets a state_dict that holds w itself load into a module that stores w' = k·w."""
    if (plain := prefix + attribute) in state_dict:
        k = module.parametrizations[attribute][0].k
        state_dict[f"{prefix}parametrizations.{attribute}.original"] = state_dict.pop(plain) * k
        state_dict[f"{prefix}parametrizations.{attribute}.0._extra_state"] = k


__all__ = ["Scale", "effective_parameters", "fold_parameters", "rescale", "scale_parameters"]
