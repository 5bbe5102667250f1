"""Live schedulers of torch.optim are carried along by ``rescale``: the run goes on bit for bit."""

import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

from scaleinv import effective_parameters, rescale
from scaleinv._reparam.schedulers import KNOWN, schedulers_of
from tests.library.units.shared import network, same

pytestmark = pytest.mark.usefixtures("one_thread")

MAKE = {
    "constant": lambda o: schedulers.ConstantLR(o, 0.5, 9),
    "cosine": lambda o: schedulers.CosineAnnealingLR(o, 25, eta_min=1e-3),
    "cosine with restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 8, eta_min=1e-3),
    "cyclic": lambda o: schedulers.CyclicLR(o, 1e-3, 3e-2, 5, cycle_momentum=True),
    "exponential": lambda o: schedulers.ExponentialLR(o, 0.9),
    "a function": lambda o: schedulers.LambdaLR(o, lambda step: 1 / (1 + step)),
    "a function for each group": lambda o: schedulers.LambdaLR(o, [lambda step: 0.9**step] * len(o.param_groups)),
    "linear": lambda o: schedulers.LinearLR(o, 0.1, total_iters=16),
    "several steps": lambda o: schedulers.MultiStepLR(o, [5, 15]),
    "multiplicative": lambda o: schedulers.MultiplicativeLR(o, lambda step: 0.9),
    "one cycle": lambda o: schedulers.OneCycleLR(o, 3e-2, 30),
    "polynomial": lambda o: schedulers.PolynomialLR(o, 25, 2.0),
    "step": lambda o: schedulers.StepLR(o, 4),
    "plateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=0, threshold=0.5, min_lr=2e-3, eps=1e-4),
    "in turn": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=12), schedulers.CosineAnnealingLR(o, 12, 1e-3)], [12]
    ),
    "chained": lambda o: schedulers.ChainedScheduler([schedulers.LinearLR(o, 0.1), schedulers.ExponentialLR(o, 0.95)]),
    "averaging": lambda o: SWALR(o, swa_lr=1e-3, anneal_epochs=12),
}


def groups(module):
    return [{"params": module[0].parameters()}, {"params": module[2].parameters(), "lr": 3e-2}]


def run(make, change, *, steps=20, cls=optim.Adam):
    """The parameters after each step, lr included, of a run in the middle of which ``change(module, optimizer)``."""
    module = network()
    optimizer = cls(groups(module), lr=1e-2)
    scheduler, trajectory = make(optimizer), []
    for step in range(steps):
        if step == steps // 2:
            change(module, optimizer)
        optimizer.zero_grad()
        x = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        module(x).square().mean().backward()
        optimizer.step()
        scheduler.step(1.0) if isinstance(scheduler, schedulers.ReduceLROnPlateau) else scheduler.step()
        trajectory.append(effective_parameters(module))
    return trajectory


def nothing(module, optimizer):
    pass


every_scheduler = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


@every_scheduler
@pytest.mark.parametrize("cls", [optim.Adam, optim.SGD])
def test_the_run_goes_on_bit_for_bit(make, cls):
    cls = cls if cls is optim.Adam else lambda groups, lr: optim.SGD(groups, lr=lr, momentum=0.5)
    plain = run(make, nothing, cls=cls)
    assert same(run(make, lambda module, optimizer: rescale(module, optimizer, weight=8), cls=cls), plain)
    assert same(run(lambda optimizer: Unscheduled(), nothing, cls=cls), plain) is False


class Unscheduled:
    def step(self):
        pass


ONE_NUMBER = {"cosine", "cosine with restarts", "plateau", "in turn"}  # for all groups


@pytest.mark.parametrize("name", [name for name in MAKE if name not in ONE_NUMBER])
def test_groups_that_are_split_keep_their_schedule(name):
    def change(module, optimizer):
        rescale(module, optimizer, weight={"0.weight": 8, "2.bias": 0.5})

    assert same(run(MAKE[name], change), run(MAKE[name], nothing))


@pytest.mark.parametrize("name, key", [("cosine", "eta_min"), ("plateau", "default_min_lr"), ("in turn", "eta_min")])
def test_one_number_for_groups_that_part_is_refused(name, key):
    module = network()
    optimizer = optim.Adam(module.parameters(), lr=1e-2)
    scheduler = MAKE[name](optimizer)
    with pytest.raises(ValueError, match=f"keeps one {key}=.*different factors"):
        rescale(module, optimizer, weight={"0.weight": 8})
    assert scheduler.optimizer is optimizer and len(optimizer.param_groups) == 1


def test_a_plateau_watches_a_loss_that_keeps_its_scale():
    module = network()
    optimizer = optim.SGD(module.parameters(), lr=1e-2)
    scheduler = MAKE["plateau"](optimizer)
    with pytest.raises(ValueError, match="loss=4: ReduceLROnPlateau compares metrics"):
        rescale(module, optimizer, loss=4)
    assert scheduler.min_lrs == [2e-3]


class CosineScheduler:
    """As of another library: it sets lr from a value of its own."""

    def __init__(self, optimizer):
        self.optimizer, self.base_values = optimizer, [group["lr"] for group in optimizer.param_groups]

    def step(self):
        pass


class Warmup(schedulers.LambdaLR):
    def __init__(self, optimizer):
        super().__init__(optimizer, lambda step: min(1.0, step / 5))


class Behind:
    """As Accelerate's: it has the scheduler, not the optimizer."""

    def __init__(self, scheduler):
        self.scheduler = scheduler


@pytest.mark.parametrize(
    "make, name",
    [
        (CosineScheduler, "CosineScheduler"),
        (Warmup, "Warmup"),
        (lambda o: Behind(CosineScheduler(o)), "CosineScheduler"),
    ],
)
def test_another_scheduler_is_refused_by_name(make, name):
    module = network()
    optimizer = optim.Adam(module.parameters(), lr=1e-2)
    kept = make(optimizer)
    with pytest.raises(ValueError, match=f"its scheduler {name} is not one of torch.optim.*scaleinv.convert"):
        rescale(module, optimizer, weight=8)
    assert kept and optimizer.param_groups[0]["eps"] == 1e-8


def test_only_the_schedulers_of_this_optimizer_are_found_and_dead_ones_are_not():
    first, second = (optim.Adam(network().parameters()) for _ in range(2))
    one, other = MAKE["step"](first), MAKE["step"](second)
    MAKE["cosine"](first)
    assert schedulers_of(first) == [one] and schedulers_of(second) == [other]


class Trainer:
    """A user's own class, with a method ``step``: not a scheduler."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        self.optimizer.step()


def test_what_else_holds_the_optimizer_is_left_alone():
    module = network()
    optimizer = optim.Adam(module.parameters(), lr=1e-2)
    trainer = Trainer(optimizer)
    rescale(module, optimizer, weight=8)
    trainer.step()
    assert optimizer.param_groups[0]["lr"] == 0.08


def test_every_scheduler_of_torch_is_known_and_tried():
    classes = {value for value in vars(schedulers).values() if isinstance(value, type)}
    public = {cls for cls in classes if issubclass(cls, schedulers.LRScheduler) and not cls.__name__.startswith("_")}
    assert public | {SWALR} == set(KNOWN)
    optimizers = [optim.SGD(network().parameters(), lr=1e-2, momentum=0.5) for _ in MAKE]
    tried = {type(make(optimizer)) for make, optimizer in zip(MAKE.values(), optimizers)}
    assert tried | {schedulers.LRScheduler} == set(KNOWN)
