"""How an optimizer applies its weight decay: as lr·λ·w, as λ·w, or added to the gradient.

Two steps are compared with those at λ = 0.  Both start from the same parameters, for they are put back after the
first, so that what differs is the decay, and what the optimizer remembers of it.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from scaleinv._hyperparameters import Factory, Values, values_of
from scaleinv._infer.probes import in_range, switched_on
from scaleinv._infer.problem import LONG
from scaleinv._infer.runs import AS_IS, Runner, runner_of
from scaleinv._infer.training import Scale, isolated

NAME = "weight_decay"
DECAY = 0.05  # so small that it is linear, so large that float32 shows it
CLOSE = 0.03  # two decays are the same if they differ by at most this share


def measured_decay(factory: Factory, hyperparameters: Mapping[str, Any]) -> str:
    """How the ``weight_decay`` of an optimizer acts, as in ``Units.decay``.

    Args:
        factory: as for ``infer_units``.
        hyperparameters: likewise.

    Raises:
        ValueError: if no probe can run the factory.

    >>> import torch
    >>> from scaleinv._infer import measured_decay
    >>> measured_decay(torch.optim.Adam, {}), measured_decay(torch.optim.Adam, {"decoupled_weight_decay": True})
    ('coupled', 'times lr')
    """
    values, _ = values_of(factory, hyperparameters)
    with isolated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decay_of(runner_of(factory, values), values)


def decay_of(runner: Runner, values: Values) -> str:
    """How ``weight_decay`` acts, from a runner of the optimizer and its values.

    Zeros are switched on: where there is a momentum, a coupled decay is remembered.  If the decay is another with what
    they switch on, such as one towards an average instead of 0, it is that at the values themselves.
    """
    on = switched_on(runner, values)
    decay = _decay_at(runner, in_range(runner, on))
    return decay if decay != "other" or on == values else _decay_at(runner, in_range(runner, values)) or decay


def _decay_at(runner: Runner, values: Values) -> str:
    if not all(isinstance(values.get(name), float) for name in (NAME, "lr")):
        return ""
    probe = _Probe(runner, {**values, NAME: DECAY})
    with_decay, without = probe.steps(), probe.steps(weight_decay=0.0)
    if with_decay is None or without is None:
        return ""
    decayed = with_decay - without
    if decayed.norm() <= 1e-9 * without.norm():
        late, late_without = (runner.trajectory({**values, NAME: decay}, steps=LONG) for decay in (DECAY, 0.0))
        return "" if late is None or late_without is None or torch.equal(late, late_without) else "other"
    shares = probe.shares(decayed, without)
    if shares is not None and probe.forgets(with_decay, without, shares):
        return probe.convention(shares)
    pulled = probe.steps(pull=DECAY, weight_decay=0.0)
    coupled = pulled is not None and (with_decay - pulled).norm() < CLOSE * decayed.norm()
    return "coupled" if coupled else "other"


class _Probe:
    """Two steps of an optimizer, each from the same start, at several settings."""

    def __init__(self, runner: Runner, values: Values) -> None:
        self.runner, self.values = runner, values
        self.start = torch.cat([w.flatten() for w in runner.setup.problem.start.values()])

    def steps(self, pull: float = 0.0, at_first: bool = False, **changed: float) -> Tensor | None:
        """Both steps, (2, coordinates); None where the optimizer refuses.

        Args:
            pull: adds this multiple of the parameter to its gradient.
            at_first: whether the decay is 0 from the second step on.
            changed: hyperparameters.
        """
        back = _Back(self.runner.setup.problem.start.values(), at_first)
        problem = self.runner.setup.problem.pulled(pull) if pull else self.runner.setup.problem
        runner = Runner(self.runner.factory, self.runner.setup._replace(problem=problem), steps=2)
        trajectory = runner.changed_midway({**self.values, **changed}, back)
        if trajectory is None or back.end is None or not trajectory.isfinite().all():
            return None
        return torch.stack([back.end, trajectory[-1]]) - self.start

    def shares(self, decayed: Tensor, without: Tensor) -> Tensor | None:
        """The share of the parameters that decays at each of the steps; None if it is not one for all that do.

        What decays is the parameter before the step, or after it.
        """
        decays = self._of_parameters_that(decayed)
        for w in (self.start.expand_as(decayed) * decays, (self.start + without) * decays):
            shares = -(decayed * w).sum(1) / (w * w).sum(1)
            if (decayed + shares[:, None] * w).norm() < CLOSE * decayed.norm():
                return shares
        return None

    def _of_parameters_that(self, decayed: Tensor) -> Tensor:
        """1 at the coordinates of parameters that decay, 0 at others: an optimizer may leave vectors out."""
        sizes = [w.numel() for w in self.runner.setup.problem.start.values()]
        norms = torch.stack([part.norm() for part in decayed.split(sizes, dim=1)])
        return (norms > CLOSE * norms.max()).double().repeat_interleave(torch.tensor(sizes))

    def forgets(self, with_decay: Tensor, without: Tensor, shares: Tensor) -> bool:
        """Whether the second step does not depend on the first one's decay."""
        once = self.steps(at_first=True)
        if once is None or torch.equal(once, with_decay):  # the decay is not in the optimizer's groups
            return bool((shares[1] / shares[0] - 1).abs() < CLOSE)
        return bool((once - without)[1].norm() <= CLOSE * (with_decay - without)[1].norm())

    def convention(self, shares: Tensor) -> str:
        """What the shares are, at lr and at twice as large an lr: lr·λ, or λ."""
        lr = 2 * self.values["lr"]
        with_decay, without = self.steps(lr=lr), self.steps(lr=lr, weight_decay=0.0)
        twice = None if with_decay is None or without is None else self.shares(with_decay - without, without)
        if twice is None:
            return "other"
        decays = shares > CLOSE * shares.max()  # some do nothing at the first step
        for convention, once in {"times lr": self.values["lr"] * DECAY, "independent": DECAY}.items():
            right = torch.stack([shares / once, twice / once / (2 if convention == "times lr" else 1)])
            if ((right[:, decays] - 1).abs() < CLOSE).all():
                return convention
        return "other"


class _Back:
    """Puts the parameters back to their start after the first step; with ``at_first`` the decay is 0 from then on."""

    def __init__(self, start: Iterable[Tensor], at_first: bool) -> None:
        self.start, self.at_first = start, at_first
        self.end: Tensor | None = None  # where the first step led

    def __call__(self, optimizer: Any, parameters: list[torch.nn.Parameter]) -> Scale:
        self.end = torch.cat([p.detach().flatten() for p in parameters]).double()
        with torch.no_grad():
            for p, start in zip(parameters, self.start, strict=True):
                p.copy_(start)
        if self.at_first:
            for group in optimizer.param_groups:
                group[NAME] *= 0
        return AS_IS
