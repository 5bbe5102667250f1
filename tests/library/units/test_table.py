"""The table ``UNITS`` covers torch.optim: every optimizer, float hyperparameter and state buffer."""

import inspect

import pytest
import torch
from torch import optim

from scaleinv.known_optimizers import UNITS
from tests.library.units.shared import problem

OPTIMIZERS = [
    value
    for value in vars(optim).values()
    if inspect.isclass(value) and issubclass(value, optim.Optimizer) and value is not optim.Optimizer
]
by_name = pytest.mark.parametrize("optimizer_class", OPTIMIZERS, ids=lambda c: c.__name__)


def test_the_table_holds_every_optimizer_of_torch_and_nothing_else():
    assert len(OPTIMIZERS) >= 15
    assert set(UNITS) == set(OPTIMIZERS)


def is_float(value):
    return isinstance(value, float) or (isinstance(value, tuple) and any(isinstance(v, float) for v in value))


@by_name
def test_every_float_hyperparameter_has_an_entry(optimizer_class):
    parameters = list(inspect.signature(optimizer_class).parameters.values())[1:]
    floats = {p.name for p in parameters if "float" in str(p.annotation) or is_float(p.default)}
    floats |= {name for name, value in optimizer_class([torch.zeros(2, 2)]).defaults.items() if is_float(value)}
    table = UNITS[optimizer_class].hyperparameters
    assert floats <= set(table)
    assert set(table) <= {p.name for p in parameters}


@by_name
def test_a_missing_unit_comes_with_a_reason(optimizer_class):
    table = UNITS[optimizer_class]
    assert (None in table.hyperparameters.values()) == bool(table.reason)


FLAGS = {
    optim.SGD: [{"momentum": 0.9}],
    optim.RMSprop: [{"momentum": 0.9, "centered": True}],
    optim.Adam: [{"amsgrad": True}],
    optim.AdamW: [{"amsgrad": True}],
}


@by_name
def test_the_table_holds_exactly_the_state_that_real_steps_create(optimizer_class):
    names = set()
    for flags in FLAGS.get(optimizer_class, [{}]):
        parameters, closure = problem(optimizer_class)
        optimizer = optimizer_class(parameters, **flags)
        for _ in range(2):
            optimizer.step(closure)
        names |= {name for state in optimizer.state.values() for name in state}
    assert names == set(UNITS[optimizer_class].state)
