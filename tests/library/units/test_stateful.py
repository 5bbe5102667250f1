"""Whatever happens in a training, a change of units leaves it the same, or is refused and changes nothing.

Two trainings take the same random steps: build, train, freeze, schedule, average, save and load, copy.  One of
them also changes its units now and then.  Both must show the same parameters, bit for bit, at any time.
"""

import copy
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import nn, optim
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import AveragedModel

from scaleinv import effective_parameters, rescale, unscale_parameters
from scaleinv.reparam import parameter_scales

pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    """Parameters of many kinds: tied, of dimension 0, zero, recurrent, weight-normed, of its own."""

    def __init__(self):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(3))
        self.first = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
        self.recurrent = nn.GRU(4, 3, batch_first=True)
        self.head = nn.Linear(3, 3)
        self.again = nn.Linear(3, 3, bias=False)
        self.again.weight = self.head.weight

    def forward(self, x):
        x = self.recurrent(self.first(self.gain * x + self.shift))[0]
        return self.again(torch.tanh(self.head(x)))


OPTIMIZERS = {
    "SGD": lambda groups: [optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01)],
    "Adam": lambda groups: [optim.Adam(groups, lr=torch.tensor(0.01), weight_decay=0.01, amsgrad=True)],
    "AdamW": lambda groups: [optim.AdamW(groups, lr=torch.tensor(0.01))],
    "RMSprop": lambda groups: [optim.RMSprop(groups, lr=0.01, momentum=0.5, centered=True)],
    "NAdam": lambda groups: [optim.NAdam(groups, lr=0.01)],
    "Adagrad": lambda groups: [optim.Adagrad(groups, lr=0.05, lr_decay=0.1)],
    "two": lambda groups: [
        optim.Muon([p for p in groups if p.ndim == 2], lr=0.02),
        optim.AdamW([p for p in groups if p.ndim != 2], lr=0.01),
    ],
}
COSINE = partial(schedulers.CosineAnnealingLR, T_max=9, eta_min=1e-3)
SCHEDULERS = [
    COSINE,
    partial(schedulers.ExponentialLR, gamma=0.9),
    partial(schedulers.StepLR, step_size=2),
    partial(schedulers.LambdaLR, lr_lambda=lambda step: 1 / (1 + step)),
]
FEW = settings(
    max_examples=4, stateful_step_count=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
FACTORS = st.sampled_from([2.0**n for n in (-5, -3, -1, 0, 2, 4)])
SOME = st.lists(
    st.sampled_from(["gain", "shift", "first.bias", "recurrent.weight_ih_l0", "head.weight"]), unique=True, min_size=1
)


class Training:
    def __init__(self, name):
        torch.manual_seed(0)
        self.module, self.loss, self.schedulers, self.averaged = Net(), 1.0, [], None
        self.optimizers = OPTIMIZERS[name](list(self.module.parameters()))

    def train(self, seed):
        x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed))
        self.module.zero_grad()
        (self.loss * (self.module(x) - x).square().mean()).backward()
        for each in (*self.optimizers, *self.schedulers):
            each.step()
        if self.averaged:
            self.averaged.update_parameters(self.module)

    def shown(self):
        modules = [self.module, *([self.averaged] if self.averaged else [])]
        return [tensor for module in modules for tensor in effective_parameters(module).values()]

    def everything(self):
        states = [each.state_dict() for each in (self.module, *self.optimizers, *self.schedulers)]
        return copy.deepcopy([*states, *([self.averaged.state_dict()] if self.averaged else [])])

    def rescale(self, weight, loss):
        copies = [self.averaged] if self.averaged else []
        rescale(self.module, self.optimizers, weight=weight, loss=loss, copies=copies)
        self.loss *= loss


class Trainings(RuleBasedStateMachine):
    name = "SGD"

    @initialize(seed=st.integers(0, 99))
    def build(self, seed):
        self.plain, self.other = Training(self.name), Training(self.name)
        self.seed, self.has_been_rescaled = seed, False
        self.train()

    @property
    def both(self):
        return self.plain, self.other

    @rule()
    def train(self):
        self.seed += 1
        for each in self.both:
            each.train(self.seed)

    @rule(weight=FACTORS, loss=FACTORS)
    def rescale_all(self, weight, loss):
        self.rescale(weight, loss)

    @rule(names=SOME, weight=FACTORS)
    def rescale_some(self, names, weight):
        self.rescale(dict.fromkeys(names, weight), 1.0)

    def rescale(self, weight, loss):
        before = self.other.everything()
        try:
            self.other.rescale(weight, loss)
            self.has_been_rescaled = True
        except ValueError as error:
            assert "keeps one eta_min" in str(error)
            assert str(self.other.everything()) == str(before)

    @rule(name=st.sampled_from(["shift", "first.bias", "head.weight"]), trains=st.booleans())
    def freeze(self, name, trains):
        for each in self.both:
            dict(each.module.named_parameters())[name].requires_grad_(trains)

    @precondition(lambda self: hasattr(self, "plain") and not self.plain.schedulers)
    @rule(make=st.sampled_from(SCHEDULERS))
    def schedule(self, make):
        """A scheduler is made in the units of now; one with an eta_min, only in those of the start."""
        if make is COSINE and self.has_been_rescaled:
            return
        for each in self.both:
            each.schedulers = [make(optimizer) for optimizer in each.optimizers]

    @precondition(lambda self: hasattr(self, "plain") and not self.plain.averaged)
    @rule()
    def average(self):
        for each in self.both:
            each.averaged = AveragedModel(each.module)

    @rule()
    def save_and_load(self):
        for each in self.both:
            states = copy.deepcopy([part.state_dict() for part in (each.module, *each.optimizers, *each.schedulers)])
            with torch.no_grad():
                for p in each.module.parameters():
                    p.zero_()
            for part, state in zip((each.module, *each.optimizers, *each.schedulers), states):
                part.load_state_dict(state)

    @rule()
    def copy_all(self):
        """The training goes on with a deep copy."""
        if not self.plain.schedulers:
            self.plain, self.other = copy.deepcopy(self.both)

    @rule()
    def unscale(self):
        """Only the scale of the parameters: the loss stays as it is."""
        if len(self.other.optimizers) == 1 and not self.other.averaged and not self.other.schedulers:
            unscale_parameters(self.other.module, self.other.optimizers[0])
            assert parameter_scales(self.other.module) == {}

    @invariant()
    def both_show_the_same(self):
        if hasattr(self, "plain"):
            assert all(map(torch.equal, self.plain.shown(), self.other.shown()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_goes_on_bit_for_bit_or_the_change_is_refused(name):
    machine = type(name, (Trainings,), {"name": name})
    run_state_machine_as_test(machine, settings=FEW)
