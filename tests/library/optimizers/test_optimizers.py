"""The update rules against torch.optim, against plain numpy, and members of an ensemble against runs alone."""

import copy
import doctest
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import optim

from scaleinv import optimizers
from scaleinv.optimizers import Optimizer, apply_updates

laws = settings(deadline=None, derandomize=True, max_examples=12)

# Every rule, and its oracle where torch.optim has it: a new optimizer is a line here.
ORACLES = {
    "sgd": optim.SGD,
    "signsgd": None,
    "adagrad": optim.Adagrad,
    "rmsprop": optim.RMSprop,
    "adadelta": optim.Adadelta,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adamax": optim.Adamax,
    "nadam": optim.NAdam,
    "radam": optim.RAdam,
    "lion": None,
    "lamb": None,
}
every_rule = pytest.mark.parametrize("name", ORACLES)
SHAPES = [(), (1,), (7,), (33,), (4, 5), (2, 3, 4), (0,)]


def log_uniform(low, high):
    return st.floats(math.log10(low), math.log10(high)).map(lambda x: 10**x)


def or_zero(strategy):
    return st.one_of(st.just(0.0), strategy)


# beta1 between 0 and 0.5 is left out: there torch.lerp takes β₁ as 1 − (1 − β₁) in the tensor's own precision, and
# torch.optim itself is off by as much as an ulp of 1, which is many of a small β₁.
small = or_zero(log_uniform(1e-4, 1))
HYPERPARAMETERS = {
    "lr": log_uniform(1e-5, 1),
    "momentum": or_zero(st.floats(0.01, 0.999)),
    "dampening": or_zero(st.floats(0.01, 0.999)),
    "weight_decay": small,
    "lr_decay": small,
    "initial_accumulator_value": small,
    "eps": log_uniform(1e-10, 1e-2),
    "alpha": st.floats(0.5, 0.999),
    "rho": or_zero(st.floats(0.01, 0.999)),
    "betas": st.tuples(or_zero(st.floats(0.5, 0.999)), st.floats(0.5, 0.9999)),
    "momentum_decay": small.map(lambda x: x / 10),
}


def defaults(name):
    return {k: p.default for k, p in inspect.signature(getattr(optimizers, name)).parameters.items()}


@st.composite
def hyperparameters(draw, name):
    strategies = {k: st.booleans() if isinstance(v, bool) else HYPERPARAMETERS[k] for k, v in defaults(name).items()}
    h = {k: draw(strategy) for k, strategy in strategies.items()}
    if h.get("nesterov"):
        h |= {"momentum": draw(st.floats(0.01, 0.999)), "dampening": 0.0}
    return h


@st.composite
def problems(draw, steps=50, shapes=SHAPES):
    """A parameter and its gradients, of any scale; some gradients are zero."""
    shape, dtype = draw(st.sampled_from(shapes)), draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    w_scale, g_scale = draw(or_zero(log_uniform(1e-3, 1e3))), draw(log_uniform(1e-3, 1e3))
    noise = torch.randn(steps + 1, *shape, generator=generator, dtype=dtype)
    present = torch.rand(steps, *shape, generator=generator) < 0.9
    return noise[0] * w_scale, noise[1:] * g_scale * present


def run(optimizer, w, grads):
    """w and the state after the steps, whose gradients are a tensor's rows."""
    params = {"w": w}
    state = optimizer.init(params)
    for g in grads:
        updates, state = optimizer.update({"w": g}, state, params)
        params = apply_updates(params, updates)
    return params["w"], state


# Against torch.optim.


def one_step(optimizer, t, g, w, buffers):
    """w and the buffers after step t."""
    state = {"step": t - 1, **{b: {"w": x} for b, x in buffers.items()}}
    updates, state = optimizer.update({"w": g}, state, {"w": w})
    return {"w": apply_updates({"w": w}, updates)["w"], **{b: state[b]["w"] for b in buffers}}


def addends(optimizer, t, g, w, buffers, h=1e-6):
    """For each result y of a step, Σ |x·∂y/∂x| over the inputs x (gradient, parameter, buffers), y's condition: of a
    sum the addends, traced back through cancellations in earlier sums.  Central differences in float64."""
    inputs = {"g": g.double(), "w": w.double(), **{b: x.double() for b, x in buffers.items()}}
    total = {y: torch.zeros_like(x) for y, x in inputs.items() if y != "g"}
    for name in inputs:
        low, high = (
            one_step(optimizer, t, nudged.pop("g"), nudged.pop("w"), nudged)
            for nudged in ({**inputs, name: inputs[name] * (1 + sign * h)} for sign in (-1, 1))
        )
        for y in total:
            total[y] += ((high[y] - low[y]) / (2 * h)).abs()
    return total


def ulps(ours, theirs, *scales):
    """The largest |ours − theirs|, in units in the last place of the largest of the scales."""
    scale = torch.stack([x.abs().to(ours.dtype).expand_as(ours) for x in scales]).amax(0)
    ulp = torch.nextafter(scale, torch.full_like(scale, math.inf)) - scale
    distance = (ours - theirs).abs() / ulp
    return distance.nan_to_num(math.inf).max().item() if ours.numel() else 0.0


def ulps_from_torch(optimizer, oracle, h, w, grads, traced=True):
    """name (w or a buffer) → ulps between optimizer and torch.optim's oracle, at worst, in steps from the same state:
    torch's.  An ulp is taken at the largest of: the old value, the new one, their difference, and the addends."""
    theirs, worst = torch.nn.Parameter(w.clone()), {}
    reference = oracle([theirs], foreach=False, **h)
    buffers = {b: x["w"] for b, x in optimizer.init({"w": w}).items() if b != "step"}
    for t, g in enumerate(grads, start=1):
        w, theirs.grad = theirs.detach().clone(), g.clone()
        reference.step()
        ours = one_step(optimizer, t, g, w, buffers)
        wanted = {b: x.detach().clone() for b, x in reference.state[theirs].items() if b in buffers}
        wanted["w"] = theirs.detach().clone()
        scales = addends(optimizer, t, g, w, buffers)
        for name, new in wanted.items():
            old = w if name == "w" else buffers[name]
            distance = ulps(ours[name], new, old, new, new - old, *([scales[name]] if traced else []))
            worst[name] = max(worst.get(name, 0.0), distance)
        buffers = {b: wanted.get(b, ours[b]) for b in buffers}
    return worst


def beyond_tolerance(distances):
    return {key: x for key, x in distances.items() if not x <= 4}


@pytest.fixture
def double_scalars():
    """torch.optim keeps NAdam's mu_product in the default dtype; ours is always float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


with_oracle = pytest.mark.parametrize("name", [name for name, oracle in ORACLES.items() if oracle])


@with_oracle
def test_each_step_is_torchs_within_ulps(name, double_scalars):
    @laws
    @given(hyperparameters(name), problems())
    def check(h, problem):
        distances = ulps_from_torch(getattr(optimizers, name)(**h), ORACLES[name], h, *problem)
        assert not beyond_tolerance(distances)

    check()


@with_oracle
def test_defaults_are_torchs(name):
    theirs = inspect.signature(ORACLES[name]).parameters
    assert defaults(name) == {k: theirs[k].default for k in defaults(name)}


@with_oracle
def test_a_whole_run_is_torchs(name, double_scalars):
    torch.manual_seed(0)
    w, grads = torch.randn(5, 3), torch.randn(200, 5, 3)
    theirs = torch.nn.Parameter(w.clone())
    reference = ORACLES[name]([theirs], foreach=False)
    for g in grads:
        theirs.grad = g
        reference.step()
    ours, state = run(getattr(optimizers, name)(), w, grads)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
    assert state["step"] == 200


MOMENTS = {"exp_avg": optimizers.zeros, "exp_avg_sq": optimizers.zeros}


@optimizers.rule(**MOMENTS)
def adam_uncorrected(g, w, s, at, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    m, v = optimizers.moments(s, g, betas)
    return -lr * m / (v.sqrt() + eps)


@optimizers.rule(lambda t, h: optimizers.powers_of_betas(t + 1, h), **MOMENTS)
def adam_one_step_late(g, w, s, at, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    return -optimizers.adam_ratio(s, at, g, betas, eps, lr)


@optimizers.rule(optimizers.powers_of_betas, **MOMENTS)
def adam_with_scalars_in_float32(g, w, s, at, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    betas, at.betas_t = [beta.float() for beta in betas], [beta.float() for beta in at.betas_t]
    return -optimizers.adam_ratio(s, at, g, betas, eps, lr)


SABOTAGED = [adam_uncorrected, adam_one_step_late, adam_with_scalars_in_float32]


@pytest.mark.parametrize("wrong", SABOTAGED, ids=lambda f: f.__name__)
def test_the_check_fails_a_wrong_rule(wrong, double_scalars):
    torch.manual_seed(0)
    problem = torch.zeros(33, dtype=torch.float32), torch.randn(50, 33, dtype=torch.float32)
    assert not beyond_tolerance(ulps_from_torch(optimizers.adam(), optim.Adam, {}, *problem))
    assert beyond_tolerance(ulps_from_torch(wrong(), optim.Adam, {}, *problem))["w"] > 40


# Against plain numpy, in float64.


def numpy_signsgd(w, grads, lr):
    for g in grads:
        w = w - lr * np.sign(g)
    return w


def numpy_lion(w, grads, lr, betas, weight_decay):
    m = np.zeros_like(w)
    for g in grads:
        w = w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
    return w


def numpy_lamb(w, grads, lr, betas, eps, weight_decay):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        r = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * w
        size, length = np.linalg.norm(w), np.linalg.norm(r)
        w = w - lr * (size / length if size > 0 and length > 0 else 1.0) * r
    return w


@pytest.mark.parametrize("name", [name for name, oracle in ORACLES.items() if not oracle])
def test_runs_are_those_of_a_plain_transcription(name):
    @laws
    @given(hyperparameters(name), problems())
    def check(h, problem):
        w, grads = (x.double() for x in problem)
        ours, _ = run(getattr(optimizers, name)(**h), w, grads)
        wanted = globals()[f"numpy_{name}"](w.numpy(), grads.numpy(), **h)
        scale = np.abs(wanted).max(initial=np.abs(w.numpy()).max(initial=0)) + h["lr"]
        np.testing.assert_allclose(ours.numpy(), wanted, rtol=0, atol=1e-11 * scale)

    check()


def test_lamb_has_the_trust_ratio_1_where_a_norm_is_0():
    zero, one = torch.zeros(3), torch.tensor([1.0, -2.0, 3.0])
    first, _ = run(optimizers.lamb(lr=0.5, eps=0.0), zero, one[None])
    assert first.tolist() == pytest.approx([-0.5, 0.5, -0.5])  # the norm of w is 0
    still, _ = run(optimizers.lamb(lr=0.5), one, zero[None])
    assert torch.equal(still, one)  # the norm of r is 0


@laws
@given(st.integers(0, 70), st.integers(0, 2**32))
def test_norm_is_the_norm(n, seed):
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(optimizers.norm(x), x.norm())


# An ensemble.


def varied(h, key, members):
    """h with members' values for the hyperparameter key, near h's own and valid; and the members' own h."""

    def near(value):
        return [value * (1 - 0.01 * i) for i in range(members)]

    if isinstance(h[key], tuple):
        columns = [near(value) for value in h[key]]
        return {**h, key: tuple(map(torch.tensor, columns))}, [{**h, key: pair} for pair in zip(*columns)]
    return {**h, key: torch.tensor(near(h[key]))}, [{**h, key: value} for value in near(h[key])]


def members_alone(members, w, grads):
    """w and the state of each member's run, stacked."""
    runs = [run(optimizer, w[i], grads[:, i]) for i, optimizer in enumerate(members)]
    state = {b: torch.stack([state[b]["w"] for _, state in runs]) for b in runs[0][1] if b != "step"}
    return torch.stack([w for w, _ in runs]), state


def floats(name):
    return [k for k, value in defaults(name).items() if not isinstance(value, bool)]


@pytest.mark.parametrize("name, key", [(name, key) for name in ORACLES for key in floats(name)])
def test_a_member_is_the_run_alone_bit_for_bit(name, key, double_scalars):
    @settings(laws, max_examples=3)
    @given(hyperparameters(name), problems(steps=12), st.sampled_from([1, 2, 5, 21]))
    def check(h, problem, members):
        together, alone = varied(h, key, members)
        w, grads = (x[..., None].repeat_interleave(members, -1).movedim(-1, x.ndim - problem[0].ndim) for x in problem)
        spread = torch.linspace(0.5, 2, members).reshape(-1, *[1] * problem[0].ndim).to(w.dtype)
        w, grads = w * spread, grads / spread
        factory = getattr(optimizers, name)
        got, state = run(factory(**together), w, grads)
        wanted, buffers = members_alone([factory(**one) for one in alone], w, grads)
        assert got.dtype == wanted.dtype == w.dtype
        assert torch.equal(got, wanted)
        for b, x in buffers.items():
            assert state[b]["w"].dtype == x.dtype and torch.equal(state[b]["w"], x), b

    check()


@every_rule
def test_all_hyperparameters_at_once_may_vary(name):
    members, generator = 9, torch.Generator().manual_seed(0)
    together = {
        k: (torch.linspace(0.5, 0.99, members),) * 2 if isinstance(v, tuple) else torch.linspace(0.1, 0.9, members)
        for k, v in defaults(name).items()
        if not isinstance(v, bool)
    }
    alone = [
        {k: tuple(x[i].item() for x in v) if isinstance(v, tuple) else v[i].item() for k, v in together.items()}
        for i in range(members)
    ]
    w, grads = torch.randn(members, 3, 4, generator=generator), torch.randn(8, members, 3, 4, generator=generator)
    factory = getattr(optimizers, name)
    wanted, _ = members_alone([factory(**h) for h in alone], w, grads)
    assert torch.equal(run(factory(**together), w, grads)[0], wanted)


@every_rule
def test_elementwise_rules_are_those_that_may_take_tensors_end_to_end(name):
    optimizer, generator = getattr(optimizers, name)(), torch.Generator().manual_seed(0)
    w, grads = torch.randn(9, generator=generator), torch.randn(8, 9, generator=generator)
    together, _ = run(optimizer, w, grads)
    parts = [run(optimizer, w[part], grads[:, part])[0] for part in (slice(0, 4), slice(4, 9))]
    assert torch.equal(together, torch.cat(parts)) == optimizer.elementwise


# Precision, purity.


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_float32_rounded(name, dtype):
    optimizer, generator = getattr(optimizers, name)(lr=0.1), torch.Generator().manual_seed(0)
    w, state = torch.randn(4, 5, generator=generator).to(dtype), None
    for _ in range(10):
        g = torch.randn(4, 5, generator=generator).to(dtype)
        state = state or optimizer.init({"w": w})
        wide = {"step": state["step"]}
        for b in state.keys() - {"step"}:
            wide[b] = {"w": state[b]["w"].to(torch.promote_types(state[b]["w"].dtype, torch.float32))}
        wanted_updates, wanted_state = optimizer.update({"w": g.float()}, wide, {"w": w.float()})
        updates, state = optimizer.update({"w": g}, state, {"w": w})
        assert updates["w"].dtype == torch.float32
        wanted = apply_updates({"w": w.float()}, wanted_updates)["w"]
        w = apply_updates({"w": w}, updates)["w"]
        assert torch.equal(w, wanted.to(dtype))
        for b in state.keys() - {"step"}:
            assert torch.equal(state[b]["w"], wanted_state[b]["w"].to(state[b]["w"].dtype))
            assert state[b]["w"].dtype == (torch.float64 if b == "mu_product" else dtype)


@every_rule
@pytest.mark.parametrize("shape", [(), (3,)])
def test_dtypes_stay(name, shape):
    for dtype in (torch.float32, torch.float64):
        w, grads = torch.ones(shape, dtype=dtype), torch.ones(2, *shape, dtype=dtype)
        new, state = run(getattr(optimizers, name)(), w, grads)
        assert new.dtype == dtype and new.shape == w.shape
        assert all(x["w"].dtype == dtype for b, x in state.items() if b not in ("step", "mu_product"))


@every_rule
@pytest.mark.parametrize("lr", [0.1, torch.tensor([0.1, 0.2])], ids=["alone", "ensemble"])
def test_update_changes_none_of_its_arguments(name, lr):
    optimizer = getattr(optimizers, name)(lr=lr)
    params = {"a": torch.nn.Parameter(torch.randn(2, 3)), "b": torch.randn(2)}
    grads = {"b": torch.randn(2), "a": torch.randn(2, 3)}
    _, state = optimizer.update(grads, optimizer.init(params), params)
    copies = copy.deepcopy((params, grads, state))
    first, second = optimizer.update(grads, state, params), optimizer.update(grads, state, params)
    for before, after in zip(copies, (params, grads, state)):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not any(x.requires_grad for x in first[0].values())


def test_a_hyperparameter_tensor_is_copied():
    lr = torch.tensor([0.1, 0.2])
    optimizer = optimizers.signsgd(lr=lr)
    lr.zero_()
    assert run(optimizer, torch.zeros(2), torch.ones(1, 2))[0].tolist() == pytest.approx([-0.1, -0.2])


PUBLIC = [name for name in optimizers.__all__ if callable(getattr(optimizers, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_have_an_example_that_holds(name):
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(optimizers, name), name, globs={})
    assert test.examples and doctest.DocTestRunner().run(test).failed == 0


@every_rule
def test_docstrings_name_the_equation_and_the_source(name):
    factory = getattr(optimizers, name)
    assert "w ← w" in factory.__doc__
    assert any(word in factory.__doc__ for word in ("arXiv", "JMLR", "ICML", "ICLR"))
    assert isinstance(factory(), Optimizer)


# Errors: each names the argument, the value, and the way out.

NAN, PAIR = math.nan, torch.tensor([0.1, 0.2])


@pytest.mark.parametrize(
    "name, h, error, parts",
    [
        ("sgd", {"lr": -1}, ValueError, ["lr=-1.0", "[0, ∞)", "0.001"]),
        ("sgd", {"lr": NAN}, ValueError, ["lr=nan"]),
        ("sgd", {"lr": math.inf}, ValueError, ["lr=inf"]),
        ("sgd", {"lr": "0.1"}, TypeError, ["lr='0.1'", "1-d tensor", "0.001"]),
        ("sgd", {"lr": True}, TypeError, ["lr=True"]),
        ("sgd", {"lr": [0.1, 0.2]}, TypeError, ["lr=[0.1, 0.2]", "1-d tensor"]),
        ("sgd", {"lr": torch.ones(2, 2)}, TypeError, ["lr=tensor", "1-d tensor"]),
        ("sgd", {"lr": torch.ones(0)}, ValueError, ["lr", "empty", "member"]),
        ("sgd", {"lr": torch.tensor([0.1, -1.0])}, ValueError, ["lr[1]=-1.0"]),
        ("sgd", {"lr": torch.tensor([0.1, NAN])}, ValueError, ["lr[1]=nan"]),
        ("sgd", {"lr": torch.tensor([1j])}, TypeError, ["lr=tensor"]),
        ("sgd", {"momentum": -0.1}, ValueError, ["momentum=-0.1"]),
        ("sgd", {"dampening": NAN}, ValueError, ["dampening=nan"]),
        ("sgd", {"weight_decay": -1}, ValueError, ["weight_decay=-1.0"]),
        ("sgd", {"nesterov": 1}, TypeError, ["nesterov=1", "True or False"]),
        ("sgd", {"nesterov": True}, ValueError, ["nesterov=True", "momentum=0.0", "nesterov=False"]),
        ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, ["dampening=0.1"]),
        ("sgd", {"nesterov": True, "momentum": torch.tensor([0.9, 0.0])}, ValueError, ["momentum=tensor"]),
        ("sgd", {"lr": PAIR, "momentum": torch.ones(3) / 2}, ValueError, ["'lr': 2", "'momentum': 3"]),
        ("adam", {"betas": (PAIR, torch.ones(3) / 2)}, ValueError, ["betas[0]", "2", "betas[1]", "3"]),
        ("adam", {"betas": (1.0, 0.9)}, ValueError, ["betas[0]=1.0", "[0, 1)", "0.9"]),
        ("adam", {"betas": (0.9, -0.1)}, ValueError, ["betas[1]=-0.1", "0.999"]),
        ("adam", {"betas": (0.9, torch.tensor([0.5, 1.0]))}, ValueError, ["betas[1][1]=1.0"]),
        ("adam", {"betas": 0.9}, TypeError, ["betas=0.9", "pair", "(0.9, 0.999)"]),
        ("adam", {"betas": (0.9, 0.99, 0.999)}, TypeError, ["betas=", "pair"]),
        ("adam", {"betas": (0.9, NAN)}, ValueError, ["betas[1]=nan"]),
        ("adam", {"eps": -1e-8}, ValueError, ["eps=-1e-08"]),
        ("adam", {"amsgrad": None}, TypeError, ["amsgrad=None"]),
        ("adagrad", {"lr_decay": -1}, ValueError, ["lr_decay=-1.0"]),
        ("adagrad", {"initial_accumulator_value": -1}, ValueError, ["initial_accumulator_value=-1.0"]),
        ("adadelta", {"rho": 1.1}, ValueError, ["rho=1.1", "[0, 1]"]),
        ("rmsprop", {"alpha": 1.1}, ValueError, ["alpha=1.1", "[0, 1]"]),
        ("nadam", {"momentum_decay": -1}, ValueError, ["momentum_decay=-1.0"]),
        ("adam", {"learning_rate": 1}, TypeError, ["learning_rate"]),
    ],
)
def test_hyperparameters_out_of_range_are_refused(name, h, error, parts):
    with pytest.raises(error) as caught:
        getattr(optimizers, name)(**h)
    assert all(part in str(caught.value) for part in parts), caught.value


W = {"w": torch.zeros(2, 3)}


@pytest.mark.parametrize(
    "lr, params, grads, error, parts",
    [
        (0.1, W, {}, ValueError, ["grads", "missing ['w']", "extra []"]),
        (0.1, W, {**W, "x": torch.zeros(1)}, ValueError, ["missing []", "extra ['x']"]),
        (0.1, W, {"w": torch.zeros(3, 2)}, ValueError, ["grads['w']", "(3, 2)", "(2, 3)"]),
        (0.1, W, {"w": torch.zeros(3)}, ValueError, ["grads['w']", "(3,)", "(2, 3)"]),
        (0.1, W, {"w": None}, TypeError, ["grads['w']=None", "zeros"]),
        (0.1, W, {"w": torch.zeros(2, 3).to_sparse()}, TypeError, ["grads['w']", "dense"]),
        (torch.ones(3), W, W, ValueError, ["params['w']", "(2, 3)", "3 members", "first axis"]),
        (torch.ones(3), {"w": torch.zeros(())}, {"w": torch.zeros(())}, ValueError, ["params['w']", "()"]),
        (0.1, {"w": torch.zeros(2, dtype=torch.int64)}, W, TypeError, ["params['w']", "floats"]),
        (0.1, {"w": [0.0]}, W, TypeError, ["params['w']", "tensor"]),
    ],
)
def test_tensors_that_do_not_fit_are_refused(lr, params, grads, error, parts):
    optimizer = optimizers.sgd(lr=lr)
    with pytest.raises(error) as caught:
        optimizer.update(grads, optimizer.init(params), params)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_state_of_other_parameters_is_refused():
    optimizer = optimizers.adam()
    with pytest.raises(ValueError, match=r"state\['exp_avg'\]: missing \['w'\], extra \['x'\]"):
        optimizer.update(W, optimizer.init({"x": torch.zeros(1)}), W)
    with pytest.raises(ValueError, match=r"state\['exp_avg'\]\['w'\] has shape \(3,\)"):
        optimizer.update(W, optimizer.init({"w": torch.zeros(3)}), W)


def test_a_state_of_another_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"state has \['momentum_buffer', 'step'\], not \['step', 'exp_avg'.*init"):
        optimizers.adam().update(W, optimizers.sgd().init(W), W)


def test_no_parameters_are_allowed():
    optimizer = optimizers.adam()
    updates, state = optimizer.update({}, optimizer.init({}), {})
    assert updates == {} and state == {"step": 1, "exp_avg": {}, "exp_avg_sq": {}}
