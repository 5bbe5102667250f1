"""All numbers of an audit: a row for each parameter, and the norm of the gradient."""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from scaleinv._audit.row import Row
from scaleinv._audit.unregistered import Unregistered


@dataclass(frozen=True, repr=False)
class Measurements:
    """The numbers of an audit.

    Attributes:
        rows: a ``Row`` for each parameter of the model, in its order.
        gradient_norm: ‖g‖ of all trained parameters, as the optimizers see it; NaN without gradients.
        max_norm: as passed to ``audit``; NaN where it was not.
        other_tensors: how many tensors the optimizers hold that the model does not have.
        stale_tensors: how many of these have the shape of a parameter that no optimizer holds.
        twice: names of the parameters that one optimizer holds more than once.
        unregistered: what the model keeps in plain lists, and no optimizer holds.
        not_frozen: names of what stands below a module whose attribute requires_grad is False, which freezes nothing.
        loss_scale: the factor by which a loss scaler has yet to divide the gradients; the numbers are without it.
        scale: the factor of the loss scaler, whether or not it is still in the gradients.
        run_steps: how many steps the run has; NaN where that is not known.
        lr_sharpness: lr·λ_max(P⁻¹H) of the loss passed to ``audit``; NaN without one.
        sharpness: the same with its error and its share of the optimizer's threshold, in a line; empty without one.
    """

    rows: Sequence[Row]
    gradient_norm: float = math.nan
    max_norm: float = math.nan
    other_tensors: int = 0
    stale_tensors: int = 0
    twice: Sequence[str] = ()
    unregistered: Sequence[Unregistered] = ()
    not_frozen: Collection[str] = ()
    loss_scale: float = 1.0
    scale: float = 1.0
    run_steps: float = math.nan
    lr_sharpness: float = math.nan
    sharpness: str = ""

    @property
    def clipped(self) -> bool:
        """Whether the gradient is clipped: its norm is at max_norm or beyond."""
        return self.gradient_norm >= 0.999 * self.max_norm  # clipped already, it is a little below

    @property
    def muted(self) -> Sequence[object]:
        """Findings that are not shown; an ``Audit`` may have some."""
        return ()

    @property
    def trained(self) -> list[Row]:
        """The rows of the parameters that an optimizer trains."""
        return [row for row in self.rows if row.status == "trained"]

    def frame(self) -> pd.DataFrame:
        """A ``pandas.DataFrame``, one row per parameter; its columns are those of ``Row``, the unit as text."""
        return pd.DataFrame([asdict(row) | {"unit": "" if row.unit is None else str(row.unit)} for row in self.rows])

    def summary(self) -> pd.DataFrame:
        """A ``pandas.DataFrame``, one row per type of layer: how many tensors and coordinates it has, their RMS, the
        medians of predicted and measured, and the share of coordinates below eps among those that have one."""
        frame = self.frame()
        frame["coordinates"] = [row.coordinates for row in self.rows]
        frame["square"] = frame["coordinates"] * frame["rms"] ** 2
        frame["sized"] = frame["coordinates"].where(frame["has_size"], 0)
        frame["small"] = frame["coordinates"] * frame["below_eps"]
        frame["with_eps"] = frame["coordinates"].where(frame["below_eps"].notna(), 0)
        layers = frame.groupby("layer", sort=False)
        size = layers["coordinates"].sum()
        return pd.DataFrame(
            {
                "tensors": layers.size(),
                "coordinates": size,
                "rms": (layers["square"].sum(min_count=1) / layers["sized"].sum()) ** 0.5,
                "predicted": layers["predicted"].median(),
                "measured": layers["measured"].median(),
                "below_eps": layers["small"].sum() / layers["with_eps"].sum(),
            }
        ).reset_index()
