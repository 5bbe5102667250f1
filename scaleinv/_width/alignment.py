"""How far a step moves the outputs of a layer: what the shape adds to what the units say, measured on a small tensor.

The gradient of a layer is a sum of δ·xᵀ over samples.  A step on such a gradient moves the output for this x by ΔW·x,
whose terms are in line.  How much of that the width changes is the optimizer's own: a step of Adam moves all entries
alike, so that ΔW·x grows with the number of inputs; one of Muon has singular values of 1, whatever the shape.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from scaleinv._convert import defaults_of
from scaleinv._hyperparameters import Factory
from scaleinv._infer import isolated
from scaleinv._width.kinds import SIDES, Sized
from scaleinv.units import Unit

SIDE, TIMES = 8, 4  # of the smallest trial, and by how much it grows
CLOSE = 0.1  # by how much a measured exponent may miss a multiple of ½
STEPS = 2
LR, GRADIENT = 2.0**-7, 2.0**20  # of a trial, whatever the unit: what is compared is proportional; far from any eps


class Layout(NamedTuple):
    """A trial tensor: outputs, inputs, entries of its kernel, whether it is a vector or stored as (inputs, outputs)."""

    outputs: int
    inputs: int
    kernel: tuple[int, ...] = ()
    is_vector: bool = False
    inputs_first: bool = False


@dataclass(frozen=True)
class Trial:
    """An optimizer and its hyperparameters, tried on small tensors.

    Attributes:
        factory: makes it.
        values: its hyperparameters; the defaults for all others.
        unit: of lr.
        known: what was measured so far.
    """

    factory: Factory
    values: Mapping[str, Any]
    unit: Unit
    known: dict[Any, float] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return getattr(self.factory, "__name__", repr(self.factory))

    @property
    def per_gradient(self) -> float:
        """A step is lr·RMS(g)^this·RMS(w)^``per_weight``, times what the shape does to it: a W."""
        return -float(self.unit.loss)

    @property
    def per_weight(self) -> float:
        return 1 - float(self.unit.weight) + self.per_gradient

    def exponent(self, sized: Sized) -> float:
        """The power of n by which ΔW·x grows with a tensor's sides, at the same lr, RMS(g) and RMS(w).

        Raises:
            ValueError: if there is none, or the optimizer cannot be tried.
        """
        outputs, inputs = SIDES[sized.kind]
        if outputs == inputs == 0:
            return 0.0
        shapes = sized.base_shape, tuple(sized.parameter.shape)
        powers = [self._exponent(_layout(shape, sized), outputs, inputs) for shape in shapes]
        if powers[0] != powers[1]:
            raise ValueError(
                f"{self.name}: how a step goes with the shape changes between {shapes[0]} and {shapes[1]} of "
                f"{sized.names[0]!r}; choose a base that is as wide as it is high there, or taller, as the model is"
            )
        return powers[0]

    def _exponent(self, at: Layout, outputs: int, inputs: int) -> float:
        key = at, outputs, inputs
        if key not in self.known:
            self.check(at)
            grown = at._replace(outputs=at.outputs * TIMES**outputs, inputs=at.inputs * TIMES**inputs)
            power = math.log(self._reach(grown) / self._reach(at), TIMES)
            self.known[key] = round(2 * power) / 2
            if abs(power - self.known[key]) > CLOSE:
                raise ValueError(
                    f"{self.name}: a step moves an output by n^{power:.2f}, which is no power of ½; set its lr by its "
                    "authors' rule"
                )
        return self.known[key]

    def check(self, at: Layout) -> None:
        """Check that a step goes with lr, RMS(g) and RMS(w) as the unit of lr says.

        Raises:
            ValueError: if it does not.
        """
        one = self._reach(at)
        half = {"lr": self._reach(at, lr=0.5), "gradient": self._reach(at, g=0.5), "weights": self._reach(at, w=0.5)}
        wanted = {"lr": 1.0, "gradient": self.per_gradient, "weights": self.per_weight}
        for what, reach in half.items():
            power = math.log2(one / reach) if reach > 0 and one > 0 else math.nan
            if not abs(power - wanted[what]) < CLOSE:
                raise ValueError(
                    f"{self.name}: lr has the unit {self.unit}, and a step goes with the {what} to the power "
                    f"{power:.2g}, not {wanted[what]:g}; what follows from units does not hold for it. Set its lr by "
                    "its authors' rule"
                )

    def _reach(self, at: Layout, *, lr: float = 1.0, g: float = 1.0, w: float = 1.0) -> float:
        """RMS(ΔW·x) of a few steps on g = δ·xᵀ, where x and W have the RMS 1."""
        generator = torch.Generator().manual_seed(0)
        kernel = math.prod(at.kernel)
        x = torch.randint(0, 2, (at.inputs * kernel,), generator=generator, device="cpu") * 2.0 - 1
        delta = torch.randint(0, 2, (at.outputs,), generator=generator, device="cpu") * 2.0 - 1
        start = w * torch.randn(at.outputs, at.inputs * kernel, generator=generator, device="cpu")
        with isolated():
            try:
                parameter = torch.nn.Parameter(_stored(start, at))
                decays = "weight_decay" in {**defaults_of(self.factory), **self.values}
                none = {"weight_decay": 0.0} if decays else {}
                optimizer = self.factory([parameter], **{**self.values, "lr": lr * LR, **none})
                for _ in range(STEPS):
                    gradient = g * GRADIENT * _stored(torch.outer(delta, x), at)
                    sparse = self.factory is torch.optim.SparseAdam
                    parameter.grad = gradient.to_sparse() if sparse else gradient
                    optimizer.step()
            except Exception as error:  # whatever a third party's constructor or step may raise
                raise ValueError(
                    f"{self.name} could not be tried on a tensor of shape {tuple(_stored(start, at).shape)}: "
                    f"{type(error).__name__}: {error}; pass an optimizer that holds what it takes alone"
                ) from error
        moved = _rows(parameter.detach(), at) - start
        return (moved @ x).double().square().mean().sqrt().item()


def _layout(shape: tuple[int, ...], sized: Sized) -> Layout:
    """A small tensor of the same proportions, as far as they matter: square, tall or wide."""
    if sized.kind == "vector" or len(shape) < 2:
        return Layout(SIDE, 1, (), True)
    tall = shape[0] / (shape[1] if len(shape) == 2 else math.prod(shape[1:]))
    sides = (TIMES * SIDE, SIDE) if tall >= 2 else (SIDE, TIMES * SIDE) if tall <= 0.5 else (SIDE, SIDE)
    outputs, inputs = reversed(sides) if sized.inputs_first else sides
    kernel = tuple(min(side, 2) for side in shape[2:])
    return Layout(outputs, inputs, kernel, False, sized.inputs_first)


def _stored(rows: torch.Tensor, at: Layout) -> torch.Tensor:
    if at.is_vector:
        return rows[:, 0].clone()
    tensor = rows.reshape(at.outputs, at.inputs, *at.kernel)
    return (tensor.transpose(0, 1) if at.inputs_first else tensor).clone()


def _rows(tensor: torch.Tensor, at: Layout) -> torch.Tensor:
    return (tensor.transpose(0, 1) if at.inputs_first else tensor).reshape(at.outputs, -1)
