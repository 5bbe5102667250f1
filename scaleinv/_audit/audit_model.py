"""What an engineer wants to know before and while training: how large each tensor is, how far a step moves it, what
decides that, and what is unusual about it.

A step is told relative to the tensor, RMS(Δw)/RMS(w): that is what an lr in the unit W means.
"""

import inspect
import math
from dataclasses import asdict, dataclass, replace

import pandas as pd

from scaleinv._audit.amounts import rms
from scaleinv._audit.report import as_html, as_text, audit_report
from scaleinv._audit.findings import findings_of
from scaleinv._infer import infer_units
from scaleinv._audit.places import holders_of, places_of
from scaleinv.recorder import Recorder
from scaleinv._audit.row import row_of
from scaleinv._checks import check_scale
from scaleinv.known_optimizers import UNITS

LATEST = 10  # steps of a Recorder whose median is reported


@dataclass(frozen=True, repr=False)
class Audit:
    """What ``audit`` found.  Prints as a report for a terminal, and shows as one in a notebook.

    Attributes:
        rows: a ``Row`` for each parameter of the model, in its order.
        findings: each a ``Finding``, the gravest first.
        gradient_norm: ‖g‖ over all trained parameters, as the optimizers see it; NaN without gradients.
        max_norm: as given to ``audit``; NaN where it was not.
        clipped: whether clipping sets the step: the gradient's norm is at max_norm or beyond.
        other_tensors: how many tensors the optimizers hold that the model has not.
    """

    rows: list
    findings: list
    gradient_norm: float = math.nan
    max_norm: float = math.nan
    clipped: bool = False
    other_tensors: int = 0

    def frame(self):
        """A ``pandas.DataFrame``, one row a parameter; its columns are those of ``Row``, the unit as a string."""
        return pd.DataFrame([asdict(row) | {"unit": _said(row.unit)} for row in self.rows])

    def summary(self):
        """A ``pandas.DataFrame``, one row a type of layer: how many tensors and coordinates it has, their RMS, the
        medians of predicted and measured, and the share of coordinates below eps, over what is trained."""
        frame = self.frame()
        frame["coordinates"] = [row.coordinates for row in self.rows]
        frame["square"] = frame["coordinates"] * frame["rms"] ** 2
        frame["small"] = frame["coordinates"] * frame["below_eps"]
        frame["looked_at"] = frame["coordinates"].where(frame["below_eps"].notna(), 0)
        layers = frame.groupby("layer", sort=False)
        size = layers["coordinates"].sum()
        return pd.DataFrame(
            {
                "tensors": layers.size(),
                "coordinates": size,
                "rms": (layers["square"].sum() / size) ** 0.5,
                "predicted": layers["predicted"].median(),
                "measured": layers["measured"].median(),
                "below_eps": layers["small"].sum() / layers["looked_at"].sum(),
            }
        ).reset_index()

    def flat(self):
        """A dict from "column/parameter" to a finite float, for a logger; what is unknown is left out."""
        columns = "rms", "lr", "gradient_rms", "predicted", "measured", "below_eps", "decay", "equilibrium"
        found = {f"{column}/{row.parameter}": getattr(row, column) for column in columns for row in self.rows}
        found |= {"gradient_norm": self.gradient_norm, "clipped": self.clipped, "findings": len(self.findings)}
        return {key: float(value) for key, value in found.items() if math.isfinite(value)}

    def __rich__(self):
        return audit_report(self)

    def __str__(self):
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self):
        return as_html(self)


def audit(model, optimizer, *, recorder=None, units=None, max_norm=None):
    """How large each parameter is and how far a step moves it, what decides that, and what is unusual.

    Args:
        model: an ``nn.Module``.
        optimizer: the ``torch.optim.Optimizer`` that trains it, or a list of those that do so together.
        recorder: a ``Recorder`` of this training, or a list of them: then steps are measured, not tried.
        units: ``Units`` of an optimizer that is not in ``UNITS``, as ``infer_units`` finds them; "infer" measures them
            here, in a second or two.  Without, the lr of such an optimizer is said to have no known unit.
        max_norm: as given to ``clip_grad_norm_``, to see whether clipping sets the step.  Gradients may be clipped
            already, or not yet.

    Returns:
        An ``Audit``.

    Raises:
        TypeError: for what is no module, optimizer, recorder, units or number.
        ValueError: for parameters without numbers, an optimizer that holds none of the model's or two that hold the
            same, and a max_norm that is not positive and finite.

    Model, optimizer and random state are left as they are.  Copied are a block of a tensor at a time, with its
    gradient and its state; a whole tensor for Adafactor and Muon, whose steps depend on all of it.  Where parameters
    are DTensors, every process has to call it, and finds the same.
    """
    places = places_of(model)
    optimizers = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    recorders = list(recorder) if isinstance(recorder, list | tuple) else [] if recorder is None else [recorder]
    for each in recorders:
        if not isinstance(each, Recorder):
            raise TypeError(f"recorder={each!r} is not a scaleinv.Recorder, nor a list of them")
    if max_norm is not None:
        max_norm = check_scale("max_norm", max_norm)
    return audit_places(places, optimizers, recorders, units, max_norm)


def audit_places(places, optimizers, recorders=(), units=None, max_norm=None):
    """``audit`` of ``Place``s and checked arguments."""
    holders, unknown = holders_of(optimizers, places)
    known = {id(optimizer): _units(optimizer, units) for optimizer in optimizers}
    recorded = _recorded(recorders)
    gradients = {p: rms(p.grad) for p in holders if p.grad is not None}
    norm = math.sqrt(sum(value**2 * p.numel() for p, value in gradients.items())) if gradients else math.nan
    limit = math.nan if max_norm is None else max_norm
    clip = min(1.0, limit / (norm + 1e-6)) if limit < norm < math.inf else 1.0
    rows = [
        row_of(place, holders.get(place.parameter), known, gradients.get(place.parameter, math.nan), recorded, clip)
        for place in places
    ]
    clipped = norm >= 0.999 * limit  # clipped already, it is a little below
    made = Audit(rows, [], norm, limit, clipped, unknown)
    return replace(made, findings=findings_of(made))


def _units(optimizer, units):
    """The ``Units`` of an optimizer or its class; to be looked up, with the group, by ``units_of``."""
    cls = type(optimizer)
    if units is None:
        return cls
    if units == "infer":
        return cls if cls in UNITS else _inferred(cls, optimizer.param_groups[0])
    if not hasattr(units, "hyperparameters"):
        raise TypeError(f"units={units!r} are no Units; pass what infer_units returns, 'infer', or leave it out")
    return cls if cls in UNITS else units


def _inferred(cls, group):
    accepted = inspect.signature(cls).parameters
    return infer_units(cls, {name: value for name, value in group.items() if name in accepted and name != "params"})


def _recorded(recorders):
    """Name → the median change of the stored parameter over its latest steps."""
    found = {}
    for recorder in recorders:
        frame = recorder.frame()
        for name, steps in frame.groupby("parameter", sort=False):
            found[name] = steps["update_rms"].tail(LATEST).median()
    return found


def _said(unit):
    return "" if unit is None else str(unit)
