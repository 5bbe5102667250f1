"""From one optimizer to another: groups of parameters with the lr and weight decay to start from."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from scaleinv._switch.carried import Carried, Settings, carried, check_proportional, completed
from scaleinv._switch.limits import limits
from scaleinv._switch.steps import Factory
from scaleinv._switch.tensors import context_of


@dataclass(frozen=True)
class Switch:
    """What ``switch_optimizer`` returns: groups of parameters for the new optimizer, and how far they can be trusted.

    Attributes:
        groups: of the new optimizer, each with lr and weight_decay; make it by ``to(switch.groups, **settings)``.
        rest: groups of what stays with the old optimizer, in full; empty where nothing does.
        rows: the settings of each tensor, in the order of the groups.
        limits: where this is not the same training, in sentences.
        exact: False: only the size of steps under noise, and the share of decay, are the same.

    >>> import torch, scaleinv
    >>> model = torch.nn.Linear(64, 256)
    >>> adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    >>> switch = scaleinv.switch_optimizer(adamw, torch.optim.Muon)
    >>> [(len(group["params"]), group["lr"]) for group in switch.groups], len(switch.rest)
    ([(1, 0.00183)], 1)
    """

    groups: list[dict[str, Any]]
    rest: list[dict[str, Any]]
    rows: tuple[Carried, ...]
    limits: tuple[str, ...]
    exact: bool = False

    def frame(self) -> pd.DataFrame:
        """One row for each tensor of the new optimizer.

        Returns:
            A DataFrame with the columns shape, rms (of the tensor), lr, weight_decay, step (its RMS under noise), share
            (that decay takes at a step) and first (the new optimizer's first step over the old one's).
        """
        rows = [
            (row.at.shape, row.at.rms, row.lr, row.weight_decay, row.step, row.share, row.first) for row in self.rows
        ]
        return pd.DataFrame(rows, columns=["shape", "rms", "lr", "weight_decay", "step", "share", "first"])

    def __str__(self) -> str:
        lines = [self.frame().drop_duplicates().to_string(index=False, float_format=lambda x: f"{x:.3g}")]
        return "\n".join([*lines, "", "Not exact:", *(f"- {limit}" for limit in self.limits)])


def switch_optimizer(
    optimizer: torch.optim.Optimizer,
    to: Factory,
    settings: Mapping[str, Any] | None = None,
    *,
    keep: Iterable[torch.Tensor] = (),
) -> Switch:
    """Return groups of parameters for another optimizer, with the lr and weight decay to start from.

    ::

        RMS(step of the new one at its lr) = RMS(step of the old one at its lr),   under noise
        share of w that decay takes at a step: the same; lr·λ for AdamW

    Under noise, gradients without mean or memory, a step of AdamW has the RMS 0.23·lr at β₁ = 0.9
    (``laws.update_rms``), one of Lion lr, one of SGD lr·RMS(g)/√(1−μ²), one of Muon lr·√max(1, rows/columns) over
    √max(rows, columns), one of Adafactor lr·RMS(w).  Matching the RMS of updates is what Liu et al. (2025),
    arXiv 2502.16982, "Muon is scalable for LLM training", do for Muon with the constant 0.2.  The steps of other
    optimizers are measured on a tensor of noise.

    It is a start for a sweep, not the same training: read ``limits``.

    Args:
        optimizer: the optimizer to replace, as it is set now.  In a schedule, the ``initial_lr`` of a group counts.
        to: a class of optimizers, or a function that makes one.
        settings: hyperparameters of the new one, other than lr and weight_decay; its defaults for all others.
        keep: parameters that stay with the old optimizer.  Muon is for the matrices between the first layer and the
            last: pass embeddings and the output layer here.  What is not a matrix stays anyway.

    Returns:
        A ``Switch``.

    Raises:
        TypeError: if ``optimizer`` is not an optimizer, ``to`` cannot be called, ``settings`` is not a dict, or
            ``keep`` is one tensor.
        ValueError: if a setting is unknown, is lr or weight_decay, ``keep`` has a stranger, a step is not known or
            cannot be matched, a gradient is needed and there is none, or a weight decay is in the gradient (Adam's),
            where it has no share.

    >>> import torch, scaleinv
    >>> weight = torch.nn.Parameter(torch.randn(64, 64))
    >>> adamw = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.1)
    >>> switch = scaleinv.switch_optimizer(adamw, torch.optim.Muon, {"adjust_lr_fn": "match_rms_adamw"})
    >>> switch.groups[0]["lr"], switch.exact
    (0.00115, False)
    >>> muon = torch.optim.Muon(switch.groups, adjust_lr_fn="match_rms_adamw")
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
    new = new_settings(to, {} if settings is None else settings)
    kept = _kept(keep, optimizer)
    rows: list[Carried] = []
    groups: dict[tuple, dict[str, Any]] = {}
    rest = []
    for number, group in enumerate(optimizer.param_groups):
        old, stays = old_settings(optimizer, group), []
        for place, p in enumerate(tqdm(group["params"], desc=new.name, delay=1, leave=False, disable=None)):
            if id(p) in kept or not takes(new, p):
                stays.append(place)
                continue
            rows.append(carried(old, new, context_of(p, optimizer, group)))
            values = _values(rows[-1], new)
            made = groups.setdefault((number, *values.values()), {**_parameters(group, []), **values})
            for name, entries in _parameters(group, [place]).items():
                made[name] += entries
        if stays:
            rest.append({**group, **_parameters(group, stays)})
    if not rows:
        raise ValueError(f"{new.name} takes none of the parameters: there is none, or no matrix for Muon, outside keep")
    check_proportional(new, rows[0].at)
    staying = sum(len(group["params"]) for group in rest)
    return Switch(list(groups.values()), rest, tuple(rows), tuple(limits(type(optimizer).__name__, new, rows, staying)))


def old_settings(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> Settings:
    """The optimizer with the hyperparameters of a group, at the lr from which a schedule starts."""
    taken = inspect.signature(type(optimizer)).parameters
    values = {name: value for name, value in group.items() if name in taken and name != "params"}
    return Settings(type(optimizer), {**values, "lr": group.get("initial_lr", group["lr"])})


def new_settings(to: Factory, settings: Mapping[str, Any]) -> Settings:
    """The new optimizer with its hyperparameters.

    Raises:
        TypeError: if ``to`` cannot be called, or ``settings`` is not a dict.
        ValueError: if a setting is unknown, lr or weight_decay, or there is no lr.
    """
    if not callable(to) or isinstance(to, torch.optim.Optimizer):
        raise TypeError(f"to={to!r} cannot be called; pass a class such as torch.optim.Muon")
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings={settings!r} is not a dict; pass one such as {{'momentum': 0.95}}")
    for name in ("lr", "weight_decay"):
        if name in settings:
            raise ValueError(f"settings[{name!r}]={settings[name]!r} is what is computed; leave it out")
    return Settings(to, completed(to, settings))


def takes(new: Settings, p: torch.Tensor) -> bool:
    """Whether an optimizer takes a parameter: Muon takes matrices only."""
    return p.numel() > 0 and (new.factory is not torch.optim.Muon or p.ndim == 2)


def _kept(keep: Iterable[torch.Tensor], optimizer: torch.optim.Optimizer) -> set[int]:
    """The identities of the parameters that stay."""
    if isinstance(keep, torch.Tensor):
        raise TypeError("keep is one tensor; pass a list of parameters")
    kept = {id(p) for p in keep}
    if strangers := kept - {id(p) for group in optimizer.param_groups for p in group["params"]}:
        raise ValueError(f"keep: {len(strangers)} of its entries are not parameters of the optimizer")
    return kept


def _parameters(group: Mapping[str, Any], places: Sequence[int]) -> dict[str, list[Any]]:
    """Some parameters of a group, with their names where it has them."""
    lists = (name for name in ("params", "param_names") if name in group)
    return {name: [group[name][place] for place in places] for name in lists}


def _values(row: Carried, new: Settings) -> dict[str, Any]:
    return {"lr": row.lr, **({"weight_decay": row.weight_decay} if "weight_decay" in new.values else {})}
