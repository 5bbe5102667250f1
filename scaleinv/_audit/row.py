"""One parameter of an audit: its numbers, as the model sees them."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from scaleinv._audit.amounts import Size, size_of
from scaleinv._audit.decay import decay_of
from scaleinv._audit.eps import eps_of
from scaleinv._audit.growth import growth_of, shrunk_by
from scaleinv._audit.measured_step import measured_step
from scaleinv._audit.memory import memory_of
from scaleinv._audit.places import Place
from scaleinv._audit.predicted_step import predicted_step
from scaleinv._audit.rounding import lost_share
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
        has_size: whether rms is known; packed weights, and those on the meta device, have none.
        weight_decay: λ as set.
        decay_lost: share of the coordinates where the dtype rounds decoupled decay away.
        lost: share of the coordinates meant to move that the dtype leaves where they are, as rounding the step to the
            parameter's format does; NaN where that is not known.
        gradient_scale: RMS of what eps is compared with, as the optimizer's state has it, L W⁻¹; without a state, of
            the gradient.
        small_scale: the same of the coordinates below eps, where they are a tenth or more.
        eps, eps_rounds_to_zero: as set, and whether it is 0 in the format in which it is added.
        beta2: the decay rate of the second moment.
        stuck: share of the coordinates of the second moment that a format of 16 bits cannot let shrink.
        alignment, growth: cosine of the gradient with the average of those before, and its size beside theirs; only
            where the gradient was never replaced by a new one, so that it may be the sum of all.
        has_gradient: whether backward left one.
        schedule: lr over its peak, where a schedule tells it.
        orthogonal: whether Muon, of torch or another, makes its steps orthogonal.
        later: what the law predicts for step 100, or the next step if that is later, relative to the parameter.
        shrunk: size of the gradient over that of the average of those before, where a loss scale is still in it.
        has_fresh_gradient: whether the gradient is as backward made it, with nothing written into it since.
        no_decay: whether the model marks it as one not to decay, by the attribute ``_no_weight_decay``.

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
    has_size: bool = True
    weight_decay: float = math.nan
    decay_lost: float = math.nan
    lost: float = math.nan
    gradient_scale: float = math.nan
    small_scale: float = math.nan
    eps: float = math.nan
    eps_rounds_to_zero: bool = False
    beta2: float = math.nan
    stuck: float = math.nan
    alignment: float = math.nan
    growth: float = math.nan
    has_gradient: bool = False
    schedule: float = math.nan
    orthogonal: bool = False
    later: float = math.nan
    shrunk: float = math.nan
    no_decay: bool = False
    has_fresh_gradient: bool = False

    @property
    def relative(self) -> float:
        """Relative change of a step, as measured, else as predicted."""
        return self.predicted if math.isnan(self.measured) else self.measured

    @property
    def coordinates(self) -> int:
        return math.prod(self.shape)

    @property
    def is_embedding(self) -> bool:
        """Whether it is a table whose rows are looked up."""
        return "Embedding" in self.layer and len(self.shape) == 2

    @property
    def is_bias(self) -> bool:
        return len(self.shape) < 2 and "bias" in self.parameter.rpartition(".")[2]

    @property
    def is_head(self) -> bool:
        """Whether its name is one usual for the last layer of a classifier or language model."""
        words = self.parameter.lower().split(".")
        return any(word in ("head", "lm_head", "classifier", "unembed", "output_projection") for word in words)

    @property
    def is_young(self) -> bool:
        """Whether the steps taken may have made it from zero: it has no scale of its own yet."""
        return 0 < self.step <= 100 and self.rms < 2 * self.step * self.change

    @property
    def is_gain(self) -> bool:
        """Whether it is the factor of a normalisation."""
        module, _, own = self.parameter.rpartition(".")
        owner = module.rpartition(".")[2].lower()
        normalises = "Norm" in self.layer or "norm" in owner or owner.startswith(("ln", "bn"))
        return len(self.shape) == 1 and normalises and own in ("weight", "gamma", "scale", "g")


def row_of_untrained(place: Place, gradient_rms: float) -> Row:
    """The row of a parameter that is frozen or that no optimizer holds."""
    size = size_of(place.parameter)
    return Row(
        **_about(place, size),
        status="left out" if place.parameter.requires_grad else "frozen",
        gradient_rms=gradient_rms * place.weight,
        note=_joined(place.note, size.unknown),
    )


def row_of(trained: Trained) -> Row:
    """The row of a trained parameter: its numbers converted from those of w' to those of w."""
    place, weight = trained.place, trained.place.weight
    eps = eps_of(trained)
    predicted, law = predicted_step(trained, eps.zero)
    measured, source = measured_step(trained)
    change = predicted if math.isnan(measured) else measured
    decay, memory, growth = decay_of(trained, change), memory_of(trained), growth_of(trained)
    return Row(
        **_about(place, trained.size),
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
        note=_joined(place.note, trained.size.unknown, trained.unknown),
        weight_decay=_number(trained.group.get("weight_decay")),
        decay_lost=decay.lost,
        lost=lost_share(trained, predicted if math.isnan(measured) or not measured else change),
        gradient_scale=eps.scale * weight,
        small_scale=eps.small * weight,
        eps=_number(trained.group.get("eps")),
        eps_rounds_to_zero=eps.rounds_to_zero,
        beta2=memory.beta2,
        stuck=memory.stuck,
        alignment=growth.alignment,
        growth=growth.ratio,
        has_gradient=trained.parameter.grad is not None,
        schedule=_schedule(trained),
        orthogonal=_is_orthogonal(trained),
        later=_relative(predicted_step(trained, eps.zero, least_steps=100).rms, trained),
        shrunk=shrunk_by(trained),
        has_fresh_gradient=_is_fresh(trained.parameter.grad),
        no_decay=bool(getattr(trained.parameter, "_no_weight_decay", False)),
    )


def _about(place: Place, size: Size) -> dict[str, Any]:
    """The columns of every row."""
    return {
        "parameter": place.name,
        "names": place.names,
        "layer": place.layer,
        "shape": tuple(place.parameter.shape),
        "dtype": str(place.parameter.dtype).removeprefix("torch."),
        "rms": place.effective_rms(size.rms),
        "has_size": not size.unknown,
        "weight": place.weight,
    }


def _effective_lr(trained: Trained) -> float:
    lr, unit, weight = _number(trained.group.get("lr")), trained.unit_of("lr"), trained.place.weight
    if weight == 1:
        return lr
    return lr * unit.factor(weight=1 / weight) if unit else math.nan


def _relative(step: float, trained: Trained) -> float:
    return step / trained.rms if trained.rms else math.nan


def _number(value: Any) -> float:
    """A hyperparameter that is one number, or a tensor of one; NaN for any other."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value)
    return float(value) if isinstance(value, int | float) else math.nan


def _schedule(trained: Trained) -> float:
    """lr over the largest that a scheduler of torch keeps in the group."""
    lr, *peaks = (_number(trained.group.get(name)) for name in ("lr", "initial_lr", "max_lr"))
    peak = max((peak for peak in peaks if peak > 0), default=math.nan)
    return lr / peak


def _is_fresh(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and not gradient.is_inference() and gradient._version == 0


def _is_orthogonal(trained: Trained) -> bool:
    """By the name of the class, and the flags with which such optimizers mark the groups that they train as Adam."""
    group = trained.group
    return "Muon" in type(trained.optimizer).__name__ and bool(group.get("use_muon", True))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
