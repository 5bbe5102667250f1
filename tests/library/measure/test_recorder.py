"""Recorder against a naive recording, and what it leaves behind: nothing."""

import contextlib
import copy
import gc
import math
import re
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scaleinv._norms import norms_of
from scaleinv.recorder import Recorder
from scaleinv.reparam import scale_parameters

COLUMNS = ["step", "parameter", "parameter_rms", "gradient_rms", "update_rms", "lr"]


def network(seed=0, dtype=torch.float32, width=7):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Dropout(0.3), nn.Linear(width, 3)).to(dtype)


def gradients(model, inputs=5):
    model.zero_grad()
    dtype = next(model.parameters()).dtype
    model(torch.randn(4, inputs, dtype=dtype)).square().mean().backward()


def rms(tensor):
    return tensor.double().square().mean().sqrt().item()


def naive(model, optimizer, steps, names=None):
    """The same table, from a copy of everything before each step."""
    rows = []
    for step in range(steps):
        gradients(model)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        slopes = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
        lrs = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        optimizer.step()
        for name, p in model.named_parameters():
            if p in lrs:
                change = p.detach() - before[name]
                slope = math.nan if slopes[name] is None else rms(slopes[name])
                rows.append((step + 1, name, rms(before[name]), slope, rms(change), float(lrs[p])))
    return rows


def recorded(model, optimizer, steps):
    with Recorder(model, optimizer) as recorder:
        for _ in range(steps):
            gradients(model)
            optimizer.step()
    return recorder.frame()


def same(frame, rows, rtol=1e-6):
    assert list(frame.columns) == COLUMNS
    assert len(frame) == len(rows)
    for got, expected in zip(frame.itertuples(index=False), rows):
        assert tuple(got[:2]) == expected[:2]
        np.testing.assert_allclose(got[2:], expected[2:], rtol=rtol)


OPTIMIZERS = {
    "SGD, Nesterov, which may change gradients": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, foreach=True),
    "Adam": lambda p: optim.Adam(p, 1e-3),
    "AdamW with much decay": lambda p: optim.AdamW(p, 1e-2, weight_decay=1.0),
    "Adafactor": lambda p: optim.Adafactor(p),
    "Rprop": lambda p: optim.Rprop(p),
    "a tensor for lr": lambda p: optim.Adam(p, torch.tensor(1e-3), foreach=False),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_it_records_what_a_naive_recording_does(make, dtype):
    runs = []
    for run in (recorded, naive):
        model = network(dtype=dtype)
        torch.manual_seed(1)
        runs.append(run(model, make(model.parameters()), 4))
    same(*runs)


def test_tensors_that_are_summed_by_rows():
    runs = []
    for run in (recorded, naive):
        model = network(width=150_000)
        torch.manual_seed(1)
        runs.append(run(model, optim.Adam(model.parameters()), 2))
    same(*runs, rtol=5e-6)


def test_it_changes_nothing_bit_for_bit():
    results = []
    for watch in (True, False):
        model = network()
        optimizer = optim.AdamW(model.parameters(), 1e-2)
        before = set(vars(optimizer)), [set(vars(m)) for m in model.modules()]
        torch.manual_seed(1)
        if watch:
            recorded(model, optimizer, 5)
        else:
            for _ in range(5):
                gradients(model)
                optimizer.step()
        assert before == (set(vars(optimizer)), [set(vars(m)) for m in model.modules()])
        state = [value for entry in optimizer.state.values() for value in entry.values()]
        slopes = [p.grad for p in model.parameters()]
        results.append([*model.parameters(), *slopes, *state, torch.get_rng_state()])
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results))


def hooks(optimizer):
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def test_hooks_and_copies_are_gone_on_exit_and_on_an_exception():
    model = network()
    optimizer = optim.Adam(model.parameters())
    with Recorder(model, optimizer) as recorder:
        gradients(model)
        optimizer.step()
        assert hooks(optimizer) == 2
    assert hooks(optimizer) == 0 and not recorder._snapshots
    with pytest.raises(ZeroDivisionError), recorder:
        gradients(model)
        optimizer.step()
        raise ZeroDivisionError
    assert hooks(optimizer) == 0 and not recorder._snapshots
    assert recorder.frame()["step"].max() == 2
    optimizer.step()
    assert recorder.frame()["step"].max() == 2


def test_it_can_be_entered_again_and_goes_on_counting_but_not_while_it_records():
    model = network()
    optimizer = optim.Adam(model.parameters())
    recorder = Recorder(model, optimizer)
    assert list(recorder.frame().columns) == COLUMNS and recorder.frame().empty
    for _ in range(2):
        with recorder:
            gradients(model)
            optimizer.step()
            assert len(recorder.frame()) % 4 == 0
            with pytest.raises(RuntimeError, match="recording already"), recorder:
                pass
            assert hooks(optimizer) == 2
    assert recorder.frame()["step"].tolist() == [1] * 4 + [2] * 4


def test_two_recorders_of_one_run_agree():
    model = network()
    optimizer = optim.Adam(model.parameters())
    with Recorder(model, optimizer) as one, Recorder(model, optimizer) as other:
        for _ in range(3):
            gradients(model)
            optimizer.step()
    assert one.frame().equals(other.frame()) and len(one.frame()) == 12


# Parameters of all kinds.


def test_parameters_without_gradient_and_frozen_ones():
    model = network()
    model[3].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    frame = recorded(model, optim.AdamW(model.parameters()), 2).set_index("parameter")
    for name in ("3.weight", "unused"):
        assert frame.loc[name, "gradient_rms"].isna().all() and (frame.loc[name, "update_rms"] == 0).all()
    assert (frame.loc["0.weight", ["gradient_rms", "update_rms"]] > 0).all(axis=None)
    assert frame.loc["unused", "parameter_rms"].tolist() == pytest.approx([1, 1])


def test_the_update_is_the_actual_one_also_of_parameters_that_move_without_gradient():
    class Mover(optim.Optimizer):
        def step(self, closure=None):
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p += 2

    model = network()
    frame = recorded(model, Mover(model.parameters(), {}), 1)
    np.testing.assert_allclose(frame["update_rms"], 2, rtol=1e-6)
    assert frame["lr"].isna().all()


def test_only_parameters_of_the_model_that_the_optimizer_holds():
    model, other = network(), nn.Linear(2, 2)
    optimizer = optim.SGD([*model[0].parameters(), *other.parameters()], 0.1)
    assert set(recorded(model, optimizer, 1)["parameter"]) == {"0.weight", "0.bias"}


def test_groups_have_their_own_lr_and_may_be_added_and_scheduled():
    model = network()
    optimizer = optim.SGD([{"params": model[0].weight, "lr": 1.0}, {"params": model[0].bias}], lr=0.5)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with Recorder(model, optimizer) as recorder:
        for step in range(3):
            if step == 2:
                optimizer.add_param_group({"params": [*model[3].parameters()], "lr": torch.tensor(0.125)})
                schedule.base_lrs.append(0.0)
            gradients(model)
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
    table = recorder.frame().pivot(index="step", columns="parameter", values="lr")
    assert table["0.weight"].tolist() == [1.0, 0.5, 0.25] and table["0.bias"].tolist() == [0.5, 0.25, 0.125]
    assert table["3.weight"].isna().tolist() == [True, True, False] and table["3.weight"][3] == 0.125


def test_scaled_parameters_keep_their_name_and_show_as_the_optimizer_sees_them():
    plain, scaled = network(), scale_parameters(network(), {"0.weight": 8.0, "3.bias": 0.5})
    frames = []
    for model in (plain, scaled):
        torch.manual_seed(1)
        frame = recorded(model, optim.SGD(model.parameters(), 0.0), 2)
        frames.append(frame.set_index(["step", "parameter"]).sort_index())
    assert frames[0].index.equals(frames[1].index)
    for name, k in {"0.weight": 8, "3.bias": 0.5, "0.bias": 1, "3.weight": 1}.items():
        a, b = (frame.xs(name, level="parameter") for frame in frames)
        assert (b["parameter_rms"] == k * a["parameter_rms"]).all()
        assert (b["gradient_rms"] == a["gradient_rms"] / k).all()


def test_a_shared_parameter_is_recorded_once():
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    frame = recorded(model, optim.SGD(model.parameters(), 0.1), 1)
    assert sorted(frame["parameter"]) == ["0.bias", "0.weight", "1.bias"]


@pytest.mark.parametrize("make", [lambda p: optim.SparseAdam(p, 0.1), lambda p: optim.SGD(p, 0.1)])
def test_sparse_gradients_count_each_coordinate_once_and_zeros_too(make):
    model = nn.Embedding(10, 3, sparse=True)
    optimizer = make(model.parameters())
    with Recorder(model, optimizer) as recorder:
        model(torch.tensor([4, 4, 7])).sum().backward()
        assert not model.weight.grad.is_coalesced()
        before = model.weight.detach().clone()
        optimizer.step()
    (row,) = recorder.frame().itertuples()
    assert row.gradient_rms == pytest.approx(math.sqrt((4 + 1) * 3 / 30))
    assert row.update_rms == pytest.approx(rms(model.weight.detach() - before))


def test_several_dtypes_at_once_complex_ones_too_and_empty_ones():
    model = nn.ParameterDict(
        {
            "brief": torch.full((3,), 2.0, dtype=torch.bfloat16),
            "exact": torch.full((2, 2), 3.0, dtype=torch.float64),
            "complex": torch.full((5,), 3 + 4j, dtype=torch.complex64),
            "scalar": torch.tensor(-7.0),
            "empty": torch.zeros(0, 4),
        }
    )
    optimizer = optim.SGD(model.parameters(), 0.5)
    for p in model.values():
        p.grad = torch.ones_like(p)
    with Recorder(model, optimizer) as recorder:
        optimizer.step()
    frame = recorder.frame().set_index("parameter")
    assert frame["parameter_rms"].to_dict() == pytest.approx(
        {"brief": 2, "exact": 3, "complex": 5, "scalar": 7, "empty": 0}
    )
    assert frame["update_rms"].drop("empty").tolist() == pytest.approx([0.5] * 4)


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e-12, 1e10, 1e25, 1e37])
def test_norms_hold_over_the_whole_range_of_float32(scale):
    tensors = [scale * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (1, 10, 300_000)]
    for norm, tensor in zip(norms_of(tensors), tensors):
        assert norm.item() == pytest.approx(tensor.double().norm().item(), rel=1e-5)


@pytest.mark.parametrize("view", [lambda t: t, lambda t: t.T, lambda t: t.flatten(), lambda t: t[:, ::2]])
@pytest.mark.parametrize("make", [torch.randn, lambda *shape, generator: torch.full(shape, 1e-3)])
def test_norms_of_large_tensors_are_accurate(make, view):
    tensor = view(make(3_000, 2_000, generator=torch.Generator().manual_seed(0)))
    exact = tensor.double().norm().item()
    assert norms_of([tensor])[0].item() == pytest.approx(exact, rel=5e-6)
    assert torch.linalg.vector_norm(tensor).item() != pytest.approx(exact, rel=5e-6)  # all at once


def test_norms_of_gradients_that_are_not_finite():
    assert norms_of([torch.tensor([1.0, math.inf]), torch.tensor([math.nan]), torch.zeros(3)]).tolist()[0] == math.inf
    assert math.isnan(norms_of([torch.tensor([1.0, math.nan])]).item())


# Steps of all kinds.


def closure_of(model, optimizer, calls):
    def closure():
        optimizer.zero_grad()
        loss = (model(torch.ones(4, 5)) - 1).square().mean()
        loss.backward()
        calls.append(model[0].weight.grad.clone())
        return loss

    return closure


@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_closure_gives_the_gradient_of_its_first_call(by_keyword):
    model = network().eval()
    optimizer = optim.LBFGS(model.parameters(), 0.1)
    calls = []
    closure = closure_of(model, optimizer, calls)
    with Recorder(model, optimizer) as recorder:
        before = model[0].weight.detach().clone()
        loss = optimizer.step(closure=closure) if by_keyword else optimizer.step(closure)
    row = recorder.frame().set_index("parameter").loc["0.weight"]
    assert loss > 0 and len(calls) > 1
    assert row["gradient_rms"] == pytest.approx(rms(calls[0])) != pytest.approx(rms(calls[-1]), rel=1e-3)
    assert row["update_rms"] == pytest.approx(rms(model[0].weight.detach() - before), rel=1e-5)


def test_a_step_within_a_step_is_one_step():
    class Shrinking(optim.SGD):
        def step(self, closure=None):
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p *= 0.5
            super().step(closure)
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p -= 3

    model = nn.Linear(1, 1, bias=False)
    optimizer = Shrinking(model.parameters(), 1.0)
    with torch.no_grad():
        model.weight.fill_(8)
    model.weight.grad = torch.ones(1, 1)
    with Recorder(model, optimizer) as recorder:
        optimizer.step()  # 8 → 4 → 3 → 0
        optimizer.step()  # 0 → 0 → −1 → −4
    assert recorder.frame()["parameter_rms"].tolist() == [8, 0]
    assert recorder.frame()["update_rms"].tolist() == [8, 4]


def test_a_step_that_raises_leaves_no_row_and_the_next_one_is_recorded():
    model = network()
    optimizer = optim.SGD(model.parameters(), 0.1)

    def fail():
        raise ZeroDivisionError

    with Recorder(model, optimizer) as recorder:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                optimizer.step(fail)
            gradients(model)
            optimizer.step()
    assert recorder.frame()["step"].tolist() == [1] * 4 + [2] * 4
    assert recorder.frame()["gradient_rms"].notna().all()


class Nested(optim.SGD):
    """Takes 1 from its parameters around the steps of SGD, which may raise; a base class of it has a step too."""

    inner, catch = 1, ()

    def shift(self):
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p -= 1

    def step(self, closure=None):
        self.shift()
        for _ in range(self.inner):
            try:
                super().step(closure)
            except self.catch:
                pass
        self.shift()


def fail():
    raise ZeroDivisionError


def one_weight(optimizer_class=Nested):
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(8)
    model.weight.grad = torch.ones(1, 1)
    optim.SGD(model.parameters(), 1.0)  # from now on SGD.step calls hooks as well, from wherever it is called
    return model, optimizer_class(model.parameters(), 1.0)


@pytest.mark.parametrize("inner", [0, 1, 3])
@pytest.mark.parametrize("raised", [0, 1, 2, 5])
def test_steps_with_steps_within_are_recorded_after_any_number_that_raised_inside(inner, raised):
    model, optimizer = one_weight()
    with Recorder(model, optimizer) as recorder:
        for _ in range(2):
            optimizer.inner = 1
            for _ in range(raised):
                with pytest.raises(ZeroDivisionError):
                    optimizer.step(fail)
            optimizer.inner = inner
            optimizer.step()
    assert recorder.frame()["update_rms"].tolist() == [2 + inner] * 2
    assert recorder.frame()["parameter_rms"].tolist() == [8 - raised, abs(6 - 2 * raised - inner)]


def test_steps_that_raise_in_turn_with_steps_that_do_not_call_their_base():
    model, optimizer = one_weight()
    with Recorder(model, optimizer) as recorder:
        for inner in (1, 0, 1, 0):
            optimizer.inner = inner
            if inner:
                with pytest.raises(ZeroDivisionError):
                    optimizer.step(fail)
            optimizer.step()
    assert recorder.frame()["update_rms"].tolist() == [3, 2, 3, 2]


@pytest.mark.parametrize("by_keyword", [False, True])
@pytest.mark.parametrize("recorders", [1, 2])
def test_a_step_that_catches_what_a_step_within_raised_is_recorded(recorders, by_keyword):
    model, optimizer = one_weight()
    optimizer.catch = ZeroDivisionError
    watching = [Recorder(model, optimizer) for _ in range(recorders)]
    with contextlib.ExitStack() as stack:
        for recorder in watching:
            stack.enter_context(recorder)
        for _ in range(3):
            optimizer.step(closure=fail) if by_keyword else optimizer.step(fail)
    for recorder in watching:
        assert recorder.frame()["update_rms"].tolist() == [2] * 3
        assert recorder.frame()["parameter_rms"].tolist() == [8, 6, 4]


def test_a_closure_is_called_as_often_and_counts_once_in_steps_within_steps():
    model, optimizer = one_weight()
    optimizer.inner, calls = 3, []

    def closure():
        calls.append(len(calls))
        model.weight.grad = torch.full((1, 1), 1.0 + len(calls))

    with Recorder(model, optimizer) as one, Recorder(model, optimizer) as other:
        optimizer.step(closure=closure)
    assert calls == [0, 1, 2] and one.frame()["gradient_rms"].tolist() == [2]
    assert one.frame().equals(other.frame())


def test_a_scheduler_made_before_or_while_it_records_and_a_step_called_by_another_name():
    for before in (True, False):
        model = network()
        optimizer = optim.SGD(model.parameters(), 0.1)
        step = optimizer.step
        if before:
            schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        with Recorder(model, optimizer) as recorder:
            if not before:
                schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            for call in (optimizer.step, step):
                gradients(model)
                call()
                schedule.step()
        optimizer.step()
        assert recorder.frame()["lr"].tolist() == [0.1] * 4 + [0.05] * 4


def test_a_compiled_step_is_recorded():
    runs = []
    for run in (recorded, naive):
        model = network()
        optimizer = optim.SGD(model.parameters(), 0.1)
        torch.manual_seed(1)
        optimizer.step = torch.compile(optimizer.step, backend="eager")
        runs.append(run(model, optimizer, 2))
    same(*runs)


def test_a_run_may_be_copied_while_it_is_recorded():
    model = network()
    optimizer = optim.Adam(model.parameters())
    with Recorder(model, optimizer):
        gradients(model)
        optimizer.step()
        copy.deepcopy(optimizer.state_dict())


# Memory.


class Peak(TorchDispatchMode):
    """The most bytes that tensors made under it held at one time."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        old = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in old and storage not in self.known:
                    self.known.add(storage)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self.free, storage.nbytes())
        return result

    def free(self, size):
        self.now -= size


def test_it_holds_one_copy_of_the_parameters_and_no_more():
    model = nn.Sequential(*[nn.Linear(600, 700) for _ in range(3)])
    optimizer = optim.SGD(model.parameters(), 0.1, foreach=False)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    recorder = Recorder(model, optimizer)
    with Peak() as peak:
        with recorder:
            for _ in range(3):
                optimizer.step()
            assert size <= peak.now <= 1.01 * size
        assert peak.most <= 1.01 * size
        gc.collect()
        assert peak.now <= 0.01 * size


@pytest.mark.parametrize("optimizer_class, most", [(optim.SGD, 1), (Nested, 2)])
def test_steps_that_raise_leave_no_copies_behind(optimizer_class, most):
    model = nn.Linear(600, 700)
    optimizer = optimizer_class(model.parameters(), 0.1, foreach=False)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    errors = []
    with Peak() as peak, Recorder(model, optimizer):
        for _ in range(5):
            try:
                optimizer.step(fail)
            except ZeroDivisionError as error:
                errors.append(error)  # and with it all that its frames hold
    assert len(errors) == 5 and peak.most <= (most + 0.01) * size


def test_the_peak_would_notice_a_second_copy():
    tensors = [torch.ones(1000) for _ in range(3)]
    with Peak() as peak:
        copies = [t.clone() for t in tensors]
        del copies
        torch.ones(10)
    assert peak.most == 12000 and peak.now <= 40


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_does_not_wait_for_the_device_before_the_end():
    model = network().cuda().eval()
    optimizer = optim.Adam(model.parameters(), foreach=True)
    with Recorder(model, optimizer) as recorder:
        for _ in range(3):
            model(torch.ones(4, 5, device="cuda")).square().mean().backward()
            torch.cuda.set_sync_debug_mode("error")
            try:
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert recorder.frame().notna().all(axis=None)


# Errors.


def test_anything_but_a_module_and_an_optimizer_is_refused():
    model = network()
    with pytest.raises(TypeError, match=r"(?s)module=.* is not a torch.nn.Module"):
        Recorder([*model.parameters()], optim.SGD(model.parameters()))
    with pytest.raises(TypeError, match=r"(?s)optimizer=Sequential.* is not a torch.optim.Optimizer"):
        Recorder(model, model)


def test_an_optimizer_of_other_parameters_is_refused():
    with pytest.raises(ValueError, match=re.escape("optimizer=SGD holds none of the 4 parameters of model=Sequential")):
        Recorder(network(), optim.SGD(network().parameters()))


@pytest.mark.parametrize("argument", ["every", "keep"])
def test_a_number_of_steps_that_is_none_is_refused(argument):
    model = network()
    for wrong, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(error, match=f"{argument}="):
            Recorder(model, optim.SGD(model.parameters()), **{argument: wrong})
    with pytest.raises(TypeError, match="every="):
        Recorder(model, optim.SGD(model.parameters()), every=None)


def test_parameters_of_which_each_process_has_a_part_are_refused():
    class Sharded(nn.Parameter):
        placements = ("Shard(0)",)  # as a DTensor's

    model = network()
    model[3].weight = Sharded(torch.ones(3, 7))
    with pytest.raises(TypeError, match=r"model has 3.weight as a DTensor"):
        Recorder(model, optim.SGD(model.parameters()))


# Only some steps.


def run_of(steps, make=lambda p: optim.Adam(p, 1e-2), **options):
    model = network()
    optimizer = make(model.parameters())
    torch.manual_seed(1)
    with Recorder(model, optimizer, **options) as recorder:
        for _ in range(steps):
            gradients(model)
            optimizer.step()
    return recorder


@pytest.mark.parametrize("steps", [1, 3, 4, 10])
def test_every_third_step_is_recorded_as_it_is_when_all_are(steps):
    some, everything = run_of(steps, every=3).frame(), run_of(steps).frame()
    expected = everything[everything["step"] % 3 == 1].reset_index(drop=True)
    assert some.equals(expected) and len(some) == 4 * len(range(0, steps, 3))


@pytest.mark.parametrize("every", [1, 2])
def test_the_latest_records_are_kept(every):
    window, everything = run_of(11, every=every, keep=3).frame(), run_of(11, every=every).frame()
    assert window.equals(everything[-12:].reset_index(drop=True)) and len(window) == 12
    assert run_of(2, keep=3).frame().equals(run_of(2).frame())


def test_a_bounded_window_keeps_its_size_when_steps_run_within_steps():
    model, optimizer = one_weight()
    optimizer.inner = 3
    with Recorder(model, optimizer, keep=3) as recorder:
        for _ in range(5):
            optimizer.step()
    assert recorder.frame()["step"].tolist() == [3, 4, 5] and recorder.frame()["update_rms"].tolist() == [5] * 3


@pytest.mark.parametrize("every", [1, 2, 3])
def test_every_counts_outer_steps_and_leaves_out_those_that_raised(every):
    model, optimizer = one_weight()
    with Recorder(model, optimizer, every=every) as recorder:
        for inner in (2, 0, 1, 3, 1):
            optimizer.inner = 1
            with pytest.raises(ZeroDivisionError):
                optimizer.step(fail)
            optimizer.inner = inner
            optimizer.step()
    frame = recorder.frame()
    assert frame["step"].tolist() == [*range(1, 6, every)]
    assert frame["update_rms"].tolist() == [4, 2, 3, 5, 3][::every]


def test_a_step_is_kept_in_some_twenty_bytes_a_parameter():
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(200)))
    optimizer = optim.Adam(model.parameters(), 1e-3)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    sizes = []
    with Recorder(model, optimizer, keep=None) as recorder:
        optimizer.step()
        tracemalloc.start()
        for steps in (10, 20):
            for _ in range(steps - recorder.frame()["step"].max()):
                optimizer.step()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        on_device = sum(vector.norms.nbytes for _, vector in recorder._records[-1].vectors)
    assert on_device <= 3 * 4 * 400 and (sizes[1] - sizes[0]) / 10 <= 8 * 400


# Parameters that are not as they were.


def test_parameters_that_move_to_other_memory_or_another_dtype_while_it_records():
    model = network()
    optimizer = optim.SGD(model.parameters(), 0.1)
    with Recorder(model, optimizer) as recorder:
        for dtype in (torch.float32, torch.float64, torch.float16):
            model.to(dtype)
            for p in model.parameters():
                p.data = p.data.clone()
                p.grad = torch.full_like(p, 2.0)
            optimizer.step()
    assert recorder.frame()["gradient_rms"].tolist() == pytest.approx([2.0] * 12)
    np.testing.assert_allclose(recorder.frame()["update_rms"], 0.2, rtol=2e-3)


def test_weights_of_any_layout_in_memory():
    runs = []
    for run in (recorded_images, naive_images):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 64, 5), nn.Conv2d(64, 90, 5)).to(memory_format=torch.channels_last)
        assert not model[1].weight.is_contiguous() and model[1].weight.numel() > 65536
        runs.append(run(model, optim.Adam(model.parameters(), 1e-3)))
    np.testing.assert_allclose(runs[0], runs[1], rtol=5e-6)


def images_step(model):
    torch.manual_seed(1)
    model.zero_grad()
    model(torch.randn(2, 3, 12, 12)).square().mean().backward()


def recorded_images(model, optimizer):
    with Recorder(model, optimizer) as recorder:
        images_step(model)
        optimizer.step()
    return recorder.frame()[["parameter_rms", "gradient_rms", "update_rms"]].to_numpy()


def naive_images(model, optimizer):
    images_step(model)
    before = [p.detach().clone() for p in model.parameters()]
    slopes = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    return [[rms(b), rms(g), rms(p.detach() - b)] for b, g, p in zip(before, slopes, model.parameters())]


# Wrappers.


class Wrapper(optim.Optimizer):
    """As Accelerate's: an optimizer that does not call ``Optimizer.__init__`` and passes steps on."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.waits = False

    param_groups = property(lambda self: self.optimizer.param_groups)

    def step(self, closure=None):
        if not self.waits:
            self.optimizer.step(closure)


class Mean(optim.Optimizer):
    """As Lookahead: an optimizer with hooks of its own, whose step does more than that of the one inside."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        super().__init__([p for group in optimizer.param_groups for p in group["params"]], {"lr": 7.0})

    def step(self, closure=None):
        self.optimizer.step(closure)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p += 3


def test_of_a_wrapper_without_hooks_the_optimizer_inside_is_recorded():
    model = network()
    inner = optim.SGD(model.parameters(), 0.5)
    optimizer = Wrapper(Wrapper(inner))
    with Recorder(model, optimizer) as recorder:
        for waits in (True, False, True, False):
            optimizer.waits = waits
            gradients(model)
            optimizer.step()
    assert hooks(inner) == 0 and recorder.frame()["step"].tolist() == [1] * 4 + [2] * 4
    np.testing.assert_allclose(recorder.frame()["update_rms"], 0.5 * recorder.frame()["gradient_rms"], rtol=1e-5)


def test_a_wrapper_with_hooks_is_recorded_itself():
    model = network()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer = Mean(optim.SGD(model.parameters(), 1.0))
    with Recorder(model, optimizer) as recorder:
        optimizer.step()
    np.testing.assert_allclose(recorder.frame()["update_rms"], 2, rtol=1e-6)
    assert recorder.frame()["lr"].tolist() == [7.0] * 4


def test_a_wrapper_with_nothing_inside_is_refused():
    model = network()
    empty = Wrapper(None)
    with pytest.raises(TypeError, match="optimizer=Wrapper has no hooks"):
        Recorder(model, empty)


# The picture.


def test_the_picture_shows_every_relative_step():
    recorder = run_of(5, every=2)
    frame = recorder.frame()
    relative = (frame["update_rms"] / frame["parameter_rms"]).to_numpy().reshape(3, 4)
    above, below, bar = recorder.plot().axes
    mesh = below.collections[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(4, 3), relative.T)
    np.testing.assert_allclose(above.lines[0].get_ydata(), np.median(relative, axis=1))
    assert list(above.lines[0].get_xdata()) == [1, 3, 5]
    assert [label.get_text() for label in below.get_yticklabels()] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert mesh.norm.vmin == 1e-5 and mesh.norm.vmax == 0.1 and "RMS(w)" in bar.get_xlabel()


def test_what_does_not_move_is_blank_and_a_run_without_steps_has_no_picture():
    model = network()
    nn.init.zeros_(model[0].bias)
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    optimizer = optim.SGD(model.parameters(), 0.1)
    recorder = Recorder(model, optimizer)
    with pytest.raises(ValueError, match="nothing can be drawn"):
        recorder.plot()
    with recorder:
        gradients(model)
        optimizer.step()
    shown = recorder.plot().axes[1].collections[0].get_array()
    names = [label.get_text() for label in recorder.plot().axes[1].get_yticklabels()]
    assert dict(zip(names, np.ma.getmaskarray(shown).ravel())) == {
        "unused": True, "0.weight": False, "0.bias": True, "3.weight": False, "3.bias": False,
    }  # fmt: skip
