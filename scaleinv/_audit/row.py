"""One parameter of an audit: its numbers, from its place in the model, its optimizer's state and its gradient."""

import math
from dataclasses import dataclass

import torch

from scaleinv._audit.amounts import rms, shares_below
from scaleinv.laws import equilibrium_rms
from scaleinv._audit.predicted_step import predicted_step
from scaleinv._audit.measured_step import last_step, next_step
from scaleinv.known_optimizers import units_of
from scaleinv.units import ONE, G, Unit, W


@dataclass(frozen=True)
class Row:
    """One parameter.  Numbers that are not known, or undefined, are NaN; w is the effective parameter, with which the
    model computes, and w' = k·w the one that the optimizer holds, where ``scale_parameters`` scaled it.

    Attributes:
        parameter, names, layer: its name, all of its names (several where it is tied), and its module's class.
        shape, dtype: of the parameter.
        status: "trained", "frozen" (requires no gradient), or "left out" (requires one, but no optimizer holds it).
        optimizer, group: the class that trains it, and the number of the group in it; "" and −1 for none.
        step: how many steps its optimizer took of it, as far as its state tells; SGD's tells one at most.
        rms: RMS(w), unit W.
        k: the factor of its ``Scale``.
        lr: for w, that is lr/kᵇ where the unit of lr holds Wᵇ; NaN where k is not 1 and the unit not known.
        unit: of lr; None where there is none or it is not known.
        gradient_rms: as backward left it on w; NaN without one.
        predicted, law: relative change of a step, RMS(Δw)/RMS(w), by the optimizer's law, and the law; without decay.
        measured, source: relative change of a step, decay and all, and how it was measured: "recorder" (the median
            change of the latest 10 steps, over RMS(w) now), "gradients" (the step that optimizer.step() would take
            now, tried on a copy) or "state" (the last step, from Adam's moments).
        change: RMS(Δw), unit W: as measured, else as predicted.
        below_eps: share of coordinates whose gradient scale, as the optimizer estimates it, is below eps but not 0.
        without_gradient: share of coordinates where it is 0.
        decay: weight decay's share: lr·λ·RMS(w)/RMS(Δw) where it is decoupled, λ·RMS(w)/RMS(g) where it is not.
        decay_rate: lr·λ, the share of w that decoupled decay takes at a step.
        equilibrium: RMS(w) to which AdamW's weight decay leads under noise, unit W.
        note: what else there is to say.

    Where the model computes with the parameter through another parametrization, as of ``weight_norm``, rms is that of
    what it computes with, and steps, relative ones too, are those of the parameter itself, as ``note`` says.
    """

    parameter: str
    names: tuple
    layer: str
    shape: tuple
    dtype: str
    status: str
    rms: float
    optimizer: str = ""
    group: int = -1
    step: int = 0
    k: float = 1.0
    lr: float = math.nan
    unit: Unit | None = None
    gradient_rms: float = math.nan
    predicted: float = math.nan
    law: str = ""
    measured: float = math.nan
    source: str = ""
    change: float = math.nan
    below_eps: float = math.nan
    without_gradient: float = math.nan
    decay: float = math.nan
    decay_rate: float = math.nan
    equilibrium: float = math.nan
    note: str = ""

    @property
    def relative(self):
        """Relative change of a step, as measured, else as predicted."""
        return self.predicted if math.isnan(self.measured) else self.measured

    @property
    def coordinates(self):
        return math.prod(self.shape)


def row_of(place, holder, known, gradient_rms, recorded, clip):
    """The ``Row`` of a ``Place``.

    Args:
        holder: the ``Holder`` that trains it, or None.
        known: the id of an optimizer → what ``units_of`` takes for it.
        gradient_rms: of the parameter as the optimizer holds it; NaN without a gradient.
        recorded: name → RMS of its recorded steps.
        clip: the factor by which the gradient is to be clipped yet.
    """
    p = place.parameter
    stored = rms(p)
    about = {
        "parameter": place.names[0], "names": tuple(place.names), "layer": place.layer, "shape": tuple(p.shape),
        "dtype": str(p.dtype).removeprefix("torch."), "rms": place.effective_rms(stored), "k": place.k,
    }  # fmt: skip
    if not p.requires_grad or holder is None:
        status = "left out" if p.requires_grad else "frozen"
        return Row(**about, status=status, gradient_rms=gradient_rms * place.k, note=place.note)

    group, cls = holder.group, type(holder.optimizer)
    state = holder.optimizer.state.get(p, {})
    units, why = _group_units(known[id(holder.optimizer)], cls, group)
    step = _steps(state)
    seen = gradient_rms * clip
    predicted, law = predicted_step(cls, group, shape=p.shape, step=step, rms=stored, gradient_rms=seen)
    measured, source = math.nan, ""
    if place.names[0] in recorded:
        measured, source = recorded[place.names[0]], "recorder"
    elif not math.isnan(gradient_rms):
        measured, source = next_step(holder.optimizer, group, p, clip=clip), "gradients"
    elif step:
        measured, source = last_step(holder.optimizer, group, p), "state"
    change = predicted if math.isnan(measured) else measured
    below, zero = _eps_shares(units, group, state, p.grad, clip)
    unit = units.hyperparameters.get("lr") if units else None
    lr = float(group.get("lr", math.nan))
    return Row(
        **about,
        status="trained",
        optimizer=cls.__name__,
        group=holder.number,
        step=step,
        lr=lr if place.k == 1 else lr * unit.factor(weight=1 / place.k) if unit else math.nan,
        unit=unit,
        gradient_rms=gradient_rms * place.k,
        predicted=_ratio(predicted, stored),
        law=law,
        measured=_ratio(measured, stored),
        source=source if not math.isnan(measured) else "",
        change=change / place.k,
        below_eps=below,
        without_gradient=zero,
        **_decay(units, cls, group, stored, change, seen, place.k),
        note="; ".join(part for part in (place.note, why) if part),
    )


def _decay(units, cls, group, stored, change, gradient_rms, k):
    """Weight decay's share, and where it leads: decoupled (unit W⁻¹, or 1) or coupled (unit G W⁻¹)."""
    decay = float(group.get("weight_decay", 0) or 0)
    unit = units.hyperparameters.get("weight_decay") if units else None
    if not decay or "lr" not in group or not isinstance(unit, Unit):
        return {}
    if unit == G / W:
        return {"decay": _ratio(decay * stored, gradient_rms)}
    if unit not in (ONE / W, ONE):
        return {}
    rate = float(group["lr"]) * decay
    found = {"decay": _ratio(rate * stored, change), "decay_rate": rate}
    if issubclass(cls, torch.optim.Adam) and 0 < rate < 2:
        found["equilibrium"] = equilibrium_rms(float(group["lr"]), decay, float(group["betas"][0])).item() / k
    return found


# state → the power of the gradient in it; what the optimizers divide by, in order of precedence
_SCALES = {"max_exp_avg_sq": 2, "exp_avg_sq": 2, "square_avg": 2, "sum": 2, "exp_inf": 1}


def _eps_shares(units, group, state, gradient, clip):
    """The shares of coordinates where the gradient's scale is below eps, and 0: by the state, else by the gradient."""
    eps, unit = group.get("eps"), units.hyperparameters.get("eps") if units else None
    power = {G: 1, G**2: 2}.get(unit) if isinstance(unit, Unit) else None
    if power is None or not isinstance(eps, float | int) or "ns_steps" in group:  # Muon's is one for a whole matrix
        return math.nan, math.nan
    eps = float(eps) ** (1 / power)  # Adadelta's is added under the root
    for name, root in _SCALES.items():
        if isinstance(state.get(name), torch.Tensor) and _steps(state):
            corrected = name.endswith("exp_avg_sq") and "betas" in group and "step" in state
            young = 1 - float(group["betas"][1]) ** float(state["step"]) if corrected else 1.0
            return shares_below(state[name], eps**root * young)
    return (math.nan, math.nan) if gradient is None else shares_below(gradient, eps / clip)


def _steps(state):
    if "step" in state:
        return int(state["step"])
    return int(any(isinstance(value, torch.Tensor) for value in state.values()))  # at least one


def _group_units(units, cls, group):
    try:
        return units_of(units, group), ""
    except ValueError as error:
        if units is not cls:  # measured with other flags
            return None, str(error)
        return None, f"the units of {cls.__name__} are not known; pass units='infer', or what infer_units finds"


def _ratio(a, b):
    return a / b if b else math.nan
