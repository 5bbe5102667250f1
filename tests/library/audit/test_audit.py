"""What audit takes, and what it leaves behind: nothing."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.nn.utils import parametrizations
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scaleinv import audit, infer_units, scale_parameters
from scaleinv.book import models
from scaleinv.units import ONE, L, W
from tests.library.audit.shared import MAKE, adamw, gradients, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bad_input_is_named():
    model = models.mlp()
    optimizer = adamw(model)
    cases = [
        (TypeError, "model=3", lambda: audit(3, optimizer)),
        (TypeError, "optimizer=3", lambda: audit(model, 3)),
        (TypeError, "recorder=3", lambda: audit(model, optimizer, recorder=3)),
        (TypeError, "units=3", lambda: audit(model, optimizer, units=3)),
        (ValueError, "max_norm=-1", lambda: audit(model, optimizer, max_norm=-1)),
        (ValueError, "scaler=-1", lambda: audit(model, optimizer, scaler=-1)),
        (TypeError, "scaler='yes'", lambda: audit(model, optimizer, scaler="yes")),
        (TypeError, "steps='all'", lambda: audit(model, optimizer, steps="all")),
        (ValueError, "steps=0", lambda: audit(model, optimizer, steps=0)),
        (ValueError, "'1.weight' is held by two", lambda: audit(model, [optimizer, adamw(model)])),
        (ValueError, "'weight' has no numbers", lambda: audit(nn.LazyLinear(3), optimizer)),
        (ValueError, "'weight' has no numbers", lambda: audit(nn.Linear(3, 3, device="meta"), optimizer)),
    ]
    for error, text, call in cases:
        with pytest.raises(error, match=re.escape(text)):
            call()


def test_units_from_the_table_inferred_and_not_known():
    class Mine(optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    model = models.mlp(8)
    optimizer = Mine(model.parameters(), lr=0.1)
    unknown = audit(model, optimizer)
    assert unknown.rows[0].unit is None and "units='infer'" in unknown.rows[0].note
    assert any("Mine" in finding.text for finding in unknown.findings)
    for units in ("infer", infer_units(Mine, {"lr": 0.1})):
        assert audit(model, optimizer, units=units).rows[0].unit == W**2 / L
    assert audit(model, optim.SGD(model.parameters(), 0.1)).rows[0].unit == W**2 / L
    assert audit(model, optim.Adafactor(model.parameters())).rows[0].unit == ONE
    assert audit(model, optim.RAdam(model.parameters())).rows[0].unit is None


def everything(model, optimizer):
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    tensors = [t for t in tensors if isinstance(t, torch.Tensor | None)]
    return [*(None if t is None else t.clone() for t in tensors), torch.get_rng_state()]


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_it_changes_nothing_bit_for_bit(make):
    model = scale_parameters(models.convnet(), {"4.weight": 3.0})
    optimizer = make(model.parameters())
    optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    trained(model, optimizer, 2)
    gradients(model)
    model.add_module("noisy", parametrizations.spectral_norm(nn.Linear(3, 2)))
    before, versions = everything(model, optimizer), [p._version for p in model.parameters()]
    groups, numpys = copy.deepcopy(optimizer.param_groups), np.random.get_state()[1].copy()
    names = set(vars(optimizer)), [set(vars(module)) for module in model.modules()]
    result = audit(model, optimizer, max_norm=0.1)
    str(result), result.flat()
    after = everything(model, optimizer)
    assert len(before) == len(after)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(before, after))
    assert versions == [p._version for p in model.parameters()]
    assert all(p.requires_grad and p.grad_fn is None for p in model.parameters())
    assert names == (set(vars(optimizer)), [set(vars(module)) for module in model.modules()])
    assert (np.random.get_state()[1] == numpys).all()
    for a, b in zip(groups, optimizer.param_groups, strict=True):
        assert {k: v for k, v in a.items() if k != "params"} == {k: v for k, v in b.items() if k != "params"}


def test_hooks_of_all_optimizers_do_not_see_the_trial():
    model = models.mlp(8)
    optimizer = adamw(model)
    gradients(model)
    seen = []
    hooks = [
        register_optimizer_step_pre_hook(lambda *args: seen.append(1)),
        optimizer.register_step_post_hook(seen.append),
    ]
    audit(model, optimizer)
    for hook in hooks:
        hook.remove()
    assert seen == []


class Peak(TorchDispatchMode):
    """The largest number of bytes that one tensor made under it has, views aside."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in given:
                self.most = max(self.most, made.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adafactor"])
def test_no_copy_is_larger_than_the_largest_tensor(name):
    model = nn.Linear(1000, 2000)
    optimizer = MAKE[name](model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    with Peak() as peak:
        audit(model, optimizer)
    whole = model.weight.numel() * 4
    assert 0 < peak.most <= (whole if name == "Adafactor" else whole / 4)
