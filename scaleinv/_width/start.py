"""How large the weights start: the standard start, or that of μP; as named, or as two models have it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from scaleinv._norms import norms_of
from scaleinv._width.kinds import Growth, Sized

STARTS = {  # start → kind → the power of n
    "standard": {"input": 0.0, "hidden": -0.5, "output": -0.5},
    "μP": {"input": 0.0, "hidden": -0.5, "output": -1.0},
}
CLOSE = 0.2  # by how much a power that is measured on two draws may miss


@dataclass(frozen=True)
class Start:
    """The powers of n by which weights and gradients go.

    Attributes:
        growth: the model against its base.
        name: "standard" or "μP"; empty for what the two models have.
    """

    growth: Growth
    name: str

    def weight(self, sized: Sized) -> float:
        """Of RMS(w)."""
        if self.name:
            return STARTS[self.name].get(sized.kind, 0.0)
        power = self._measured(sized)
        return 0.0 if math.isnan(power) else power

    def gradient(self, sized: Sized) -> float:
        """Of RMS(g).

        The gradient at the outputs does not depend on the width, and a hidden unit gets it through one weight of the
        last layer.

        Raises:
            ValueError: if it is not known.
        """
        if sized.kind == "output" or sized.kind == "fixed" and sized.beside_output:
            return 0.0
        if sized.kind == "fixed":
            if self._last == -1:
                return 0.0  # a sum over n units, of terms in line
            raise ValueError(
                f"model: {sized.names[0]!r} does not grow, and how its gradient does is not known from the standard "
                "start; leave it out, with an optimizer that holds the others"
            )
        return self._last

    @cached_property
    def _last(self) -> float:
        """The power of the last layer's weights."""
        if self.name:
            return STARTS[self.name]["output"]
        for each in self.growth.parameters:
            power = self._measured(each) if each.kind == "hidden" else -0.5
            if not math.isnan(power) and power != -0.5:
                raise ValueError(
                    f"model: {each.names[0]!r} starts as n^{power:g}, where n^−0.5 keeps its outputs, so that the size "
                    f"of gradients is not known; start it at 1/√fan_in, {_OR_NAME}"
                )
        powers = {_zero_as_small(self._measured(each)) for each in self.growth.parameters if each.kind == "output"}
        if len(powers) != 1 or not powers <= {-0.5, -1.0}:
            what = "there is no output layer" if not powers else f"output layers start as n^{sorted(powers)}"
            raise ValueError(f"model: {what}, so that the size of gradients is not known; {_OR_NAME[3:]}")
        return powers.pop()

    def _measured(self, sized: Sized) -> float:
        """The power of n in RMS(w), a multiple of ½; NaN where both are zero."""
        if sized.base is None or sized.parameter.is_meta:
            raise ValueError(f"base has no numbers, which would tell how weights start; {_OR_NAME[3:]}")
        new, old = _rms([sized.parameter.detach()]), _rms([sized.base])
        if new == old == 0:
            return math.nan
        if self.growth.n == 1:
            return {"hidden": -0.5, "output": -0.5}.get(sized.kind, 0.0)
        power = math.log(new / old, float(self.growth.n)) if new > 0 and old > 0 else math.inf
        nearest = round(2 * power) / 2 if math.isfinite(power) else math.nan
        if not abs(power - nearest) < CLOSE:
            raise ValueError(
                f"model: {sized.names[0]!r} has an RMS of {new:.3g}, in the base {old:.3g}, which is no start that is "
                f"known; pass models before their training, {_OR_NAME}"
            )
        return nearest


_OR_NAME = "or name the start: start='standard', or start='μP', whose last layer starts at 1/fan_in"


def _zero_as_small(power: float) -> float:
    """A last layer that starts at zero is as large as its first steps, which go as 1/n."""
    return -1.0 if math.isnan(power) else power


def _rms(tensors: Sequence[torch.Tensor]) -> float:
    return norms_of(tensors).item() / math.sqrt(tensors[0].numel())
