"""Symmetries are those that the rules have, whatever an optimizer is called like, and leave nothing behind."""

import json
import random

import numpy as np
import pytest
import torch
from torch import nn, optim

import scaleinv
from scaleinv import optimizers, symmetries_of

pytestmark = pytest.mark.usefixtures("one_thread")

OF_TORCH = {
    optim.SGD: ("none", "global"),
    optim.ASGD: ("none", "global"),
    optim.Adafactor: ("tensor", "none"),
    optim.Muon: ("tensor", "rows, columns"),
    optim.RAdam: ("none", "none"),  # first SGD's steps, then Adam's
    optim.LBFGS: ("none", "none"),  # the sum of the gradient's absolute values sets the first step
}


@pytest.mark.parametrize("cls", scaleinv.UNITS, ids=lambda cls: cls.__name__)
def test_symmetries_of_torchs_optimizers(cls):
    symmetries = symmetries_of(cls)
    assert (symmetries.scales, symmetries.rotations) == OF_TORCH.get(cls, ("entry", "none"))
    assert symmetries.name == cls.__name__ and symmetries.size == 2.0**60
    assert symmetries.bitwise == (symmetries.scales != "none")


def optimizer_of(update):
    """An optimizer from a rule: gradients, parameters and hyperparameters → what is taken from the parameters."""

    class Optimizer(optim.Optimizer):
        def __init__(self, params, lr=0.1, eps=0.0, weight_decay=0.0):
            super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

        @torch.no_grad()
        def step(self):
            (group,) = self.param_groups
            parameters = group["params"]
            updates = update([p.grad for p in parameters], parameters, group)
            for p, u in zip(parameters, updates, strict=True):
                p.sub_(group["lr"] * u)

    Optimizer.__name__ = update.__name__
    return Optimizer


def global_norm(gs, ws, h):
    norm = torch.stack([g.norm() for g in gs]).norm()
    return [g / (norm + h["eps"]) for g in gs]


def norm_of_each(gs, ws, h):
    return [g / (g.norm() + h["eps"]) for g in gs]


def by_rows(gs, ws, h):
    return [g / (g.norm(dim=1, keepdim=True) + h["eps"]) for g in gs]


def by_columns(gs, ws, h):
    return [g / (g.norm(dim=0, keepdim=True) + h["eps"]) for g in gs]


def sign(gs, ws, h):
    return [g.sign() for g in gs]


def largest_entry(gs, ws, h):
    return [g / (g.abs().max() + h["eps"]) for g in gs]


def shares_of_rows_and_columns(gs, ws, h):
    """The first row and the first column of each, and what is left, divided by all factors of either kind."""
    return [g * g[:1, :1] / (g[:, :1] * g[:1]) for g in gs]


def left_polar_factor(gs, ws, h):
    """(GGᵀ)⁻¹G goes along with rotations of rows and columns, and sees the factor."""
    return [torch.linalg.pinv(g).T for g in gs]


def clipped(gs, ws, h):
    factor = min(1.0, 1 / torch.stack([g.norm() for g in gs]).norm().item())
    return [factor * g for g in gs]


def trust(gs, ws, h):
    return [w.norm() * g.sign() + h["weight_decay"] * w for g, w in zip(gs, ws, strict=True)]


OF_RULES = {
    global_norm: ("global", "global"),
    norm_of_each: ("tensor", "tensor"),
    by_rows: ("row", "columns"),
    by_columns: ("column", "rows"),
    sign: ("entry", "none"),
    largest_entry: ("tensor", "none"),
    shares_of_rows_and_columns: ("row, column", "none"),
    left_polar_factor: ("none", "rows, columns"),
    clipped: ("global", "global"),
    trust: ("entry", "none"),
}


@pytest.mark.parametrize("update", OF_RULES, ids=lambda update: update.__name__)
def test_symmetries_of_rules_that_have_them_by_construction(update):
    symmetries = symmetries_of(optimizer_of(update), {"weight_decay": 0.1})
    assert (symmetries.scales, symmetries.rotations) == OF_RULES[update]


def test_eps_is_seen_at_gradients_of_one_and_not_far_above():
    symmetries = symmetries_of(optimizer_of(norm_of_each), {"eps": 1e-3})
    assert symmetries.scaled["tensor"] == 0 < symmetries.scaled_at_one["tensor"] < 0.01
    without = symmetries_of(optimizer_of(norm_of_each))
    assert without.scaled_at_one["tensor"] == 0


def test_a_clip_is_seen_where_it_acts():
    """Far above the norm at which it clips, a clipped SGD is blind to a global factor; near it, it is not."""

    def far(gs, ws, h):
        return [min(1.0, 1e9 / g.norm().item()) * g for g in gs]

    symmetries = symmetries_of(optimizer_of(far))
    assert symmetries.scales == "tensor" and symmetries.scaled_at_one["global"] == pytest.approx(0.5, abs=0.4)


class Adam(optim.Optimizer):
    """Adam with an eps and an accumulator that can be put where they do harm."""

    shared = False  # one second moment for all

    def __init__(self, params, lr=1e-3, eps=1e-8):
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        largest = max(p.grad.square().mean() for p in group["params"])
        for p in group["params"]:
            state = self.state[p]
            square = largest if self.shared else p.grad.square()
            state["m"] = 0.9 * state.get("m", 0) + 0.1 * p.grad
            state["v"] = 0.99 * state.get("v", 0) + 0.01 * square
            p.sub_(group["lr"] * state["m"] / (state["v"].sqrt() + group["eps"]))


def test_a_second_moment_shared_by_all_is_a_global_symmetry_only():
    assert symmetries_of(Adam).scales == "entry"
    assert symmetries_of(type("Shared", (Adam,), {"shared": True})).scales == "global"


# The library's own rules.


def of_rule(make):
    """``torch.optim``'s interface for a rule of ``scaleinv.optimizers``."""

    class Optimizer(optim.Optimizer):
        def __init__(self, params, lr=1e-2):
            super().__init__(params, {"lr": lr})
            self.rule, self.kept = make(lr=lr), None

        @torch.no_grad()
        def step(self):
            named = {str(i): p for i, p in enumerate(self.param_groups[0]["params"])}
            self.kept = self.kept or self.rule.init(named)
            grads = {name: p.grad for name, p in named.items()}
            updates, self.kept = self.rule.update(grads, self.kept, named)
            for name, p in named.items():
                p.add_(updates[name])

    return Optimizer


OF_LIBRARY = {"sgd": "none", "radam": "none"}
RULES = "adam lamb lion radam rmsprop sgd signsgd".split()


@pytest.mark.parametrize("name", RULES)
def test_symmetries_of_the_librarys_rules(name):
    symmetries = symmetries_of(of_rule(getattr(optimizers, name)))
    assert symmetries.scales == OF_LIBRARY.get(name, "entry")
    assert symmetries.rotations == ("global" if name == "sgd" else "none")


# All ways of being called.


class Interface(optim.SGD):
    """SGD divided by the norm of each gradient, made and stepped in a way of its own."""

    def __init__(self, params, lr=0.1):
        super().__init__(self.parameters_of(params), lr=lr)

    @staticmethod
    def parameters_of(params):
        return params

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.sub_(self.param_groups[0]["lr"] * p.grad.to_dense() / p.grad.to_dense().norm())


class Closure(Interface):
    def step(self, closure):
        assert closure().item() > 0
        super().step()


class Module(Interface):
    @staticmethod
    def parameters_of(params):
        assert [type(layer) for layer in params] == 3 * [nn.Linear]  # so that it refuses the larger one, alone
        return params.parameters()


class Named(Interface):
    @staticmethod
    def parameters_of(params):
        return [p for name, p in params if name.endswith(".weight")]


class Sparse(Interface):
    def step(self):
        assert all(p.grad.is_sparse for p in self.param_groups[0]["params"])
        super().step()


class Twice(Interface):
    """Divides by the norm of the product of the Hessian and a random vector."""

    def step(self):
        ps = self.param_groups[0]["params"]
        vectors = [torch.randn_like(p) for p in ps]
        products = torch.autograd.grad([p.grad for p in ps], ps, vectors)
        with torch.no_grad():
            for p, product in zip(ps, products, strict=True):
                p.sub_(self.param_groups[0]["lr"] * p.grad / product.norm())


class Backward(Interface):
    """Makes its own backward pass, of the loss."""

    @staticmethod
    def parameters_of(params):
        return params.parameters()

    def step(self, closure):
        ps = self.param_groups[0]["params"]
        gradients = torch.autograd.grad(closure(), ps)
        with torch.no_grad():
            for p, gradient in zip(ps, gradients, strict=True):
                p.sub_(self.param_groups[0]["lr"] * gradient / gradient.norm())


class Float32(Interface):
    def step(self):
        assert all(p.dtype == torch.float32 for p in self.param_groups[0]["params"])
        super().step()


@pytest.mark.parametrize("cls", [Interface, Closure, Module, Named, Sparse, Backward, Float32])
def test_every_way_of_being_called_shows_the_same_rule(cls):
    symmetries = symmetries_of(cls)
    assert (symmetries.scales, symmetries.rotations) == ("tensor", "tensor")
    assert symmetries.scaled["tensor"] == 0
    assert symmetries.size == (2.0**40 if cls is Float32 else 2.0**60)  # whose squares have to be finite


def test_second_derivatives_get_the_factor_and_random_numbers_are_not_rotated():
    symmetries = symmetries_of(Twice)
    assert (symmetries.scales, symmetries.rotations, symmetries.scaled["tensor"]) == ("tensor", "none", 0)


def test_a_state_in_few_bits_shows_in_a_large_matrix():
    class Blockwise(Interface):
        """Adagrad's first step whose squares share one number in 256 entries, if there are 4096."""

        @torch.no_grad()
        def step(self):
            for p in self.param_groups[0]["params"]:
                square = p.grad.square()
                if p.numel() >= 4096:
                    square = square.view(-1, 256).amax(1, keepdim=True).expand(-1, 256).reshape(p.shape)
                p.sub_(0.1 * p.grad / square.sqrt())

    symmetries = symmetries_of(Blockwise)
    assert symmetries.scales == "tensor" and symmetries.scaled["entry"] > 0.1 and symmetries.scaled["row"] > 0.1


def test_small_steps_of_large_parameters_are_not_called_seen():
    """Steps of 1e-7 on parameters of 1 are rounded, and a rotation of them is exact to that."""
    assert symmetries_of(optim.SGD, {"lr": 1e-7}).rotations == "global"


def test_a_large_gradient_stays_in_the_range_of_a_low_precision_inside():
    """The square of the norm is infinite in float32 at 2^60; parameters move all the same, by decay."""

    def in_float32(gs, ws, h):
        return [(g.float() / g.float().norm()).to(g.dtype) + h["weight_decay"] * w for g, w in zip(gs, ws, strict=True)]

    class OfFloat32(optimizer_of(in_float32)):
        def __init__(self, params, **hyperparameters):
            params = list(params)
            assert params[0].dtype == torch.float32
            super().__init__(params, **hyperparameters)

    symmetries = symmetries_of(OfFloat32, {"weight_decay": 0.1})
    assert (symmetries.scales, symmetries.rotations, symmetries.size) == ("tensor", "tensor", 2.0**40)


# Nothing is left behind, and errors say what to do.


def test_nothing_is_left_behind(capsys):
    class Talking(Interface):
        def step(self):
            print("a step")
            torch.randn(1), random.random(), np.random.rand()
            super().step()

    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    states = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    symmetries_of(Talking)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert [random.getstate(), np.random.get_state()[1].tolist()] == states[1:]
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)
    assert capsys.readouterr() == ("", "")


def test_two_measurements_are_equal():
    assert symmetries_of(optim.Adafactor) == symmetries_of(optim.Adafactor)


def still(gs, ws, h):
    return [torch.zeros_like(g) for g in gs]


def broken(gs, ws, h):
    raise RuntimeError("broken on purpose")


COUNTER = iter(range(10**9))


def different_each_time(gs, ws, h):
    return [g * next(COUNTER) for g in gs]


@pytest.mark.parametrize(
    "error, words, factory, hyperparameters",
    [
        (TypeError, "factory=3 cannot be called", 3, {}),
        (TypeError, "hyperparameters=0.1 is not a dict; pass one such as", optim.SGD, 0.1),
        (ValueError, "lr=nan is not finite", optim.SGD, {"lr": float("nan")}),
        (ValueError, "could not be run: TypeError: .*momentun", optim.SGD, {"momentun": 0.9}),
        (ValueError, "could not be run: RuntimeError: broken on purpose", optimizer_of(broken), {}),
        (ValueError, "steps move nothing", optimizer_of(still), {}),
        (ValueError, "two equal runs differ", optimizer_of(different_each_time), {}),
    ],
)
def test_what_cannot_be_measured_is_an_error(error, words, factory, hyperparameters):
    with pytest.raises(error, match=words):
        symmetries_of(factory, hyperparameters)


def test_the_result_as_text_and_as_json():
    symmetries = symmetries_of(optim.Muon)
    first, *shares = str(symmetries).splitlines()
    assert first == "Muon: scales tensor; rotations rows, columns" and len(shares) == 9
    document = json.loads(json.dumps(symmetries.as_dict(), allow_nan=False))
    assert document["scaled"] == dict(symmetries.scaled) and document["scales"] == "tensor"
