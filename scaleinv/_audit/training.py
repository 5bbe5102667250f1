"""What trains a model and what its gradients show; and of one parameter, all that its row is computed from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from scaleinv._audit.amounts import rms
from scaleinv._audit.places import Group, Place
from scaleinv.known_optimizers import Known, known_of, units_of
from scaleinv.units import Unit, Units


@dataclass(frozen=True)
class Trained:
    """A parameter with what trains it.  All numbers are those of the stored parameter, w'.

    Attributes:
        place: where it is in the model.
        optimizer, group_number: what trains it.
        units: of its optimizer with the group's flags; None where they are not known.
        unknown_units: why they are not known, in words.
        rms: of the parameter.
        gradient_rms: of its gradient as it is; NaN without one.
        clip: the factor by which ``clip_grad_norm_`` has yet to multiply the gradient.
        recorded: RMS of its recorded steps; None without a recorder.
    """

    place: Place
    optimizer: torch.optim.Optimizer
    group_number: int
    units: Units | None
    unknown_units: str
    rms: float
    gradient_rms: float
    clip: float
    recorded: float | None

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
    def known(self) -> Known:
        return known_of(type(self.optimizer), self.group)

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
    """

    groups: Mapping[torch.Tensor, Group]
    units: Mapping[torch.optim.Optimizer, type | Units]
    recorded: Mapping[str, float]
    max_norm: float

    @cached_property
    def gradient_rms(self) -> dict[torch.Tensor, float]:
        return {p: rms(p.grad) for p in self.groups if p.grad is not None}

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

    def trained(self, place: Place) -> Trained | None:
        """The parameter with what trains it; None if it is frozen or no optimizer holds it."""
        parameter = place.parameter
        if not parameter.requires_grad or parameter not in self.groups:
            return None
        optimizer, number = self.groups[parameter]
        units, unknown_units = _group_units(self.units[optimizer], optimizer, number)
        return Trained(
            place,
            optimizer,
            number,
            units,
            unknown_units,
            rms=rms(parameter),
            gradient_rms=self.gradient_rms.get(parameter, math.nan),
            clip=self.clip,
            recorded=self.recorded.get(place.name),
        )


def _group_units(units: type | Units, optimizer: torch.optim.Optimizer, number: int) -> tuple[Units | None, str]:
    """The units with the flags of a group; None, and why, where they are not known."""
    try:
        return units_of(units, optimizer.param_groups[number]), ""
    except ValueError as error:
        if isinstance(units, Units):  # measured with other flags
            return None, str(error)
        name = type(optimizer).__name__
        return None, f"the units of {name} are not known; pass units='infer', or the result of infer_units"
