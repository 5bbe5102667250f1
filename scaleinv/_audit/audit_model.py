"""What an engineer wants to know before and while training: how large each tensor is, how far a step moves it, what
decides that, and what is unusual about it.

Steps are relative to the tensor, RMS(Δw)/RMS(w): that is what an lr in the unit W means.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from rich.console import Group
from torch import nn

from scaleinv._audit.baseline import load_audit
from scaleinv._audit.document import document
from scaleinv._audit.findings import Finding, findings_of
from scaleinv._audit.logged import flat_numbers
from scaleinv._audit.loss_scale import loss_scale, scale_of
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.page import as_html
from scaleinv._audit.picture import plot_audit
from scaleinv._audit.places import Place, held_by, places_of
from scaleinv._audit.report import audit_report
from scaleinv._audit.row import row_of, row_of_untrained
from scaleinv._audit.run_steps import steps_of
from scaleinv._audit.settings import check_mutes, is_muted, project_settings
from scaleinv._audit.training import Training
from scaleinv._audit.unregistered import Unregistered, not_frozen, unregistered
from scaleinv._audit.unwrapped import scaler_of, unwrapped
from scaleinv._checks import check_scale
from scaleinv._curvature import sharpness
from scaleinv._infer import infer_units
from scaleinv._report import as_json, as_text
from scaleinv._stepping import stepping_class
from scaleinv.known_optimizers import KNOWN
from scaleinv.recorder import Recorder
from scaleinv.units import Units

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.figure import Figure

_LATEST = 10  # steps of a Recorder whose median is reported

Optimizers: TypeAlias = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
Recorders: TypeAlias = Recorder | Sequence[Recorder]


@dataclass(frozen=True, repr=False)
class Audit(Measurements):
    """The result of ``audit``.  Prints as a report in a terminal, and shows as one in a notebook.

    Attributes:
        rows: a ``Row`` for each parameter of the model, in its order.
        findings: each a ``Finding``, the gravest first.
        gradient_norm: ‖g‖ of all trained parameters, as the optimizers see it; NaN without gradients.
        max_norm: as passed to ``audit``; NaN where it was not.
        clipped: whether the gradient is clipped: its norm is at max_norm or beyond.
        other_tensors: how many tensors the optimizers hold that the model does not have.
        lr_sharpness: lr·λ_max(P⁻¹H) of the loss passed to ``audit``; NaN without one.
        sharpness: the line of the report about it.
        mute: as passed to ``audit``, or as the project sets it.
        muted: the findings that ``mute`` takes away.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(4, 3)
    >>> result = scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=1e-3))
    >>> result.frame()[["parameter", "lr", "unit"]].to_csv(index=False).split()
    ['parameter,lr,unit', 'weight,0.001,W', 'bias,0.001,W']
    >>> result.flat()["lr/weight"]
    0.001
    """

    mute: tuple[str, ...] = ()

    @cached_property
    def _all_findings(self) -> list[Finding]:
        return findings_of(self)

    @cached_property
    def findings(self) -> list[Finding]:
        return [finding for finding in self._all_findings if not is_muted(finding, self.mute)]

    @cached_property
    def muted(self) -> list[Finding]:
        return [finding for finding in self._all_findings if is_muted(finding, self.mute)]

    def as_dict(self) -> dict[str, Any]:
        """A summary, findings, muted findings and rows as plain data, for JSON; None where a number is not known.

        ``save`` writes it to a file, and the command prints it with ``--json``.

        >>> import json, torch, scaleinv
        >>> layer = torch.nn.Linear(4, 3)
        >>> result = scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=1e-3))
        >>> json.loads(json.dumps(result.as_dict()))["rows"][0]["parameter"]
        'weight'
        """
        return document(self, self.findings, self.muted)

    def flat(self) -> dict[str, float]:
        """A dict of at most 200 finite floats for a logger, whatever the size of the model.

        Keys are "column/name", for the columns rms, lr, gradient_rms, predicted, measured, below_eps, decay and
        equilibrium: of each parameter where there are at most 20; else the median over the parameters of each block
        ("measured/h.0–11.attn.weight"), of those whose names differ only in numbers ("measured/layer*.*.conv*.weight"),
        or of each type of layer ("measured/Conv2d.weight"), the finest of these that has at most 20 names.  Besides:
        gradient_norm, lr_sharpness, clipped, findings, faults, warnings, remarks, and the median_step and
        largest_step of all trained parameters.  What is not known is left out.
        """
        return flat_numbers(self, self.findings)

    def save(self, path: "str | PathLike[str]") -> None:
        """Write the numbers and the findings to a JSON file, as a baseline for ``compare``.

        Raises:
            OSError: if the file cannot be written.
        """
        text = as_json(self.as_dict())
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: "str | PathLike[str]") -> "Audit":
        """Read what ``save`` has written, or the command with ``--json``.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it does not hold an audit.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(4, 3)
        >>> result = scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=1e-3))
        >>> result.save("baseline.json")
        >>> print(scaleinv.compare(scaleinv.Audit.load("baseline.json"), result))
        2 tensors: 2 as before; 0 new findings, 0 gone
        """
        numbers, findings = load_audit(path, cls)
        audit = cls(**numbers)
        vars(audit)["_all_findings"] = findings  # as they were found then
        return audit

    def plot(self) -> "Figure":
        """Draw how far a step moves each parameter, in the model's order, and ring those that faults and warnings name.

        The band is where matrices usually are at the full learning rate, 0.01 to 1 % a step.  Adam's first steps are
        four times as large as its later ones; those in warm-up and at the end of a schedule are smaller.

        Returns:
            A ``matplotlib`` figure: shown in a notebook, saved by ``.savefig(path)``.

        Raises:
            ImportError: without matplotlib.
            ValueError: if no step is known and not zero.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(4, 3)
        >>> figure = scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=1e-3)).plot()
        >>> figure.axes[0].get_yscale()
        'log'
        """
        return plot_audit(self, self.findings)

    def text(self, *, width: int = 80, folded: bool = True) -> str:
        """The report as plain text, as ``str`` gives it.

        Args:
            width: columns.
            folded: whether identical blocks share a line; if not, every parameter has its own.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(4, 3)
        >>> print(scaleinv.audit(layer, torch.optim.Adam(layer.parameters(), lr=1e-3)).text().splitlines()[0])
        2 tensors with 15 coordinates, trained by Adam; 0 findings
        """
        return as_text(self.report(folded=folded), width)

    def report(self, *, folded: bool = True) -> Group:
        """The report for ``rich.print``, in colour and in the width of the terminal.

        Args:
            folded: whether identical blocks share a line; if not, every parameter has its own.

        >>> import rich, torch, scaleinv
        >>> layer = torch.nn.Linear(4, 3)
        >>> result = scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=1e-3))
        >>> rich.print(result.report())  # doctest: +ELLIPSIS
        2 tensors with 15 coordinates, trained by AdamW; 0 findings
        ...
        """
        return audit_report(self, self.findings, folded=folded)

    def __rich__(self) -> Group:
        return self.report()

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self, self.findings)


def audit(  # noqa: PLR0913 (its options are its API)
    model: nn.Module,
    optimizer: Optimizers,
    *,
    recorder: Recorders | None = None,
    units: Units | str | None = None,
    max_norm: float | None = None,
    scaler: Any = None,
    steps: Any = None,
    loss: Callable[[], torch.Tensor] | None = None,
    mute: Collection[str] | None = None,
) -> Audit:
    """Show how large each parameter is and how far a step moves it, what decides that, and what is unusual.

    Args:
        model: an ``nn.Module``.
        optimizer: the ``torch.optim.Optimizer`` that trains it, or a list of those that do so together; or a wrapper
            whose ``optimizer`` is one, as Accelerate's and Lightning's.
        recorder: a ``Recorder`` of this training, or a list of them: then steps are measured, not tried.
        units: ``Units`` of an optimizer that is not in ``UNITS``, such as the result of ``infer_units``; "infer"
            measures them here, in a second or two.  Without them the lr of such an optimizer has no known unit.
        max_norm: as passed to ``clip_grad_norm_``, to see whether clipping sets the step, as SGD's, or cancels, as in
            Adam's.  Gradients may be clipped already, or not yet.
        scaler: the ``GradScaler`` that scales the loss, or the factor: gradients that it has not unscaled yet are
            divided by it.  It is not known between ``scaler.update()`` and ``zero_grad()``.
        steps: how many steps the run has, or a scheduler that knows, to compare them with beta2's memory.
        loss: a function without arguments that computes the loss with the model, for a line with lr·λ_max(P⁻¹H) beside
            the optimizer's threshold (``sharpness``, which takes some 20 backward passes).  There has to be one
            optimizer, of a class that ``sharpness`` takes.
        mute: findings that are known and meant, which are then counted, not shown: each as its kind; "kind:pattern",
            such as "much_decay:*.bias", for those whose parameters all match the pattern; "kind<size", such as
            "moves_unlike_the_rest<20", for those of a smaller ``Finding.size``; or "kind<size:pattern".  "*" is any
            kind.  By default the ``mute`` in the table ``[tool.scaleinv]`` of the pyproject.toml in the current folder
            or above it.

    Returns:
        An ``Audit``.

    Raises:
        TypeError: if an argument is not a module, optimizer, recorder, ``Units``, number or list of strings.
        ValueError: if a parameter that requires a gradient has no numbers, two optimizers hold the same one,
            max_norm, scaler or steps is not positive and finite, a kind in mute is not known, or ``sharpness`` refuses
            the loss or the optimizer.

    Model, optimizer and random state stay as they are.  It copies one block of a tensor at a time, with its gradient
    and its state; a whole tensor for Adafactor and Muon, whose steps depend on all of it.  Where parameters are
    DTensors, every process has to call it, and gets the same result.

    >>> import torch, scaleinv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    >>> with torch.no_grad():
    ...     _ = model[1].bias.zero_()
    >>> print(scaleinv.audit(model, torch.optim.AdamW(model.parameters(), lr=1e-3)).findings[0])
    1.bias starts at zero: its relative step is undefined, its absolute step is lr = 0.001.
    """
    places = places_of(model)
    recorders = [] if recorder is None else _listed(recorder)
    for each in recorders:
        if not isinstance(each, Recorder):
            raise TypeError(f"recorder={each!r} is not a scaleinv.Recorder; pass one of this training, or a list")
    mute = project_settings().mute if mute is None else check_mutes(mute)
    wrapped = _listed(optimizer)
    optimizers = [unwrapped(each) for each in wrapped]
    held = held_by(optimizers, places)
    context = Context(
        recorded=_recorded(recorders),
        max_norm=math.nan if max_norm is None else check_scale("max_norm", max_norm),
        loss_scales={
            own: loss_scale(scaler_of(outer) if scaler is None else scaler, own)
            for outer, own in zip(wrapped, optimizers, strict=True)
        },
        scale=max(scale_of(scaler_of(each) if scaler is None else scaler) for each in wrapped),
        run_steps=steps_of(steps),
        unregistered=unregistered(model, [*held.groups, *held.others]),
        not_frozen=not_frozen(model),
    )
    sharpest = {} if loss is None else _sharpness(model, loss, optimizers)
    return replace(audit_places(places, optimizers, units=units, context=context), mute=mute, **sharpest)


def _sharpness(
    model: nn.Module, loss: Callable[[], torch.Tensor], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any]:
    """The fields of an ``Audit`` that say how sharp the loss is."""
    if len(optimizers) > 1:
        raise ValueError(f"loss is for one optimizer, not {len(optimizers)}; pass each to scaleinv.sharpness by itself")
    found = sharpness(model, loss, optimizers[0])
    return {"lr_sharpness": found.lr_sharpness, "sharpness": found.line()}


@dataclass(frozen=True)
class Context:
    """What is known about a training besides its parameters and optimizers.

    Attributes:
        recorded: name → RMS of its recorded steps.
        max_norm: as passed to ``audit``; NaN without one.
        loss_scales: optimizer → the factor by which a loss scaler has yet to divide its gradients.
        scale: the factor of the loss scaler, whether or not it is still in the gradients.
        run_steps: how many steps the run has; NaN where that is not known.
        unregistered: what the model keeps in plain lists, and no optimizer holds.
        not_frozen: names of the parameters that an attribute requires_grad of a module does not freeze.
    """

    recorded: Mapping[str, float] = field(default_factory=dict)
    max_norm: float = math.nan
    loss_scales: Mapping[torch.optim.Optimizer, float] = field(default_factory=dict)
    scale: float = 1.0
    run_steps: float = math.nan
    unregistered: Sequence[Unregistered] = ()
    not_frozen: Collection[str] = ()


_NO_CONTEXT = Context()


def audit_places(
    places: Sequence[Place],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    units: Units | str | None = None,
    context: Context = _NO_CONTEXT,
) -> Audit:
    """``audit`` of places."""
    held = held_by(optimizers, places)
    units_by_optimizer = {optimizer: _units(optimizer, units) for optimizer in optimizers}
    training = Training(held.groups, units_by_optimizer, context.recorded, context.max_norm, context.loss_scales)
    rows, left_out = [], set()
    for place in places:
        trained = training.trained(place)
        if trained is None and place.parameter.requires_grad:
            left_out.add(tuple(place.parameter.shape))
        gradient_rms = training.gradient_rms.get(place.parameter, math.nan)
        rows.append(row_of(trained) if trained else row_of_untrained(place, gradient_rms))
    return Audit(
        rows,
        training.gradient_norm,
        context.max_norm,
        other_tensors=len(held.others),
        stale_tensors=sum(tuple(other.shape) in left_out for other in held.others),
        twice=held.twice,
        unregistered=context.unregistered,
        not_frozen=context.not_frozen,
        loss_scale=max(context.loss_scales.values(), default=1.0),
        scale=context.scale,
        run_steps=context.run_steps,
    )


def _listed(value: Any) -> list[Any]:
    """One thing as a list of it."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _units(optimizer: torch.optim.Optimizer, units: Units | str | None) -> type | Units:
    """What ``units_of`` takes for an optimizer: its class, or its ``Units``."""
    optimizer_class = stepping_class(type(optimizer))
    if not (units is None or units == "infer" or isinstance(units, Units)):
        raise TypeError(f"units={units!r} is not Units; pass the result of infer_units, 'infer', or leave it out")
    if units is None or optimizer_class in KNOWN:
        return optimizer_class
    return units if isinstance(units, Units) else _inferred(optimizer_class, optimizer.param_groups[0])


def _inferred(optimizer_class: type, group: dict[str, Any]) -> Units:
    accepted = inspect.signature(optimizer_class).parameters
    hyperparameters = {name: value for name, value in group.items() if name in accepted and name != "params"}
    return infer_units(optimizer_class, hyperparameters)


def _recorded(recorders: Sequence[Recorder]) -> dict[str, float]:
    """Name → the median change of the stored parameter over its latest steps."""
    changes = {}
    for recorder in recorders:
        for name, steps in recorder.frame().groupby("parameter", sort=False):
            changes[str(name)] = float(steps["update_rms"].tail(_LATEST).median())
    return changes
