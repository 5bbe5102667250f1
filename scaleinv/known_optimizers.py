"""All that is known about each optimizer of ``torch.optim``: one entry each in the table ``KNOWN``.

An entry holds the optimizer's units, derived by hand from its update rule (``infer_units`` measures the same), the law
of its step, what its state buffers hold, and its rule in ``scaleinv.optimizers``.  To add an optimizer, add an entry
here and one to the registry of tests/library/optimizers/test_known_optimizers.py.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import optim

from scaleinv import optimizers as rules
from scaleinv._entries import get_entry, split_key
from scaleinv.laws import equilibrium_rms, update_rms
from scaleinv.units import ONE, G, L, Units, W

__all__ = [
    "KNOWN", "UNITS", "GradientScale", "Known", "PredictedStep", "StepContext", "known_of", "units_of",
    "units_of_rule",
]  # fmt: skip

Hyperparameters = Mapping[str, Any]
State = Mapping[str, Any]


# What an entry holds.


@dataclass(frozen=True)
class StepContext:
    """What a step law may use besides the hyperparameters.

    Attributes:
        shape, dtype: of the parameter.
        step: how many steps were taken so far.
        rms: of the parameter, unit W.
        gradient_rms: of its gradient, unit L W⁻¹; NaN without one.

    >>> from scaleinv.known_optimizers import StepContext
    >>> StepContext(shape=(3, 4), rms=0.1).step
    0
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    step: int = 0
    rms: float = math.nan
    gradient_rms: float = math.nan


class PredictedStep(NamedTuple):
    """The RMS of a step, unit W, and the law that predicts it, in words; NaN, and why, where there is none.

    >>> from scaleinv.known_optimizers import PredictedStep
    >>> PredictedStep(1e-3, "first step: lr·sign(g)").rms
    0.001
    """

    rms: float
    law: str


class GradientScale(NamedTuple):
    """A state buffer that estimates the gradient's scale, coordinate by coordinate: the optimizer divides by it.

    Attributes:
        buffer: its name in the state.
        power: 2 where it holds squares of gradients, 1 where it holds their magnitudes.
        bias_corrected: whether the optimizer divides it by 1 − β₂ᵗ.

    >>> from scaleinv.known_optimizers import GradientScale
    >>> GradientScale("exp_avg_sq", power=2, bias_corrected=True).buffer
    'exp_avg_sq'
    """

    buffer: str
    power: int = 2
    bias_corrected: bool = False


StepLaw = Callable[[Hyperparameters, StepContext], PredictedStep]
LastUpdate = Callable[[Hyperparameters, State, torch.Tensor], torch.Tensor]
Equilibrium = Callable[[Hyperparameters], float]


@dataclass(frozen=True)
class Known:
    """What is known about one optimizer.

    Attributes:
        units: its ``Units``.
        step_law: predicts the RMS of the next step from the hyperparameters and a ``StepContext``, without weight
            decay; None where no law is known.  A first step is exact.  Later ones are those under noise: gradients
            without mean or memory, of which a step of Adam is 0.23·lr at β₁ = 0.9 (``laws.update_rms``), while a
            gradient that lasts makes steps of up to lr.
        last_update: the last step over lr, coordinate by coordinate, from the hyperparameters, the state and the
            parameter; None where the state does not tell.
        equilibrium: RMS of the parameter to which decoupled weight decay leads under noise, from the
            hyperparameters; None where no law is known.
        elementwise: whether the step of a coordinate depends on that coordinate alone.
        can_be_tried: whether ``step()`` on a copy of a parameter and its state shows the next step.
        fused: whether ``fused=True`` makes the same step in one pass on a CPU.
        largest_cpu_trial: coordinates up to which one step takes a moment on a CPU; infinite for most.
        gradient_scales: the buffers that the optimizer divides by, the first that is in the state being the one.
        eps_per_coordinate: whether eps is compared with the gradient's scale at each coordinate.
        parameter_shaped: names of the state buffers that have the parameter's shape.
        rule: the same optimizer in ``scaleinv.optimizers``, if it is there.
        rates: the hyperparameters that are decay rates of averages, such as "betas"; empty where how settings follow
            the batch is not known.  "momentum" is one of a sum that is not divided by its weights.

    >>> import torch
    >>> from scaleinv.known_optimizers import KNOWN, StepContext
    >>> adam = KNOWN[torch.optim.Adam]
    >>> adam.elementwise, adam.rule.__name__, str(adam.units.hyperparameters["eps"])
    (True, 'adam', 'L W⁻¹')
    >>> adam.step_law({"lr": 1e-3, "betas": (0.9, 0.999)}, StepContext(shape=(3, 4)))
    PredictedStep(rms=0.001, law='first step: lr·sign(g)')
    """

    units: Units
    step_law: StepLaw | None = None
    last_update: LastUpdate | None = None
    equilibrium: Equilibrium | None = None
    elementwise: bool = True
    can_be_tried: bool = True
    fused: bool = False
    largest_cpu_trial: float = math.inf
    gradient_scales: tuple[GradientScale, ...] = ()
    eps_per_coordinate: bool = True
    parameter_shaped: tuple[str, ...] = ()
    rule: Callable[..., rules.Optimizer] | None = None
    rates: tuple[str, ...] = ()


# Step laws.

SIGN_STEP = "first step: lr·sign(g)"


def _adam_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    lr = float(group["lr"])
    if at.step == 0:
        return PredictedStep(lr, SIGN_STEP)
    beta1, beta2 = map(float, group["betas"])
    factor = _adam_factor(beta1, beta2)
    return PredictedStep(factor * lr, f"under noise: {factor:.2g}·lr")


@lru_cache
def _adam_factor(beta1: float, beta2: float) -> float:
    """Of lr; one number for all tensors of a group."""
    return update_rms(beta1, beta2 if beta2 >= 0.8 else 1.0).item()


def _sgd_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    """b ← μ·b + (1 − d)·g, and b = g at first; a step is lr·b, with Nesterov's momentum lr·(g + μ·b)."""
    lr, momentum, kept = float(group["lr"]), group["momentum"], 1 - group["dampening"]
    if math.isnan(at.gradient_rms):
        return PredictedStep(math.nan, "lr·g: needs gradients")
    if momentum == 0 or at.step == 0:
        factor = 1 + momentum if momentum and group["nesterov"] else 1
        law = "lr·g" if factor == 1 else "first step: (1 + momentum)·lr·g"
        return PredictedStep(lr * at.gradient_rms * factor, law)
    latest = 1 + momentum if group["nesterov"] else kept  # weights of the gradients at lag 0, 1, 2, …
    second = momentum**2 if group["nesterov"] else kept * momentum
    factor = math.sqrt(latest**2 + second**2 / (1 - momentum**2)) if momentum < 1 else math.nan
    return PredictedStep(lr * at.gradient_rms * factor, f"under noise: {factor:.2g}·lr·g")


def _asgd_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    law = "lr·g: needs gradients" if math.isnan(at.gradient_rms) else "lr·g"
    return PredictedStep(float(group["lr"]) * at.gradient_rms, law)


def _rmsprop_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    """v = (1 − α)·g² at first, without bias correction."""
    lr = float(group["lr"])
    if at.step == 0:
        return PredictedStep(lr / math.sqrt(1 - group["alpha"]), "first step: lr/√(1−alpha)")
    factor = 1 / math.sqrt(1 - group["momentum"] ** 2)
    return PredictedStep(factor * lr, f"under noise: {factor:.2g}·lr")


def _adagrad_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    """The sum of t squares is t times their mean, and starts at ``initial_accumulator_value``."""
    lr, start = float(group["lr"]) / (1 + at.step * group["lr_decay"]), group.get("initial_accumulator_value", 0)
    if start:
        g = at.gradient_rms
        words = "lr·g/√(start + Σg²)" + (": needs gradients" if math.isnan(g) else ", about")
        return PredictedStep(lr * g / math.sqrt(start + (at.step + 1) * g**2) if g else g, words)
    return PredictedStep(lr / math.sqrt(at.step + 1), f"under noise: lr/√{at.step + 1}" if at.step else SIGN_STEP)


def _adafactor_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    """α·min(d, RMS(u)), where α is min(lr, 1/√t) of the parameter's RMS, or of eps[1] where that is more.

    The update u = g/max(√v, eps[0]) has the RMS 1 as long as eps[0] does not matter: exactly at first for a vector, to
    1 % for a matrix of hundreds of coordinates, to 6 % in a vector's first steps.  v is g² for a vector; for a
    matrix it is rows·columns/max(mean, eps[0]), where the three are means of g², so that eps[0] matters from
    g² = eps[0] on.  By default it is the eps of the dtype.
    """
    (eps, lower_rms), g = group["eps"], at.gradient_rms
    eps = torch.finfo(at.dtype).eps if eps is None else eps
    share = min(float(group["lr"]), 1 / math.sqrt(at.step + 1))
    size, law = share * max(lower_rms, at.rms), f"relative: {share:.2g}·RMS"
    is_matrix = len(at.shape) > 1
    if math.isnan(g) or g >= (math.sqrt(eps) if is_matrix else eps):
        return PredictedStep(size, law)
    update = g / max(g**2 / math.sqrt(eps) if is_matrix else g, eps)
    return PredictedStep(size * min(group["d"], update), f"{law}, other for small gradients (eps[0], d)")


def _muon_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    """An orthogonal matrix (rows, columns) has the RMS 1/√max(rows, columns); Newton and Schulz come near to one."""
    rows, columns = at.shape[:2]
    if group.get("adjust_lr_fn") == "match_rms_adamw":
        return PredictedStep(0.2 * float(group["lr"]), "orthogonal: 0.2·lr")
    lr = float(group["lr"]) * math.sqrt(max(1, rows / columns))
    law = "orthogonal: lr·√max(1, rows/columns)/√max(rows, columns)"
    return PredictedStep(lr / math.sqrt(max(rows, columns)), law)


def _sign_step(group: Hyperparameters, at: StepContext) -> PredictedStep:
    if at.step == 0:
        return PredictedStep(float(group["lr"]), SIGN_STEP)
    return PredictedStep(math.nan, "no law but for the first step")


# Other laws of Adam and AdamW.


def _adam_update(group: Hyperparameters, state: State, w: torch.Tensor) -> torch.Tensor:
    """m̂/(√v̂ + eps) + λ·w, up to how w has changed since; coupled decay is in m."""
    step, (beta1, beta2) = float(state["step"]), map(float, group["betas"])
    second = state["max_exp_avg_sq"] if "max_exp_avg_sq" in state else state["exp_avg_sq"]
    root = second.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
    update = torch.div(state["exp_avg"], root, out=root).div_(1 - beta1**step)
    decay = group["weight_decay"] if group.get("decoupled_weight_decay") else 0
    return update.add_(w, alpha=decay) if decay else update


def _adamw_equilibrium(group: Hyperparameters) -> float:
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if not 0 < lr * decay < 2:
        return math.nan
    return _equilibrium(lr, decay, float(group["betas"][0]))


@lru_cache
def _equilibrium(lr: float, decay: float, beta1: float) -> float:
    return equilibrium_rms(lr, decay, beta1).item()


# The table.

_MOMENTS = {"step": ONE, "exp_avg": G, "exp_avg_sq": G**2}
_AMSGRAD = {"max_exp_avg_sq": G**2}
_SECOND_MOMENT = GradientScale("exp_avg_sq", bias_corrected=True)
_LARGEST_SECOND_MOMENT = GradientScale("max_exp_avg_sq", bias_corrected=True)

KNOWN: dict[type, Known] = {
    optim.SGD: Known(
        Units(
            {"lr": W / G, "momentum": ONE, "dampening": ONE, "weight_decay": G / W},
            {"momentum_buffer": G},
            decay="coupled",
        ),
        step_law=_sgd_step,
        fused=True,
        parameter_shaped=("momentum_buffer",),
        rule=rules.sgd, rates=("momentum",),
    ),
    optim.ASGD: Known(
        Units(
            {"lr": W / G, "lambd": G / W, "alpha": ONE, "t0": ONE, "weight_decay": G / W},
            {"step": ONE, "eta": W / G, "mu": ONE, "ax": W},
            decay="times lr",
        ),
        step_law=_asgd_step,
        parameter_shaped=("ax",),
    ),
    optim.Rprop: Known(
        Units(
            {"lr": W, "etas": ONE, "step_sizes": W},
            {"step": ONE, "prev": G, "step_size": W},
        ),
        step_law=_sign_step,
        parameter_shaped=("prev", "step_size"),
    ),
    optim.Adagrad: Known(
        Units(
            {"lr": W, "lr_decay": ONE, "eps": G, "weight_decay": G / W, "initial_accumulator_value": G**2},
            {"step": ONE, "sum": G**2},
            decay="coupled",
        ),
        step_law=_adagrad_step,
        gradient_scales=(GradientScale("sum"),),
        parameter_shaped=("sum",),
        rule=rules.adagrad,
    ),
    # momentum accumulates gradients already divided by their scale: its buffer has no unit.
    optim.RMSprop: Known(
        Units(
            {"lr": W, "alpha": ONE, "eps": G, "weight_decay": G / W, "momentum": ONE},
            {"step": ONE, "square_avg": G**2, "grad_avg": G, "momentum_buffer": ONE},
            decay="coupled",
        ),
        step_law=_rmsprop_step,
        gradient_scales=(GradientScale("square_avg"),),
        parameter_shaped=("square_avg", "grad_avg", "momentum_buffer"),
        rule=rules.rmsprop, rates=("alpha", "momentum"),
    ),
    # One eps is added to square_avg (G²) and to acc_delta, and so gives acc_delta the unit G² too, where the
    # paper means W²: the update comes out in G, not W, and lr has to carry the rest, as in SGD.
    optim.Adadelta: Known(
        Units(
            {"lr": W / G, "rho": ONE, "eps": G**2, "weight_decay": G / W},
            {"step": ONE, "square_avg": G**2, "acc_delta": G**2},
            decay="coupled",
        ),
        gradient_scales=(GradientScale("square_avg"),),
        parameter_shaped=("square_avg", "acc_delta"),
        rule=rules.adadelta,
    ),
    optim.Adam: Known(
        Units({"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W}, _MOMENTS | _AMSGRAD, decay="coupled"),
        step_law=_adam_step,
        last_update=_adam_update,
        equilibrium=_adamw_equilibrium,  # with decoupled_weight_decay
        fused=True,
        gradient_scales=(_LARGEST_SECOND_MOMENT, _SECOND_MOMENT),
        parameter_shaped=("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
        rule=rules.adam, rates=("betas",),
    ),
    optim.AdamW: Known(
        Units({"lr": W, "betas": ONE, "eps": G, "weight_decay": ONE / W}, _MOMENTS | _AMSGRAD, decay="times lr"),
        step_law=_adam_step,
        last_update=_adam_update,
        equilibrium=_adamw_equilibrium,
        fused=True,
        gradient_scales=(_LARGEST_SECOND_MOMENT, _SECOND_MOMENT),
        parameter_shaped=("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
        rule=rules.adamw, rates=("betas",),
    ),
    optim.SparseAdam: Known(
        Units({"lr": W, "betas": ONE, "eps": G}, _MOMENTS),
        step_law=_adam_step,
        gradient_scales=(_SECOND_MOMENT,),
        parameter_shaped=("exp_avg", "exp_avg_sq"),
    ),
    optim.Adamax: Known(
        Units(
            {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W},
            {"step": ONE, "exp_avg": G, "exp_inf": G},
            decay="coupled",
        ),
        step_law=_sign_step,
        gradient_scales=(GradientScale("exp_inf", power=1),),
        parameter_shaped=("exp_avg", "exp_inf"),
        rule=rules.adamax,
    ),
    optim.NAdam: Known(
        Units(
            {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W, "momentum_decay": ONE},
            _MOMENTS | {"mu_product": ONE},
            decay="coupled",
        ),
        gradient_scales=(_SECOND_MOMENT,),
        parameter_shaped=("exp_avg", "exp_avg_sq"),
        rule=rules.nadam,
    ),
    optim.RAdam: Known(
        Units(
            {"lr": None, "betas": ONE, "eps": G, "weight_decay": G / W},
            _MOMENTS,
            reason="RAdam takes SGD's steps, lr·exp_avg (lr: L⁻¹ W²), while its variance estimate is young "
            "(rho_t ≤ 5: the first five steps at beta2 = 0.999) and Adam's (lr: W) from then on",
            decay="coupled",
        ),
        gradient_scales=(_SECOND_MOMENT,),
        parameter_shaped=("exp_avg", "exp_avg_sq"),
        rule=rules.radam,
    ),
    # Its step is a fraction of the parameter's own RMS: lr is a pure number.  For a matrix eps[0] also bounds
    # row_var.mean() from below, without being squared: its unit holds only while that bound is not reached.
    optim.Adafactor: Known(
        Units(
            {"lr": ONE, "beta2_decay": ONE, "eps": (G, W), "d": ONE, "weight_decay": ONE},
            {"step": ONE, "row_var": G**2, "col_var": G**2, "variance": G**2},
            decay="times lr",
        ),
        step_law=_adafactor_step,
        elementwise=False,
        parameter_shaped=("variance",),
    ),
    optim.Muon: Known(
        Units(
            {"lr": W, "weight_decay": ONE / W, "momentum": ONE, "ns_coefficients": ONE, "eps": G, "ns_steps": ONE},
            {"momentum_buffer": G},
            decay="times lr",
        ),
        step_law=_muon_step,
        elementwise=False,
        largest_cpu_trial=1 << 16,  # larger matrices take seconds
        eps_per_coordinate=False,  # one for a whole matrix
        parameter_shaped=("momentum_buffer",),
    ),
    optim.LBFGS: Known(
        Units(
            {"lr": None, "max_iter": ONE, "max_eval": ONE, "tolerance_grad": G, "tolerance_change": None,
             "history_size": ONE},
            {"d": None, "t": None, "prev_flat_grad": G, "prev_loss": L, "H_diag": W / G, "n_iter": ONE,
             "func_evals": ONE, "old_dirs": G, "old_stps": W, "ro": ONE / (G * W), "al": ONE},
            reason="LBFGS starts with a step of lr·min(1, 1/‖g‖₁)·g, which compares a gradient with the number 1, "
            "goes on with steps whose lr is a pure number, and holds one tolerance_change against both a change "
            "of the parameters (W) and a change of the loss (L)",
        ),
        elementwise=False,
        can_be_tried=False,  # it calls a closure
    ),
}  # fmt: skip

UNITS: dict[type, Units] = {optimizer_class: known.units for optimizer_class, known in KNOWN.items()}

# An optimizer that is not in the table: its step() may do anything, and its buffers are named as in torch.optim.
_STRANGER = Known(
    Units({}, {}),
    elementwise=False,
    can_be_tried=False,
    gradient_scales=(
        _LARGEST_SECOND_MOMENT, _SECOND_MOMENT, GradientScale("square_avg"), GradientScale("sum"),
        GradientScale("exp_inf", power=1),
    ),
    parameter_shaped=(
        "exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum", "variance", "prev", "exp_inf", "ax",
    ),
)  # fmt: skip


def known_of(optimizer_class: type, hyperparameters: Iterable[str] = ()) -> Known:
    """The entry of an optimizer class; for a class that is not in ``KNOWN``, what is assumed about it.

    That is little: its state buffers have the names of ``torch.optim``, and weight decay leads where it leads the
    class that it derives from.  Nothing is assumed about its units or its steps.

    Args:
        optimizer_class: any class of optimizers.
        hyperparameters: their names.  With ``ns_steps``, those of the Newton–Schulz iteration, a class that is not
            in the table compares eps with a whole matrix, as Muon does.

    >>> import torch
    >>> from scaleinv.known_optimizers import known_of
    >>> class Mine(torch.optim.AdamW):
    ...     pass
    >>> known_of(Mine).step_law is None, known_of(Mine).equilibrium is known_of(torch.optim.AdamW).equilibrium
    (True, True)
    """
    if optimizer_class in KNOWN:
        return KNOWN[optimizer_class]
    bases = (KNOWN[base].equilibrium for base in optimizer_class.__mro__ if base in KNOWN)
    return replace(
        _STRANGER, equilibrium=next(bases, None), eps_per_coordinate="ns_steps" not in hyperparameters
    )  # fmt: skip


def units_of_rule(rule: Callable[..., Any]) -> Units | None:
    """The ``Units`` of a rule of ``scaleinv.optimizers``, those of its class in ``torch.optim``; None without one.

    >>> from scaleinv.known_optimizers import units_of_rule
    >>> from scaleinv import optimizers
    >>> str(units_of_rule(optimizers.sgd).hyperparameters["lr"]), units_of_rule(optimizers.lion)
    ('L⁻¹ W²', None)
    """
    return next((known.units for known in KNOWN.values() if known.rule is rule), None)


def units_of(optimizer_class: type | Units, hyperparameters: Hyperparameters | None = None) -> Units:
    """The ``Units`` of an optimizer class of ``torch.optim``, or inferred ``Units`` as they are.

    Args:
        optimizer_class: a class of ``torch.optim``, or the result of ``infer_units``.
        hyperparameters: settle what a flag changes: with ``decoupled_weight_decay=True``, weight_decay has AdamW's
            unit.

    Raises:
        TypeError: if ``optimizer_class`` is neither a class nor ``Units``.
        ValueError: if the class is not in the table, or a flag differs from the one that the units were measured
            with.

    >>> import torch
    >>> from scaleinv.known_optimizers import units_of
    >>> print(units_of(torch.optim.SGD).hyperparameters["lr"])
    L⁻¹ W²
    """
    hyperparameters = hyperparameters or {}
    if isinstance(optimizer_class, Units):
        _check_flags(optimizer_class, hyperparameters)
        return _at_zero(optimizer_class, hyperparameters)
    if not isinstance(optimizer_class, type):
        raise TypeError(f"optimizer_class={optimizer_class!r} is not a class; pass one such as torch.optim.Adam")
    if optimizer_class not in KNOWN:
        raise ValueError(
            f"optimizer_class={optimizer_class.__name__} has no units in scaleinv.UNITS; measure them with "
            "scaleinv.infer_units and pass the result instead"
        )
    units = KNOWN[optimizer_class].units
    if hyperparameters.get("decoupled_weight_decay"):
        return replace(units, hyperparameters={**units.hyperparameters, "weight_decay": ONE / W}, decay="times lr")
    return units


def _at_zero(units: Units, hyperparameters: Hyperparameters) -> Units:
    """The units that hold where some hyperparameters are 0."""
    values = {**units.defaults, **hyperparameters}
    zeros = [key for key in units.at_zero if split_key(key)[0] in values and get_entry(values, key) == 0]
    if len(zeros) > 1:
        raise ValueError(
            f"{'=0, '.join(zeros)}=0: each of these changes the units, which were not measured with all of them; "
            "measure again with these values (scaleinv.infer_units)"
        )
    return units.at_zero[zeros[0]] if zeros else units


def _check_flags(units: Units, hyperparameters: Hyperparameters) -> None:
    for name, flag in units.defaults.items():
        value = hyperparameters.get(name, flag)
        if name not in units.hyperparameters and value is not flag and value != flag:
            raise ValueError(
                f"{name}={value!r}: the units were measured with {name}={flag!r} and hold only for that; measure "
                "them again with scaleinv.infer_units"
            )
