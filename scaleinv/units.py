"""Units of hyperparameters: what a learning rate is measured in.

Let the loss carry the unit L and a parameter the unit W; then a gradient is L W⁻¹.  Rescale the loss by
``loss`` (c) and the parameters by ``weight`` (k), that is, train w' = k·w on L'(w') = c·L(w'/k).  A
hyperparameter of unit Lᵃ Wᵇ must become cᵃ·kᵇ times what it was, and the training is the same training:
w'(t) = k·w(t) at every step, up to rounding, and bit for bit when c and k are powers of two.

``UNITS`` is the table for ``torch.optim``, derived by hand from each update rule; ``scaleinv.infer_units``
measures it, for these optimizers and any other.  ``convert`` applies it.
"""

import inspect
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Real

import torch
from torch import optim

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Unit:
    """The unit L^loss · W^weight.  Multiplies, divides and takes powers; prints as ``L W⁻¹``, or ``1``."""

    loss: Fraction = Fraction(0)
    weight: Fraction = Fraction(0)

    def __post_init__(self):
        object.__setattr__(self, "loss", Fraction(self.loss))
        object.__setattr__(self, "weight", Fraction(self.weight))

    def __mul__(self, other):
        return Unit(self.loss + other.loss, self.weight + other.weight)

    def __truediv__(self, other):
        return Unit(self.loss - other.loss, self.weight - other.weight)

    def __pow__(self, power):
        return Unit(self.loss * power, self.weight * power)

    def factor(self, *, weight=1.0, loss=1.0):
        """The number that a quantity of this unit is multiplied by when the loss and the parameters are; inf or 0
        beyond the range of floats."""
        try:
            return float(loss) ** float(self.loss) * float(weight) ** float(self.weight)
        except OverflowError:
            return math.inf

    def __str__(self):
        symbols = [_power("L", self.loss), _power("W", self.weight)]
        return " ".join(symbol for symbol in symbols if symbol) or "1"

    __repr__ = __str__


def _power(symbol, exponent):
    if exponent == 0:
        return ""
    if exponent == 1:
        return symbol
    if exponent.denominator == 1:
        return symbol + str(exponent).translate(_SUPERSCRIPT)
    return f"{symbol}^({exponent})"


ONE = Unit()
L = Unit(loss=1)
W = Unit(weight=1)
G = L / W  # a gradient


@dataclass(frozen=True)
class Units:
    """The units of one optimizer.

    Attributes:
        hyperparameters: name → Unit; a tuple of them where a hyperparameter is a tuple of several units; None
            where it has no unit (or, when inferred, none was determined).
        state: name of a state buffer → Unit.
        reason: why some hyperparameter has no unit; empty when all have.
        defaults: hyperparameters in use where none are given, as far as they are not in an optimizer's signature.
    """

    hyperparameters: dict
    state: dict
    reason: str = ""
    defaults: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A change of units; ``scaleinv.changes`` makes them from what people change.

    Attributes:
        reason: why these factors, in words.
        weight: the factor of the stored parameters, for which the module's own code makes up.
        loss: the factor of the loss.
        of: which parameters it concerns, in words.
        exact: whether the training is the same one; else only its steps relative to the parameters are.
    """

    reason: str
    weight: float = 1.0
    loss: float = 1.0
    of: str = "all parameters"
    exact: bool = True


_MOMENTS = {"step": ONE, "exp_avg": G, "exp_avg_sq": G**2}
_AMSGRAD = {"max_exp_avg_sq": G**2}

UNITS = {
    optim.SGD: Units(
        {"lr": W / G, "momentum": ONE, "dampening": ONE, "weight_decay": G / W},
        {"momentum_buffer": G},
    ),
    optim.ASGD: Units(
        {"lr": W / G, "lambd": G / W, "alpha": ONE, "t0": ONE, "weight_decay": G / W},
        {"step": ONE, "eta": W / G, "mu": ONE, "ax": W},
    ),
    optim.Rprop: Units(
        {"lr": W, "etas": ONE, "step_sizes": W},
        {"step": ONE, "prev": G, "step_size": W},
    ),
    optim.Adagrad: Units(
        {"lr": W, "lr_decay": ONE, "eps": G, "weight_decay": G / W, "initial_accumulator_value": G**2},
        {"step": ONE, "sum": G**2},
    ),
    # momentum accumulates gradients already divided by their scale: its buffer has no unit.
    optim.RMSprop: Units(
        {"lr": W, "alpha": ONE, "eps": G, "weight_decay": G / W, "momentum": ONE},
        {"step": ONE, "square_avg": G**2, "grad_avg": G, "momentum_buffer": ONE},
    ),
    # One eps is added to square_avg (G²) and to acc_delta, and so gives acc_delta the unit G² too, where the
    # paper means W²: the update comes out in G, not W, and lr has to carry the rest, as in SGD.
    optim.Adadelta: Units(
        {"lr": W / G, "rho": ONE, "eps": G**2, "weight_decay": G / W},
        {"step": ONE, "square_avg": G**2, "acc_delta": G**2},
    ),
    optim.Adam: Units({"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W}, _MOMENTS | _AMSGRAD),
    optim.AdamW: Units({"lr": W, "betas": ONE, "eps": G, "weight_decay": ONE / W}, _MOMENTS | _AMSGRAD),
    optim.SparseAdam: Units({"lr": W, "betas": ONE, "eps": G}, _MOMENTS),
    optim.Adamax: Units(
        {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W},
        {"step": ONE, "exp_avg": G, "exp_inf": G},
    ),
    optim.NAdam: Units(
        {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W, "momentum_decay": ONE},
        _MOMENTS | {"mu_product": ONE},
    ),
    optim.RAdam: Units(
        {"lr": None, "betas": ONE, "eps": G, "weight_decay": G / W},
        _MOMENTS,
        reason="RAdam takes SGD's steps, lr·exp_avg (lr: L⁻¹ W²), while its variance estimate is young "
        "(rho_t ≤ 5: the first five steps at beta2 = 0.999) and Adam's (lr: W) from then on",
    ),
    # Its step is a fraction of the parameter's own RMS: lr is a pure number.  For a matrix eps[0] also bounds
    # row_var.mean() from below, without being squared: its unit holds only while that bound is not reached.
    optim.Adafactor: Units(
        {"lr": ONE, "beta2_decay": ONE, "eps": (G, W), "d": ONE, "weight_decay": ONE},
        {"step": ONE, "row_var": G**2, "col_var": G**2, "variance": G**2},
    ),
    optim.Muon: Units(
        {"lr": W, "weight_decay": ONE / W, "momentum": ONE, "ns_coefficients": ONE, "eps": G, "ns_steps": ONE},
        {"momentum_buffer": G},
    ),
    optim.LBFGS: Units(
        {"lr": None, "max_iter": ONE, "max_eval": ONE, "tolerance_grad": G, "tolerance_change": None,
         "history_size": ONE},
        {"d": None, "t": None, "prev_flat_grad": G, "prev_loss": L, "H_diag": W / G, "n_iter": ONE,
         "func_evals": ONE, "old_dirs": G, "old_stps": W, "ro": ONE / (G * W), "al": ONE},
        reason="LBFGS starts with a step of lr·min(1, 1/‖g‖₁)·g, which compares a gradient with the number 1, "
        "goes on with steps whose lr is a pure number, and holds one tolerance_change against both a change "
        "of the parameters (W) and a change of the loss (L)",
    ),
}  # fmt: skip


def units_of(optimizer_class, hyperparameters=None):
    """The ``Units`` of an optimizer class of ``torch.optim`` (or ``Units`` themselves, as inferred).

    Args:
        optimizer_class: a class of ``torch.optim``.
        hyperparameters: settles what a flag changes: with ``decoupled_weight_decay=True``, weight_decay has AdamW's
            unit.

    Raises:
        TypeError: for something that is no class.
        ValueError: for an optimizer that is not in the table, and for a flag other than the one that the units were
            measured with.
    """
    if isinstance(optimizer_class, Units):
        for name, flag in optimizer_class.defaults.items():
            value = (hyperparameters or {}).get(name, flag)
            if name not in optimizer_class.hyperparameters and value is not flag and value != flag:
                raise ValueError(
                    f"{name}={value!r}: the units were measured with {name}={flag!r}, and hold for that; measure them "
                    "again with scaleinv.infer_units"
                )
        return optimizer_class
    if not isinstance(optimizer_class, type):
        raise TypeError(f"optimizer_class={optimizer_class!r} is not a class; pass one such as torch.optim.Adam")
    if optimizer_class not in UNITS:
        raise ValueError(
            f"optimizer_class={optimizer_class.__name__}: its units are not in scaleinv.UNITS; measure them "
            "with scaleinv.infer_units and pass the result in its place"
        )
    units = UNITS[optimizer_class]
    if (hyperparameters or {}).get("decoupled_weight_decay"):
        return replace(units, hyperparameters={**units.hyperparameters, "weight_decay": ONE / W})
    return units


def convert(optimizer_class, hyperparameters, change=None, *, weight=1.0, loss=1.0):
    """The hyperparameters for the same training with parameters ``weight`` and a loss ``loss`` times as large.

    Args:
        optimizer_class: one of ``torch.optim``'s, or the result of ``infer_units``.
        hyperparameters: name → value (float, tensor, or tuple).
        change: one of ``scaleinv.changes``, instead of weight and loss.
        weight: the factor of the parameters, a positive number.
        loss: the factor of the loss, a positive number.

    Returns:
        A new dict.  A default that the optimizer would use and that has to change is added, for Adam's eps is
        1e-8 in one choice of units only.

    Raises:
        ValueError: for a scale that is not positive and finite, an optimizer or hyperparameter of unknown unit,
            a change besides weight or loss, and a result beyond the range of floats.
        TypeError: for what is no number, and no change.

    >>> convert(torch.optim.Adam, {"lr": 1e-3}, weight=10)
    {'lr': 0.01, 'eps': 1e-09}
    """
    weight, loss = check_scale("weight", weight), check_scale("loss", loss)
    if change is not None:
        weight, loss = check_change(change, weight, loss)
    units = units_of(optimizer_class, hyperparameters)
    defaults = defaults_of(optimizer_class)
    for name in hyperparameters:
        if name not in defaults and name not in units.hyperparameters:
            raise ValueError(f"hyperparameters[{name!r}]: unknown; known are {sorted(defaults)}")
    converted = dict(hyperparameters)
    for name, unit in units.hyperparameters.items():
        if name not in hyperparameters and name not in defaults:
            continue
        old = hyperparameters.get(name, defaults.get(name))
        new = convert_value(name, old, unit, weight, loss, units.reason)
        if name in hyperparameters or new is not old:
            converted[name] = new
    return converted


def defaults_of(optimizer_class):
    """name → the value in use where none is given, of a class, or of ``Units`` as ``infer_units`` finds them."""
    if isinstance(optimizer_class, Units):
        return optimizer_class.defaults
    parameters = inspect.signature(optimizer_class).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def convert_value(name, value, unit, weight, loss, reason=""):
    """``value`` of unit ``unit`` (or a tuple of both) in the new units; the same object where nothing changes."""
    if isinstance(value, tuple | list):
        units = unit if isinstance(unit, tuple) else (unit,) * len(value)
        new = [
            convert_value(f"{name}[{i}]", v, u, weight, loss, reason)
            for i, (v, u) in enumerate(zip(value, units, strict=True))
        ]
        return value if all(a is b for a, b in zip(new, value)) else type(value)(new)
    if unit is None:
        if weight == loss == 1 or (isinstance(value, Real) and value == 0):
            return value
        raise ValueError(f"{name}={value!r} has no known unit and cannot be converted. {reason}".rstrip())
    factor = unit.factor(weight=weight, loss=loss)
    if factor == 1 or (isinstance(value, Real) and value == 0):
        return value
    if value is None:
        raise ValueError(
            f"{name}=None stands for a constant chosen by the optimizer, of unit {unit}, that would have to "
            f"change by a factor of {factor:g}: give {name} as a number"
        )
    if isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not a number")
    new = value * factor
    if not math.isfinite(new) or (new == 0 and value != 0):
        raise ValueError(f"{name}={value!r} of unit {unit} times {factor:g} leaves the range of floats")
    return new


def check_change(change, weight, loss):
    """A change's factors of weight and loss; TypeError for none, ValueError where others are given besides."""
    if not isinstance(change, Change):
        raise TypeError(f"change={change!r} is not one of scaleinv.changes, such as changes.loss_times(8)")
    if (weight, loss) != (1, 1):
        raise ValueError(f"weight={weight!r}, loss={loss!r}: give these or change={change!r}, not both")
    return change.weight, change.loss


def check_scale(name, value):
    """``value`` as a float, if it is a positive finite number; else TypeError or ValueError naming ``name``."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is not a number; pass a positive one, such as 8.0")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value!r} is not a scale; it has to be positive and finite")
    return float(value)
