"""Sharpness is the largest eigenvalue of a dense Hessian, in the optimizer's preconditioner, and touches nothing."""

import copy
import json
import math

import pytest
import torch
from torch import nn, optim
from torch.nn import functional

import scaleinv
from scaleinv import sharpness
from scaleinv._curvature.lanczos import largest_eigenvalue
from scaleinv._random_state import RandomState
from scaleinv.book.models import convnet, gpt

pytestmark = pytest.mark.usefixtures("one_thread")

PRECONDITIONED = {
    optim.Adagrad: {"lr": 0.01, "lr_decay": 0.1},
    optim.RMSprop: {"lr": 0.01, "centered": True, "momentum": 0.5},
    optim.Adam: {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1},
    optim.AdamW: {"lr": 0.01, "weight_decay": 0.5},
    optim.Adamax: {"lr": 0.01},
    optim.SGD: {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.2},
}


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))


def loss_of(model, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 5, generator=generator), torch.randn(20, 2, generator=generator)
    x, y = (each.to(next(model.parameters())) for each in (x, y))
    return lambda: scale * functional.mse_loss(model(x), y)


def dense_hessian(model, loss):
    parameters = list(model.parameters())
    (flat,) = [torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(), parameters, create_graph=True)])]
    rows = [torch.cat([h.reshape(-1) for h in torch.autograd.grad(g, parameters, retain_graph=True)]) for g in flat]
    return torch.stack(rows)


def stepped(model, loss, cls, steps=5, **settings):
    optimizer = cls(model.parameters(), **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_an_optimizer_it_is_the_largest_eigenvalue_of_the_hessian(net, dtype):
    net = net.to(dtype)
    loss = loss_of(net)
    exact = torch.linalg.eigvalsh(dense_hessian(net, loss).double())[-1].item()
    result = sharpness(net, loss, accuracy=1e-5)
    assert abs(result.value - exact) <= max(result.error, 1e-6 * exact)
    assert result.error <= 1e-5 * exact and result.loss == loss().item() and str(result.unit) == "L W⁻²"
    assert math.isnan(result.lr_sharpness) and math.isnan(result.threshold) and result.as_dict()["share"] is None


@pytest.mark.parametrize("cls", PRECONDITIONED, ids=lambda cls: cls.__name__)
def test_the_value_is_that_of_the_dense_preconditioned_hessian(net, cls):
    net, settings = net.double(), PRECONDITIONED[cls]
    loss = loss_of(net)
    optimizer = stepped(net, loss, cls, **settings)
    matrix = dense_hessian(net, loss)
    if cls in (optim.Adam, optim.SGD):
        matrix += settings["weight_decay"] * torch.eye(len(matrix))  # coupled decay is part of the loss
    divisor = torch.cat([_divisor(cls, optimizer.state[p], settings).reshape(-1) for p in net.parameters()])
    exact = torch.linalg.eigvals(matrix / divisor[:, None]).real.max().item()
    result = sharpness(net, loss, optimizer, accuracy=1e-6)
    assert result.value == pytest.approx(exact, rel=1e-6) and result.error <= 1e-6 * exact
    assert result.lr_sharpness == pytest.approx(settings["lr"] * exact, rel=1e-6)
    assert result.unit == scaleinv.units_of(cls).hyperparameters["lr"] ** -1


def _divisor(cls, state, settings, step=5):
    """As the docstrings of torch.optim write it."""
    if cls is optim.SGD:
        return torch.ones_like(state["momentum_buffer"])
    if cls is optim.Adagrad:
        return (state["sum"].sqrt() + 1e-10) * (1 + (step - 1) * settings["lr_decay"])
    if cls is optim.RMSprop:
        return (state["square_avg"] - state["grad_avg"] ** 2).sqrt() + 1e-8
    if cls is optim.Adamax:
        return state["exp_inf"] * (1 - 0.9**step)
    v = state["max_exp_avg_sq" if settings.get("amsgrad") else "exp_avg_sq"]
    return ((v / (1 - 0.999**step)).sqrt() + 1e-8) * (1 - 0.9**step)


THRESHOLDS = [
    (optim.SGD, {}),
    (optim.SGD, {"momentum": 0.9}),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (optim.SGD, {"momentum": 0.5, "weight_decay": 0.3}),
    (optim.RMSprop, {"momentum": 0.8}),
    (optim.Adagrad, {}),
    (optim.Adam, {}),
    (optim.Adam, {"betas": (0.5, 0.999), "weight_decay": 0.1}),
    (optim.AdamW, {"betas": (0.8, 0.999), "weight_decay": 0.1}),
    (optim.Adamax, {"betas": (0.7, 0.999)}),
]


@pytest.mark.parametrize("cls, settings", THRESHOLDS)
@pytest.mark.parametrize("share, grows", [(0.98, False), (1.02, True)])
def test_a_frozen_quadratic_grows_just_above_the_threshold_and_shrinks_just_below(cls, settings, share, grows):
    """With the second moment held, so that P stays, the real step of torch.optim on curvatures 1 and 3."""
    p = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    curvature = torch.tensor([1.0, 3.0], dtype=torch.float64)
    model = nn.ParameterList([p])
    loss = lambda: (curvature * p**2).sum() / 2  # noqa: E731
    optimizer = cls([p], lr=1e-3, **settings)
    loss().backward()
    optimizer.step()
    start_tiny(optimizer, p)
    step_frozen(optimizer, p, loss)
    for _ in range(4):  # decoupled decay moves the threshold with lr
        result = sharpness(model, loss, optimizer, accuracy=1e-9)
        optimizer.param_groups[0]["lr"] *= share / result.share
    start_tiny(optimizer, p)
    sizes = [step_frozen(optimizer, p, loss) for _ in range(300)]
    early, late = max(sizes[50:100]), max(sizes[250:])
    assert late > 10 * early if grows else late < 0.1 * early


@torch.no_grad()
def start_tiny(optimizer, p):
    """So that no gradient moves a second moment of 1, however it grows."""
    p.fill_(1e-120)
    for name in ("momentum_buffer", "exp_avg"):
        if optimizer.state[p].get(name) is not None:
            optimizer.state[p][name].zero_()


def step_frozen(optimizer, p, loss):
    """A step in which the second moment is 1, bias corrections too; the size of p after it."""
    optimizer.zero_grad()
    loss().backward()
    group, state = optimizer.param_groups[0], optimizer.state[p]
    if "step" in state:
        state["step"].fill_(100000)
    decay = group["betas"][1] if "betas" in group else group.get("alpha", 1.0)
    for name in ("exp_avg_sq", "square_avg", "sum", "exp_inf"):
        if name in state:
            state[name].fill_(1 / decay)
    optimizer.step()
    return p.detach().abs().max().item()


@pytest.mark.parametrize("cls", PRECONDITIONED, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("loss_factor", [2.0, 8.0])
def test_lr_times_sharpness_has_the_same_bits_in_other_units(net, cls, loss_factor):
    """Each tensor in a unit of its own; with a loss in units of 2, whose root is not a power of two, too."""
    settings = full(cls, {**PRECONDITIONED[cls], "eps": 1e-3})
    plain = copy.deepcopy(net)
    first = sharpness(plain, loss_of(plain), stepped(plain, loss_of(plain), cls, **settings))

    factors = {name: 2.0 ** (3 - i) for i, (name, _) in enumerate(net.named_parameters())}
    scaleinv.scale_parameters(net, weight=factors)
    groups = [
        {"params": [p], **scaleinv.convert(cls, settings, in_units(factor, loss_factor))}
        for p, factor in zip(net.parameters(), factors.values(), strict=True)
    ]
    loss = loss_of(net, loss_factor)
    second = sharpness(net, loss, stepped_in(net, loss, cls(groups, lr=1.0)))
    assert (second.lr_sharpness, second.lr_error) == (first.lr_sharpness, first.lr_error)
    assert math.isnan(second.value)


def test_the_value_has_its_unit_bit_for_bit(net):
    plain = copy.deepcopy(net)
    first = sharpness(plain, loss_of(plain))
    scaleinv.scale_parameters(net, weight=8.0)
    second = sharpness(net, loss_of(net, 2.0))
    assert second.value == first.value * first.unit.factor(weight=8.0, loss=2.0)


def test_an_lr_of_zero_makes_no_step_and_leaves_the_value(net):
    loss = loss_of(net)
    result = sharpness(net, loss, optim.SGD(net.parameters(), lr=0.0))
    assert result.lr_sharpness == 0 and result.value == pytest.approx(sharpness(net, loss).value, rel=1e-6)


def in_units(weight, loss):
    return scaleinv.Change("other units", weight=weight, loss=loss)


def full(cls, settings):
    accepted = cls([nn.Parameter(torch.zeros(1))]).defaults
    accepted.pop("decoupled_weight_decay" if cls is optim.AdamW else "", None)
    return {**accepted, **{name: value for name, value in settings.items() if name in accepted}}


def stepped_in(model, loss, optimizer, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return optimizer


def test_groups_of_other_lr_momentum_and_decay_are_compared_exactly():
    """At the threshold of two coupled parameters in groups that differ in all, the step has the eigenvalue −1."""
    a, b = (nn.Parameter(torch.tensor([1.0], dtype=torch.float64)) for _ in range(2))
    groups = [
        {"params": [a], "lr": 0.02, "momentum": 0.9, "dampening": 0.3},
        {"params": [b], "lr": 0.05, "momentum": 0.2, "weight_decay": 0.7},
    ]
    optimizer = optim.SGD(groups, lr=0.1)
    hessian = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    model = nn.ParameterList([a, b])
    result = sharpness(model, lambda: torch.cat([a, b]) @ hessian @ torch.cat([a, b]) / 2, optimizer, accuracy=1e-9)
    assert math.isnan(result.value) and result.threshold == 2 * 1.9 / 0.7
    for group in groups:
        group["lr"] /= result.share
    h = hessian + torch.diag(torch.tensor([0.0, 0.7], dtype=torch.float64))
    lr, mu = torch.tensor([g["lr"] for g in groups]), torch.tensor([0.9, 0.2], dtype=torch.float64)
    kept = torch.tensor([0.7, 1.0], dtype=torch.float64)
    step = torch.zeros(4, 4, dtype=torch.float64)  # of (w, b)
    step[2:, 2:], step[2:, :2] = torch.diag(mu), kept[:, None] * h
    step[:2] = -lr[:, None] * step[2:]
    step[:2, :2] += torch.eye(2)
    eigenvalues = torch.linalg.eigvals(step)
    assert eigenvalues.abs().max().item() == pytest.approx(1, abs=1e-6)
    assert eigenvalues.real.min().item() == pytest.approx(-1, abs=1e-6)


def everything(model, optimizer):
    return copy.deepcopy((model.state_dict(), optimizer.state_dict(), [p.grad for p in model.parameters()]))


def same(a, b):
    return json.dumps(a, default=lambda t: t.tolist()) == json.dumps(b, default=lambda t: t.tolist())


def test_model_gradients_buffers_modes_and_random_state_stay_as_they_were():
    model = nn.Sequential(convnet(4), nn.Dropout(0.5))
    x, y = torch.randn(16, 8, 8), torch.randint(10, (16,))

    def loss():
        model.train()
        return functional.cross_entropy(model(x), y)

    optimizer = stepped(model, loss, optim.Adam, lr=0.01)
    model.eval()
    gradients = [p.grad for p in model.parameters()]
    before, random = everything(model, optimizer), RandomState.now()
    first = sharpness(model, loss, optimizer, accuracy=0.01)
    assert same(before, everything(model, optimizer)) and random.same_as(RandomState.now())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True)) and not model.training
    assert sharpness(model, loss, optimizer, accuracy=0.01) == first  # the same mask of dropout


def test_attention_has_a_second_derivative():
    model = gpt(16, 1, heads=2, length=8)
    tokens = torch.randint(128, (2, 8))
    result = sharpness(model, lambda: functional.cross_entropy(model(tokens), tokens), accuracy=0.01)
    assert 0 < result.error <= 0.01 * result.value


def test_only_what_the_optimizer_trains_counts(net):
    loss = loss_of(net)
    last = sharpness(net, loss, optim.SGD(net[2].parameters(), lr=0.1)).value
    net[0].requires_grad_(False)
    assert sharpness(net, loss).value == pytest.approx(last, rel=1e-5)
    unused = nn.ModuleList([net, nn.Linear(3, 3)])
    assert sharpness(unused, loss, accuracy=1e-6).value == pytest.approx(last, rel=1e-3)


def test_what_the_loss_does_not_use_is_left_out_whatever_the_optimizer_knows_of_it(net):
    loss = loss_of(net)
    both = nn.ModuleList([net, nn.Linear(3, 3)])
    optimizer = stepped(both, loss, optim.Adam, lr=0.01)
    assert not optimizer.state[both[1].weight]
    only = optim.Adam(net.parameters(), lr=0.01)
    only.state.update({p: optimizer.state[p] for p in net.parameters()})
    assert sharpness(both, loss, optimizer) == sharpness(net, loss, only)
    with pytest.raises(ValueError, match="parameters that are trained"):
        sharpness(both, loss, optim.SGD(both[1].parameters()))


def test_a_linear_loss_has_no_curvature_and_a_concave_one_a_negative_value():
    p = nn.Parameter(torch.ones(3))
    assert sharpness(nn.ParameterList([p]), lambda: p.sum()).value == 0
    result = sharpness(nn.ParameterList([p]), lambda: -(torch.tensor([1.0, 2.0, 4.0]) * p**2).sum())
    assert result.value == pytest.approx(-2)


def test_products_bound_the_work_and_the_error_says_so():
    diagonal = torch.linspace(1, 2, 300, dtype=torch.float64)
    start = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rough = largest_eigenvalue(lambda v: diagonal * v, start, 1e-6, 8)
    fine = largest_eigenvalue(lambda v: diagonal * v, start, 1e-6, 300)
    assert rough.products == 8 and rough.error > 1e-3 and 2 - rough.value <= 3 * rough.error
    assert fine.products < 300 and fine.value == pytest.approx(2, abs=1e-6)


def test_what_is_not_symmetric_is_in_the_error():
    matrix = torch.tensor([[2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    assert largest_eigenvalue(lambda v: matrix @ v, torch.ones(2, dtype=torch.float64), 1e-6, 10).error > 0.1


def compiled_step(model):
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def loss():
        optimizer.zero_grad()
        value = loss_of(model)()
        value.backward()
        optimizer.step()
        return value

    return loss


REFUSED = {
    "not a module": (lambda m: (3, loss_of(m)), TypeError, "model=3"),
    "not a function": (lambda m: (m, 1.0), TypeError, "loss=1.0"),
    "not an optimizer": (lambda m: (m, loss_of(m), "Adam"), TypeError, "optimizer='Adam'"),
    "several losses": (lambda m: (m, lambda: m(torch.ones(3, 5))), ValueError, r"shape \(3, 2\)"),
    "a float": (lambda m: (m, lambda: 1.0), TypeError, "float"),
    "a constant": (lambda m: (m, lambda: torch.ones(())), ValueError, "does not depend"),
    "detached": (lambda m: (m, lambda: loss_of(m)().detach()), ValueError, "does not depend"),
    "infinite": (lambda m: (m, lambda: m(torch.ones(5)).sum() * math.inf), ValueError, "finite"),
    "a whole step": (lambda m: (m, compiled_step(m)), ValueError, r"SGD.step\(\)"),
    "after backward": (lambda m: (m, after_backward(m)), ValueError, "before backward"),
    "Muon": (lambda m: (m, loss_of(m), optim.Rprop(m.parameters())), ValueError, "Rprop has no preconditioner"),
    "no step yet": (lambda m: (m, loss_of(m), optim.Adam(m.parameters())), ValueError, "take a step first"),
    "maximize": (lambda m: (m, loss_of(m), optim.SGD(m.parameters(), maximize=True)), ValueError, "maximize"),
    "momentum 1": (lambda m: (m, loss_of(m), optim.SGD(m.parameters(), momentum=1)), ValueError, "momentum=1"),
    "another model": (lambda m: (m, loss_of(m), optim.SGD(nn.Linear(2, 2).parameters())), ValueError, "2 tensors"),
    "half": (lambda m: (m.bfloat16(), loss_of(m)), ValueError, "bfloat16"),
    "complex": (lambda m: (nn.Linear(2, 2, dtype=torch.complex64), lambda: 1), TypeError, "complex"),
    "meta": (lambda m: (nn.Linear(2, 2, device="meta"), lambda: 1), ValueError, "meta"),
    "frozen": (lambda m: (m.requires_grad_(False), loss_of(m)), ValueError, "no parameter"),
}


def after_backward(model):
    def loss():
        value = loss_of(model)()
        value.backward()
        return value

    return loss


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_argument_and_change_nothing(net, case):
    make, error, words = REFUSED[case]
    arguments = make(net)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    before, random = copy.deepcopy(net.state_dict()), RandomState.now()
    with pytest.raises(error, match=words):
        sharpness(*arguments)
    assert same(before, net.state_dict()) and random.same_as(RandomState.now())
    assert all((p.grad == 1).all() for p in net.parameters())


@pytest.mark.parametrize("argument, value", [("accuracy", 0.0), ("accuracy", "x"), ("products", 0), ("products", 1.5)])
def test_numbers_are_checked(net, argument, value):
    with pytest.raises((TypeError, ValueError), match=argument):
        sharpness(net, loss_of(net), **{argument: value})
