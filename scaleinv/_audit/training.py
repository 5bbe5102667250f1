"""What trains a model and what its gradients show; and of one parameter, all that its row is computed from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from scaleinv._audit.amounts import Size, rms, size_of
from scaleinv._audit.places import Group, Place
from scaleinv._audit.tried_step import TriedSteps, tried_steps
from scaleinv._stepping import stepping_class
from scaleinv.known_optimizers import KNOWN, Known, known_of, units_of
from scaleinv.units import Unit, Units


@dataclass(frozen=True)
class Trained:
    """A parameter with what trains it.  All numbers are those of the stored parameter, w'.

    Attributes:
        place: where it is in the model.
        optimizer, group_number: what trains it.
        units: of its optimizer with the group's flags; None where they are not known.
        unknown: what is not known about them or its steps, and why, in words.
        size: RMS of the parameter; NaN, and why, where it is not known.
        gradient_rms: of its gradient, divided by the loss scale that is still in it; NaN without one.
        clip: the factor by which ``clip_grad_norm_`` has yet to multiply the gradient.
        loss_scale: the factor by which a loss scaler has yet to divide it.
        recorded: RMS of its recorded steps; None without a recorder.
        tried: RMS of the next step of an optimizer outside ``torch.optim``; NaN where it could not be tried.
    """

    place: Place
    optimizer: torch.optim.Optimizer
    group_number: int
    units: Units | None
    unknown: str
    size: Size
    gradient_rms: float
    clip: float
    loss_scale: float
    recorded: float | None
    tried: float

    @property
    def parameter(self) -> torch.Tensor:
        return self.place.parameter

    @property
    def group(self) -> dict[str, Any]:
        return self.optimizer.param_groups[self.group_number]

    @property
    def state(self) -> dict[str, Any]:
        return self.optimizer.state.get(self.parameter, {})

    @property
    def rms(self) -> float:
        return self.size.rms

    @property
    def gradient_factor(self) -> float:
        """The factor between the gradient as it is and as the next step will see it."""
        return self.clip / self.loss_scale

    @property
    def stepping_class(self) -> type:
        """The class whose laws hold for its steps."""
        return stepping_class(type(self.optimizer))

    @property
    def known(self) -> Known:
        return known_of(self.stepping_class, self.group)

    @property
    def steps(self) -> int:
        """How many steps were taken, as far as the state tells; SGD's tells one at most."""
        if "step" in self.state:
            return int(self.state["step"])
        return int(any(isinstance(value, torch.Tensor) for value in self.state.values()))

    def unit_of(self, name: str) -> Unit | None:
        """The unit of a hyperparameter, where it is known and one."""
        unit = self.units.hyperparameters.get(name) if self.units else None
        return unit if isinstance(unit, Unit) else None


@dataclass(frozen=True)
class Training:
    """The optimizers of a model and what its gradients and its recorders show.

    Attributes:
        groups: parameter → what trains it.
        units: optimizer → its ``Units``, or its class where they are in the table or not known.
        recorded: name → RMS of its recorded steps.
        max_norm: as passed to ``audit``; NaN without one.
        loss_scales: optimizer → the factor by which a loss scaler has yet to divide its gradients; those that it
            does not name have none.
    """

    groups: Mapping[torch.Tensor, Group]
    units: Mapping[torch.optim.Optimizer, type | Units]
    recorded: Mapping[str, float]
    max_norm: float
    loss_scales: Mapping[torch.optim.Optimizer, float] = field(default_factory=dict)

    @cached_property
    def gradient_rms(self) -> dict[torch.Tensor, float]:
        """Of the gradients as the optimizers will see them, but for clipping."""
        present = {p: group[0] for p, group in self.groups.items() if p.grad is not None}
        return {p: rms(_gradient(p)) / self.loss_scales.get(optimizer, 1.0) for p, optimizer in present.items()}

    @cached_property
    def gradient_norm(self) -> float:
        """‖g‖ of all trained parameters; NaN without gradients."""
        squares = [value**2 * p.numel() for p, value in self.gradient_rms.items()]
        return math.sqrt(sum(squares)) if squares else math.nan

    @property
    def clip(self) -> float:
        """The factor of the gradient that ``clip_grad_norm_`` would make it."""
        if self.max_norm < self.gradient_norm < math.inf:
            return min(1.0, self.max_norm / (self.gradient_norm + 1e-6))
        return 1.0

    @cached_property
    def tried(self) -> dict[torch.optim.Optimizer, TriedSteps]:
        """The next steps of the optimizers whose class is not in the table."""
        strangers = [optimizer for optimizer in self.units if stepping_class(type(optimizer)) not in KNOWN]
        return {each: tried_steps(each, self.clip / self.loss_scales.get(each, 1.0)) for each in strangers}

    def trained(self, place: Place) -> Trained | None:
        """The parameter with what trains it; None if it is frozen or no optimizer holds it."""
        parameter = place.parameter
        if not parameter.requires_grad or parameter not in self.groups:
            return None
        optimizer, number = self.groups[parameter]
        units, unknown_units = _group_units(self.units[optimizer], optimizer, number)
        if units and units.hyperparameters.get("lr") is None:
            unknown_units = f"lr of {type(optimizer).__name__} has no single unit, so it is not converted"
        tried = self.tried.get(optimizer, TriedSteps({}))
        return Trained(
            place,
            optimizer,
            number,
            units,
            "; ".join(text for text in (unknown_units, tried.failure) if text),
            size=size_of(parameter),
            gradient_rms=self.gradient_rms.get(parameter, math.nan),
            clip=self.clip,
            loss_scale=self.loss_scales.get(optimizer, 1.0),
            recorded=self.recorded.get(place.name),
            tried=tried.changes.get(parameter, math.nan),
        )


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _group_units(units: type | Units, optimizer: torch.optim.Optimizer, number: int) -> tuple[Units | None, str]:
    """The units with the flags of a group; None, and why, where they are not known."""
    try:
        return units_of(units, optimizer.param_groups[number]), ""
    except ValueError as error:
        if isinstance(units, Units):  # measured with other flags
            return None, str(error)
        name = type(optimizer).__name__
        return None, f"the units of {name} are not known; pass units='infer', or the result of infer_units"
