"""A copy of a scaled module, made by ``deepcopy`` or ``pickle``, is independent of the original."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn, optim

from scaleinv import effective_parameters, rescale, scale_parameters, unscale_parameters
from scaleinv.reparam import parameter_scales
from tests.library.units.shared import network, same

pytestmark = pytest.mark.usefixtures("one_thread")


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


each_way = pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved])


@each_way
def test_a_copy_is_equal_and_keeps_the_scale(copied):
    module = scale_parameters(network(), {"0.weight": 8, "2.bias": 0.5})
    twin = copied(module)
    x = torch.randn(3, 5)
    assert type(twin) is nn.Sequential and str(twin) == str(module)
    assert list(twin.state_dict()) == list(module.state_dict())
    assert torch.equal(twin(x), module(x))
    assert parameter_scales(twin) == {"0.weight": 8, "2.bias": 0.5}
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in module.parameters()}


def unscaled(module):
    unscale_parameters(module)


def rescaled(module):
    rescale(module, optim.Adam(module.parameters()), weight=4)


def loaded(module):
    module.load_state_dict(network().state_dict())


def scaled_further(module):
    rescale(module, optim.Adam(module.parameters()), weight={"2.weight": 4})  # not scaled so far


@each_way
@pytest.mark.parametrize("change", [unscaled, rescaled, loaded, scaled_further])
@pytest.mark.parametrize("which", ["the copy", "the original"])
def test_a_change_of_one_leaves_the_other_alone(copied, change, which):
    module = scale_parameters(network(), {"0.weight": 8, "0.bias": 2, "2.bias": 0.5})
    twin = copied(module)
    changed, other = (twin, module) if which == "the copy" else (module, twin)
    x = torch.randn(3, 5)
    before, output, names = effective_parameters(module), module(x), list(module.state_dict())
    change(changed)
    for each in (changed, other):
        assert torch.equal(each(x), output)
        assert same([effective_parameters(each)], [before])
    assert list(other.state_dict()) == names
    unscaled(other)
    unscaled(changed)
    assert type(changed[0]) is type(other[0]) is nn.Linear
    for each in (changed, other):
        each.load_state_dict(network().state_dict())
        assert torch.equal(each(x), output)


@each_way
def test_a_copy_of_a_copy_is_a_copy(copied):
    module = scale_parameters(network(), 8)
    before = effective_parameters(module)
    twin = copied(copied(module))
    assert same([effective_parameters(unscale_parameters(twin))], [before])
    assert same([effective_parameters(module)], [before])


@each_way
def test_a_training_can_be_copied_and_continues(copied):
    """Module and optimizer together: the copied optimizer trains the copied parameters."""

    def steps(module, optimizer):
        for seed in range(3):
            optimizer.zero_grad()
            x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
            module(x).square().mean().backward()
            optimizer.step()
        return [effective_parameters(module)]

    module = scale_parameters(network(), 8)
    optimizer = optim.AdamW(module.parameters(), lr=0.01)
    steps(module, optimizer)
    twin = copied((module, optimizer))
    assert same(steps(*twin), steps(module, optimizer))
    rescale(*twin, weight=0.5)
    assert same(steps(*twin), steps(module, optimizer))


class Shifted(nn.Module):
    """A module with a state of its own and a parametrization of its own."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))
        self.inner = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
        self.calls = [0]

    def forward(self, x):
        self.calls[0] += 1
        return self.inner(x) + self.shift

    def __getstate__(self):
        return {**self.__dict__, "calls": [100]}


def test_a_modules_own_pickling_is_respected():
    module = scale_parameters(Shifted(), {"shift": 4})
    module.inner = nn.Linear(3, 3)
    module(torch.ones(3))
    assert pickled(module).calls == [100]
    assert parameter_scales(pickled(module)) == {"shift": 4}


def test_a_module_that_torch_refuses_to_pickle_is_refused_in_its_words():
    """Beside a parametrization of torch's, the way out is a state_dict."""
    module = scale_parameters(Shifted(), {"shift": 4})
    for copied in (pickled, saved):
        with pytest.raises(RuntimeError, match=r"state_dict\(\)"):
            copied(module)
    twin = copy.deepcopy(module)
    unscale_parameters(twin)
    assert torch.equal(module(torch.ones(3)), twin(torch.ones(3)))


def test_a_copy_loads_and_is_unscaled_after_the_original_was_rescaled():
    module = scale_parameters(network(), 8)
    twin = copy.deepcopy(module)
    rescale(module, optim.Adam(module.parameters()), weight=4)
    twin.load_state_dict(network().state_dict())
    assert same([effective_parameters(twin)], [effective_parameters(network())])
    unscale_parameters(twin)
    twin.load_state_dict(network().state_dict())
