"""``compare_gradients`` leaves everything as it was, and says what is wrong with an argument."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from scaleinv import compare_gradients
from scaleinv.book import data, models

pytestmark = pytest.mark.usefixtures("one_thread")


def network():
    """With buffers, modes, dropout, a frozen parameter and gradients."""
    model = models.convnet()
    model.append(nn.Dropout(0.1))
    model[0].eval()
    model[1].weight.requires_grad_(False)
    for p in list(model.parameters())[1:3]:
        p.grad = torch.ones_like(p)
    return model


def step_of(model):
    x, y = next(data.batches(1))

    def step():
        random.random()
        np.random.rand()
        model.train()
        model[8].bias.requires_grad_(False)
        cross_entropy(model(x), y).backward()

    return step


def state(model):
    """All that a step could change."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {name: (p.grad, None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()}
    flags = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    numbers = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return tensors, grads, flags, numbers, hooks


def check_unchanged(model, before):
    after = state(model)
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    for name, (gradient, values) in before[1].items():
        assert after[1][name][0] is gradient
        assert gradient is None or torch.equal(gradient, values)
    assert before[2:] == after[2:]


def test_model_and_random_numbers_are_as_before():
    model = network()
    before = state(model)
    assert compare_gradients(step_of(model), step_of(model), model).kind == "equal"
    check_unchanged(model, before)


def test_a_step_that_raises_leaves_all_as_it_was():
    model = network()
    step, before = step_of(model), state(model)

    def raises():
        step()
        raise KeyError("a user's own")

    with pytest.raises(KeyError, match="a user's own"):
        compare_gradients(step, raises, model)
    check_unchanged(model, before)


def test_an_optimizers_step_is_refused_before_it_is_taken():
    model = network()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    step, before = step_of(model), state(model)

    def steps():
        step()
        optimizer.step()

    with pytest.raises(ValueError, match=r"^b calls AdamW.step\(\); leave that out"):
        compare_gradients(step, steps, model)
    check_unchanged(model, before)
    assert not optimizer.state
    step()
    optimizer.step()  # not refused any more


def test_an_optimizer_of_another_model_may_step():
    model, other = models.mlp(), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    x, y = next(data.batches(1))

    def step():
        cross_entropy(model(x), y).backward()
        optimizer.step()

    assert compare_gradients(step, step, model).kind == "equal"


def test_an_update_by_hand_is_noticed():
    model = models.mlp()
    x, y = next(data.batches(1))

    def step():
        cross_entropy(model(x), y).backward()
        with torch.no_grad():
            model[1].bias.sub_(0.1)

    with pytest.raises(ValueError, match=r"a changes a parameter of shape \(32,\)"):
        compare_gradients(step, step, model)


def test_buffers_that_share_their_memory_and_views_are_put_back():
    model = nn.Linear(2, 2)
    model.register_buffer("positions", torch.zeros(1).expand(3))
    model.register_buffer("count", torch.zeros(1))
    flat = torch.ones(6)
    model.weight.grad, model.bias.grad = flat[:4].view(2, 2), flat[4:]

    def step():
        flat.zero_()  # as DDP does with its buckets
        model.count = model.count + 1
        model(torch.ones(3, 2)).sum().backward()

    assert compare_gradients(step, step, model).kind == "equal"
    assert flat.tolist() == [1.0] * 6 and model.count.item() == 0


def test_tied_parameters_are_compared_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    x = torch.randn(3, 4)
    result = compare_gradients(lambda: model(x).sum(), lambda: 2 * model(x).sum(), model)
    assert [row.parameter for row in result.rows] == ["0.weight", "0.bias", "1.bias"] and result.factor == 2


# Bad arguments.

GRADIENTS = {"w": torch.ones(2, 3)}
MODEL = nn.Linear(3, 2)


class Fast(torch.optim.SGD):
    def step(self, closure=None):
        pass


@pytest.mark.parametrize(
    "arguments, settings, error, words",
    [
        ((1, GRADIENTS), {}, TypeError, "^a=1 is not gradients; pass a step"),
        ((GRADIENTS, {}), {}, TypeError, "^b={} is not gradients"),
        ((GRADIENTS, {"w": 3.0}), {}, TypeError, r"^b\['w'\]=3.0 is not a tensor"),
        ((GRADIENTS, {"w": torch.ones(2, 3, dtype=torch.int64)}), {}, TypeError, r"^b\['w'\]: torch.int64 is not"),
        ((GRADIENTS, {"w": torch.ones(2, 3, device="meta")}), {}, ValueError, r"^b\['w'\]: .* meta device"),
        ((GRADIENTS, {"w": torch.ones(3, 2)}), {}, ValueError, r"^'w' has the shape \(2, 3\) in a and \(3, 2\) in b"),
        ((GRADIENTS, {"v": torch.ones(2, 3)}), {}, ValueError, "^a and b have no name in common: 'w' in a, 'v' in b"),
        ((GRADIENTS, {"lm": GRADIENTS}), {}, ValueError, "^a is of one loss and b of 'lm'"),
        (({"lm": {"x": GRADIENTS}}, GRADIENTS), {}, TypeError, r"^a\['lm'\] is of several loss terms again"),
        ((GRADIENTS, GRADIENTS, "model"), {}, TypeError, "^model='model' is not a torch.nn.Module"),
        ((GRADIENTS, GRADIENTS, nn.Linear(2, 2, device="meta")), {}, ValueError, "^model: .* meta device"),
        ((GRADIENTS, GRADIENTS), {"tolerance": 0}, ValueError, "^tolerance=0 is not a scale"),
        ((GRADIENTS, GRADIENTS), {"tolerance": 1.5}, ValueError, "^tolerance=1.5 is not a share"),
        ((GRADIENTS, GRADIENTS), {"tolerance": "1"}, TypeError, "^tolerance='1' is not a number"),
        ((GRADIENTS, GRADIENTS), {"optimizer": "AdamW"}, TypeError, "^optimizer='AdamW' is not an optimizer"),
        ((GRADIENTS, GRADIENTS), {"optimizer": Fast}, ValueError, "^optimizer=Fast has no units .*infer_units"),
        ((lambda: None, GRADIENTS), {}, TypeError, "^a returns NoneType, and no model is passed"),
        ((lambda: None, lambda: None, MODEL), {}, ValueError, "^a and b leave no gradient; call backward"),
        ((lambda: {"loss": torch.ones(())},) * 2 + (MODEL,), {}, ValueError, "^a and b leave no gradient"),
        (("none.pt", GRADIENTS), {}, FileNotFoundError, "none.pt"),
    ],
    ids=range(20),
)
def test_what_is_wrong_is_named(arguments, settings, error, words):
    with pytest.raises(error, match=words):
        compare_gradients(*arguments, **settings)


def test_rows_of_a_long_model_are_cut():
    a = {f"{letter}.weight": torch.randn(4, generator=torch.Generator().manual_seed(i)) for i, letter in
         enumerate("abcdefghijklmnopqrstuvwxyz")}  # fmt: skip
    b = {name: (i + 1) * value for i, (name, value) in enumerate(a.items())}
    text = str(compare_gradients(a, b))
    assert "23 more factors" in " ".join(text.split()) and "6 more lines: frame() has all" in text
    assert len(compare_gradients(a, b).frame()) == 26


def test_a_result_holds_no_tensors():
    result = compare_gradients(GRADIENTS, GRADIENTS)
    assert copy.deepcopy(result) == result and not any(
        isinstance(v, torch.Tensor) for v in vars(result.rows[0]).values()
    )
