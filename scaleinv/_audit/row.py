"""One parameter of an audit: its numbers, as the model sees them."""

import math
from dataclasses import dataclass
from typing import Any

from scaleinv._audit.amounts import rms
from scaleinv._audit.decay import decay_of
from scaleinv._audit.eps import eps_shares
from scaleinv._audit.measured_step import measured_step
from scaleinv._audit.places import Place
from scaleinv._audit.predicted_step import predicted_step
from scaleinv._audit.training import Trained
from scaleinv.units import Unit


@dataclass(frozen=True)
class Row:
    """One parameter.

    Numbers that are undefined or not known are NaN.  w is the effective parameter, with which the model computes, and
    w' = k·w is what the optimizer holds where ``scale_parameters`` scaled it by k.

    Attributes:
        parameter, names, layer: its name, all of its names (several where it is tied), and its module's class.
        shape, dtype: of the parameter.
        status: "trained", "frozen" (requires no gradient), or "left out" (requires one, but no optimizer holds it).
        rms: RMS(w), unit W.
        optimizer, group: the class that trains it, and the number of its group there; "" and −1 for none.
        step: how many steps its optimizer took, as far as its state tells; SGD's tells one at most.
        weight: the factor k by which it is stored.
        lr: for w, that is lr/kᵇ where the unit of lr contains Wᵇ; NaN where k is not 1 and the unit is not known.
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
        note: what else there is to know.

    Where the model computes with the parameter through another parametrization, such as ``weight_norm``'s, rms is
    that of what the model computes with; steps, relative ones too, are those of the parameter itself, as ``note``
    says.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(4, 3)
    >>> weight, bias = scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=1e-3)).rows
    >>> weight.parameter, weight.shape, weight.lr, weight.unit, weight.law
    ('weight', (3, 4), 0.001, W, 'first step: lr·sign(g)')
    """

    parameter: str
    names: tuple[str, ...]
    layer: str
    shape: tuple[int, ...]
    dtype: str
    status: str
    rms: float
    optimizer: str = ""
    group: int = -1
    step: int = 0
    weight: float = 1.0
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
    def relative(self) -> float:
        """Relative change of a step, as measured, else as predicted."""
        return self.predicted if math.isnan(self.measured) else self.measured

    @property
    def coordinates(self) -> int:
        return math.prod(self.shape)


def row_of_untrained(place: Place, gradient_rms: float) -> Row:
    """The row of a parameter that is frozen or that no optimizer holds."""
    return Row(
        **_about(place, rms(place.parameter)),
        status="left out" if place.parameter.requires_grad else "frozen",
        gradient_rms=gradient_rms * place.weight,
        note=place.note,
    )


def row_of(trained: Trained) -> Row:
    """The row of a trained parameter: its numbers converted from those of w' to those of w."""
    place, weight = trained.place, trained.place.weight
    predicted, law = predicted_step(trained)
    measured, source = measured_step(trained)
    change = predicted if math.isnan(measured) else measured
    decay, eps = decay_of(trained, change), eps_shares(trained)
    return Row(
        **_about(place, trained.rms),
        status="trained",
        optimizer=type(trained.optimizer).__name__,
        group=trained.group_number,
        step=trained.steps,
        lr=_effective_lr(trained),
        unit=trained.unit_of("lr"),
        gradient_rms=trained.gradient_rms * weight,
        predicted=_relative(predicted, trained),
        law=law,
        measured=_relative(measured, trained),
        source=source,
        change=change / weight,
        below_eps=eps.below,
        without_gradient=eps.zero,
        decay=decay.share,
        decay_rate=decay.rate,
        equilibrium=decay.equilibrium / weight,
        note="; ".join(note for note in (place.note, trained.unknown_units) if note),
    )


def _about(place: Place, stored_rms: float) -> dict[str, Any]:
    """The columns of every row."""
    return {
        "parameter": place.name,
        "names": place.names,
        "layer": place.layer,
        "shape": tuple(place.parameter.shape),
        "dtype": str(place.parameter.dtype).removeprefix("torch."),
        "rms": place.effective_rms(stored_rms),
        "weight": place.weight,
    }


def _effective_lr(trained: Trained) -> float:
    lr, unit, weight = float(trained.group.get("lr", math.nan)), trained.unit_of("lr"), trained.place.weight
    if weight == 1:
        return lr
    return lr * unit.factor(weight=1 / weight) if unit else math.nan


def _relative(step: float, trained: Trained) -> float:
    return step / trained.rms if trained.rms else math.nan
