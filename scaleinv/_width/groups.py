"""Carry an optimizer's settings to another width: parameter groups with an lr, eps and weight decay of their own."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd
from torch import nn
from torch.optim import Optimizer

from scaleinv._convert import defaults_of
from scaleinv._infer import infer_units
from scaleinv._report import as_text, table, value_text
from scaleinv._width.alignment import Trial
from scaleinv._width.kinds import Sized, growth_of
from scaleinv._width.row import Row
from scaleinv._width.settings import Powers, Tuned, check_others, powers_of
from scaleinv._width.start import STARTS, Start
from scaleinv.known_optimizers import KNOWN, units_of
from scaleinv.units import Unit

CHANGED = ("lr", "eps", "weight_decay")


@dataclass(frozen=True)
class Width:
    """What ``width`` returns: groups of parameters with the settings for this width.

    Attributes:
        n: how many times as wide as the base the model is.
        groups: make the optimizer by ``OptimizerClass(width.groups)``.
        rows: one for each parameter.
        notes: what parameter groups do not carry, in sentences.

    >>> import torch, scaleinv
    >>> model, base = (torch.nn.Sequential(torch.nn.Linear(8, d), torch.nn.Linear(d, 4)) for d in (64, 16))
    >>> result = scaleinv.width(model, base, torch.optim.SGD, {"lr": 0.5})
    >>> [(row.name, row.powers.lr) for row in result.rows]
    [('0.weight', 0.5), ('0.bias', 0.5), ('1.weight', -1.0), ('1.bias', 0.0)]
    """

    n: Fraction
    groups: list[dict[str, Any]]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """One row for each parameter.

        Returns:
            A DataFrame, indexed by name, with the columns kind, base_shape, shape; lr, eps and weight_decay where the
            optimizer has them; n^lr, n^eps and n^weight_decay, the powers of n by which they change; and reason.
        """
        lines = []
        for row in self.rows:
            values = {name: self.groups[row.group][name] for name in CHANGED if name in self.groups[row.group]}
            powers = {f"n^{name}": getattr(row.powers, name) for name in values}
            places = {"name": row.name, "kind": row.kind, "base_shape": row.base_shape, "shape": row.shape}
            lines.append({**places, **values, **powers, "reason": row.powers.reason})
        return pd.DataFrame(lines).set_index("name")

    def __str__(self) -> str:
        head = f"{float(self.n):g} times as wide as the base (n = {float(self.n):g}):"
        lines: dict[tuple[int, str, str], int] = {}
        for row in self.rows:
            key = row.group, row.kind, row.powers.reason
            lines[key] = lines.get(key, 0) + 1
        names = [name for name in CHANGED if name in self.groups[0]]
        rows = [
            (kind, count, *(value_text(self.groups[group][name]) for name in names), reason)
            for (group, kind, reason), count in lines.items()
        ]
        shown = as_text(table(("kind", "tensors", *names, "because"), rows, words=("kind", "because")), width=110)
        return "\n".join([head, shown, *(["", *self.notes] if self.notes else [])])


def width(  # noqa: PLR0913 (its options are its API)
    model: nn.Module,
    base: nn.Module | Mapping[str, Any],
    optimizer: Optimizer | Callable[..., Any],
    settings: Mapping[str, Any] | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    start: str = "",
) -> Width:
    """Return parameter groups for a model, with settings that were found for the same model at a base width.

    ::

        Δ(W·x) ∝ lr · RMS(g)^a · RMS(w)^b · n^alignment   stays, where n is the width over the base's

    In this order: the *units* of lr give a and b, 0 and 0 for Adam, 1 and 0 for SGD, 0 and 1 for Adafactor.  The
    *alignment*, how far a step moves a layer's outputs, is measured on a small tensor: 1 for each side of inputs
    that grows, for a step that moves every entry alike; 0 for Muon's hidden matrices.  The *start* gives RMS(w) and,
    through the last layer, RMS(g).  eps then goes with RMS(g), and weight decay keeps the share of the parameter that
    it takes at a step.  Where a layer is stored with a gain, use ``convert`` with ``changes.gain`` besides.

    Everett et al. (2024), arXiv 2407.05872, "Scaling exponents across parameterizations and optimizers", carry an lr
    for each layer over from the standard start too; Yang et al. (2021), arXiv 2203.03466, Table 3, list the lr of μP.

    Args:
        model: the model, at its start.
        base: the same model at the base width, its ``state_dict()``, or a dict from names to shapes.
        optimizer: an optimizer of ``model`` with the settings of the base, whose groups are kept and divided; or a
            class, for all parameters that require a gradient.  Units that are not in the table are measured.
        settings: with a class, its hyperparameters at the base width.
        kinds: name → "input", "hidden", "output", "vector" (biases, norms) or "fixed", for a parameter that does not
            tell.
        start: "standard", where every layer starts at 1/√fan_in, or "μP", where the last one starts at 1/fan_in (or
            at zero).  By default that of ``model`` and ``base``, from their numbers.

    Returns:
        A ``Width``; its groups are for a new optimizer.

    Raises:
        TypeError: if an argument is not what it has to be.
        ValueError: if shapes did not grow by one factor, the kind of a parameter cannot be told, a head is tied to an
            embedding, the start is another one and matters, a setting is unknown, or the optimizer's steps do not
            follow from its units.

    >>> import torch, scaleinv
    >>> def make(d):
    ...     return torch.nn.Sequential(torch.nn.Linear(8, d), torch.nn.Linear(d, d), torch.nn.Linear(d, 4))
    >>> result = scaleinv.width(make(64), make(16), torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1})
    >>> print(result)
    4 times as wide as the base (n = 4):
    kind    tensors       lr    eps  weight_decay  because
    input         1    0.001  5e-09           0.1  a step moves the output as far as at the base; eps goes with
                                                   the gradient, n^-0.5
    vector        2    0.001  5e-09           0.1  a step moves the output as far as at the base; eps goes with
                                                   the gradient, n^-0.5
    hidden        1  0.00025  5e-09           0.4  ΔW·x adds up over n times the inputs; eps goes with the
                                                   gradient, n^-0.5; lr·λ stays, so λ is n^1
    output        1  0.00025  1e-08           0.4  ΔW·x adds up over n times the inputs; lr·λ stays, so λ is n^1
    fixed         1    0.001  1e-08           0.1  a step moves the output as far as at the base
    >>> optimizer = torch.optim.AdamW(result.groups)
    """
    growth = growth_of(model, base, kinds or {})
    if start not in ("", *STARTS):
        raise ValueError(f"start={start!r} is not a start; pass 'standard', 'μP', or nothing")
    by_id = {id(each.parameter): each for each in growth.parameters}
    start_of = Start(growth, start)
    groups: dict[Any, dict[str, Any]] = {}
    rows = []
    known: dict[Any, Tuned] = {}
    for number, group in enumerate(_old_groups(model, optimizer, settings)):
        tuned = _tuned(optimizer, group, known)
        for place, p in enumerate(group["params"]):
            if id(p) not in by_id:
                raise ValueError("optimizer: one of its parameters is not in the model; pass the model that it trains")
            sized = by_id[id(p)]
            powers = _powers(tuned, start_of, sized)
            new = _changed(group, tuned.values, powers, float(growth.n))
            key = number, sized.kind, tuple(str(value) for value in new.values())
            made = groups.setdefault(key, {**group, **new, **{name: [] for name in _lists(group)}})
            for name in _lists(group):
                made[name].append(group[name][place])
            shape = tuple(sized.parameter.shape)
            rows.append(Row(sized.names[0], sized.kind, sized.base_shape, shape, powers, list(groups).index(key)))
    return Width(growth.n, list(groups.values()), tuple(rows), growth.notes)


def _old_groups(model: nn.Module, optimizer: Any, settings: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if isinstance(optimizer, Optimizer):
        if settings is not None:
            raise ValueError(f"settings={settings!r}: an optimizer brings its own; pass its class, or no settings")
        return optimizer.param_groups
    if not callable(optimizer):
        raise TypeError(f"optimizer={optimizer!r} cannot be called; pass one, or a class such as torch.optim.AdamW")
    if settings is not None and not isinstance(settings, Mapping):
        raise TypeError(f"settings={settings!r} is not a dict; pass one such as {{'lr': 1e-3}}")
    known = inspect.signature(optimizer).parameters
    for name in settings or {}:
        if name not in known and not any(each.kind == each.VAR_KEYWORD for each in known.values()):
            raise ValueError(f"settings[{name!r}] is not a hyperparameter of {_name(optimizer)}: {list(known)[1:]}")
    return [{"params": [p for p in model.parameters() if p.requires_grad], **(settings or {})}]


def _tuned(optimizer: Any, group: Mapping[str, Any], known: dict[Any, Tuned]) -> Tuned:
    """The optimizer with the settings of a group; units that have to be measured are, once for equal settings."""
    factory = type(optimizer) if isinstance(optimizer, Optimizer) else optimizer
    taken = inspect.signature(factory).parameters
    own = {name: value for name, value in group.items() if name in taken and name not in ("params", "param_names")}
    if "initial_lr" in group:
        own["lr"] = group["initial_lr"]
    values = {**defaults_of(factory), **own}
    key = str(sorted(values.items(), key=lambda item: item[0]))
    if key not in known:
        units = units_of(factory, values) if factory in KNOWN else infer_units(factory, own)
        unit = units.hyperparameters.get("lr")
        if not isinstance(unit, Unit) or "lr" not in values:
            reason = units.reason or "there is no lr, or it is not determined"
            raise ValueError(f"{_name(factory)}: lr has no unit: {reason}; set lr by its authors' rule")
        known[key] = Tuned(Trial(factory, own, unit), units, values)
        check_others(known[key])
    return known[key]


def _powers(tuned: Tuned, start: Start, sized: Sized) -> Powers:
    if start.growth.n == 1:
        return Powers(0.0, 0.0, 0.0, "as wide as the base")
    return powers_of(tuned, start, sized)


def _changed(group: Mapping[str, Any], values: Mapping[str, Any], powers: Powers, n: float) -> dict[str, Any]:
    """The settings of one parameter: those in its group, and the defaults that change."""
    changed = {}
    for name in (*CHANGED, "initial_lr"):
        value = group.get(name, values.get(name))
        power = powers.lr if name == "initial_lr" else getattr(powers, name)
        if value is not None:
            changed[name] = _times(value, power, n)
    return changed


def _times(value: Any, power: Any, n: float) -> Any:
    if isinstance(value, tuple | list):
        powers = power if isinstance(power, tuple) else (power,) * len(value)
        return type(value)(_times(entry, each, n) for entry, each in zip(value, powers, strict=True))
    return value if not power or value is None else value * n**power


def _lists(group: Mapping[str, Any]) -> list[str]:
    return [name for name in ("params", "param_names") if name in group]


def _name(factory: Any) -> str:
    return getattr(factory, "__name__", repr(factory))
