"""Calls that a reader may try: each has the natural result, or a clear error that names the way out."""

import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn, optim

import scaleinv
from scaleinv import Change, Unit, Units, changes, convert, rescale, scale_parameters, unscale_parameters
from scaleinv.reparam import parameter_scales
from scaleinv.units import ONE, G, L, W

pytestmark = pytest.mark.usefixtures("one_thread")


def layer():
    return nn.Linear(2, 2)


def adam(module):
    return optim.Adam(module.parameters(), lr=1e-3)


OWN = Units({"lr": W, "eps": (G, W)}, {})

RESULTS = {
    # Units.
    "W / G": (lambda: W / G, Unit(-1, 2)),
    "W**0.5": (lambda: W**0.5, Unit(0, 0.5)),
    "W**(1/3) cubed": (lambda: (W ** (1 / 3)) ** 3, W),
    "W**0.1": (lambda: str(W**0.1), "W^(1/10)"),
    "W**np.float64(2)": (lambda: W ** np.float64(2), W * W),
    "W**0": (lambda: W**0, ONE),
    "W == L": (lambda: W == L, False),
    "ONE == 1": (lambda: ONE == 1, False),
    "W != None": (lambda: W != None, True),  # noqa: E711
    "equal units as keys": (lambda: {L / W: "gradient"}[G], "gradient"),
    "pickled": (lambda: pickle.loads(pickle.dumps(L / W)), G),
    "f-string": (lambda: f"{W / G}", "L⁻¹ W²"),
    # convert.
    "a numpy float": (lambda: convert(optim.SGD, {"lr": np.float32(0.5)}, weight=2), {"lr": 2.0}),
    "a numpy scale": (lambda: convert(optim.SGD, {"lr": 0.5}, weight=np.float64(2)), {"lr": 2.0}),
    "an int lr": (lambda: convert(optim.SGD, {"lr": 1}, weight=2), {"lr": 4.0}),
    "no hyperparameters": (lambda: convert(optim.SGD, {}, weight=2), {"lr": 4e-3}),
    "a list": (lambda: convert(optim.Adam, {"betas": [0.9, 0.99], "eps": 1.0}, loss=2),
               {"betas": [0.9, 0.99], "eps": 2.0}),
    "a change by position": (lambda: convert(optim.SGD, {"lr": 0.5}, changes.loss_times(2)), {"lr": 0.25}),
    "own units": (lambda: convert(OWN, {"lr": 1.0, "eps": (1.0, 1.0)}, weight=2), {"lr": 2.0, "eps": (0.5, 2.0)}),
    # scale_parameters.
    "scale_parameters returns its module": (lambda: isinstance(scale_parameters(layer(), 2), nn.Linear), True),
    "scale by keyword": (lambda: parameter_scales(scale_parameters(layer(), weight=2)), {"weight": 2, "bias": 2}),
    "scale by one": (lambda: list(scale_parameters(layer(), 1).state_dict()), ["weight", "bias"]),
    "unscale a plain module": (lambda: list(unscale_parameters(layer()).state_dict()), ["weight", "bias"]),
    "scale nothing": (lambda: list(scale_parameters(layer(), {}).state_dict()), ["weight", "bias"]),
    "a scaled layer in words": (lambda: str(scale_parameters(layer(), 8)), str(layer())),
}  # fmt: skip


@pytest.mark.parametrize("call, result", RESULTS.values(), ids=RESULTS)
def test_a_natural_call_has_the_natural_result(call, result):
    assert call() == result


ERRORS = {
    # Units: Python's own message, where it is clear.
    "W * 3": (lambda: W * 3, TypeError, "unsupported operand type(s) for *: 'Unit' and 'int'"),
    "3 * W": (lambda: 3 * W, TypeError, "unsupported operand type(s) for *: 'int' and 'Unit'"),
    "W / 2": (lambda: W / 2, TypeError, "unsupported operand type(s) for /: 'Unit' and 'int'"),
    "1 / W": (lambda: 1 / W, TypeError, "unsupported operand type(s) for /: 'int' and 'Unit'"),
    "W + W": (lambda: W + W, TypeError, "unsupported operand type(s) for +: 'Unit' and 'Unit'"),
    "W * None": (lambda: W * None, TypeError, "'Unit' and 'NoneType'"),
    "tensor * W": (lambda: torch.ones(2) * W, TypeError, "'Tensor' and 'Unit'"),
    "array * W": (lambda: np.ones(2) * W, TypeError, "'float' and 'Unit'"),
    "W**W": (lambda: W**W, TypeError, "unsupported operand type(s) for ** or pow(): 'Unit' and 'Unit'"),
    "W**'2'": (lambda: W ** "2", TypeError, "'Unit' and 'str'"),
    "2**W": (lambda: 2**W, TypeError, "'int' and 'Unit'"),
    "W**nan": (lambda: W**math.nan, ValueError, "power=nan is not an exponent; it has to be finite"),
    "W < L": (lambda: W < L, TypeError, "'<' not supported between instances of 'Unit' and 'Unit'"),
    "Unit('L W')": (lambda: Unit("L W"), TypeError, "loss='L W' is not an exponent; pass numbers, as in Unit(loss=1"),
    "Unit(L, W)": (lambda: Unit(L, W), TypeError, "loss=L is not an exponent; pass numbers"),
    "Unit(None)": (lambda: Unit(None), TypeError, "loss=None is not an exponent"),
    "Unit(inf)": (lambda: Unit(0, math.inf), ValueError, "weight=inf is not an exponent"),
    "W.loss = 1": (lambda: setattr(W, "loss", 1), AttributeError, "cannot assign to field 'loss'"),
    "factor(8)": (lambda: W.factor(8), TypeError, "takes 1 positional argument but 2 were given"),
    "factor(weight=-1)": (lambda: W.factor(weight=-1), ValueError, "weight=-1 is not a scale"),
    "factor(loss='8')": (lambda: W.factor(loss="8"), TypeError, "loss='8' is not a number"),
    # convert.
    "a number": (lambda: convert(optim.Adam, 1e-3, weight=8), TypeError,
                 "hyperparameters=0.001 is not a dict; pass one such as {'lr': 0.001}"),
    "a string": (lambda: convert(optim.Adam, "lr=1e-3", weight=8), TypeError,
                 "hyperparameters='lr=1e-3' is not a dict; pass one such as {'lr': 0.001}"),
    "None": (lambda: convert(optim.Adam, None, weight=8), TypeError, "hyperparameters=None is not a dict"),
    "pairs": (lambda: convert(optim.Adam, [("lr", 1e-3)], weight=8), TypeError, "is not a dict"),
    "a flag": (lambda: convert(optim.Adam, True, weight=8), TypeError, "pass one such as {'lr': 0.001}"),
    "hyperparameters as keywords": (lambda: convert(optim.Adam, lr=1e-3, weight=8), TypeError,
                                    "unexpected keyword argument 'lr'"),
    "a misspelt keyword": (lambda: convert(optim.Adam, {}, weigth=8), TypeError,
                           "unexpected keyword argument 'weigth'"),
    "the old letter": (lambda: convert(optim.Adam, {}, k=8), TypeError, "unexpected keyword argument 'k'"),
    "a factor as change": (lambda: convert(optim.Adam, {}, 8), TypeError,
                           "change=8 is not one of scaleinv.changes, such as changes.loss_times(8)"),
    "a function as change": (lambda: convert(optim.Adam, {}, changes.gain), TypeError, "not one of scaleinv.changes"),
    "a change and a factor": (lambda: convert(optim.Adam, {}, changes.gain(2), loss=2), ValueError, "not both"),
    "a name as optimizer": (lambda: convert("Adam", {}, weight=8), TypeError, "optimizer_class='Adam'"),
    "an optimizer": (lambda: convert(adam(layer()), {}, weight=8), TypeError, "optimizer_class=Adam ("),
    "an unknown name": (lambda: convert(optim.Adam, {"learning_rate": 1e-3}, weight=8), ValueError,
                        "hyperparameters['learning_rate'] is unknown; known are ['amsgrad', 'betas'"),
    "lr as string": (lambda: convert(optim.Adam, {"lr": "1e-3"}, weight=8), TypeError, "lr='1e-3' is not a number"),
    "lr as flag": (lambda: convert(optim.Adam, {"lr": True}, weight=8), TypeError, "lr=True is not a number"),
    "lr as dict": (lambda: convert(optim.Adam, {"lr": {}}, weight=8), TypeError, "lr={} is not a number"),
    "several lrs": (lambda: convert(optim.Adam, {"lr": torch.ones(2)}, weight=8), TypeError,
                    "lr=tensor([1., 1.]) is not a number"),
    "one eps of two": (lambda: convert(optim.Adafactor, {"eps": 1e-3}, weight=8), TypeError,
                       "eps=0.001 is not a tuple; its 2 entries have the units (L W⁻¹, W)"),
    "three of two eps": (lambda: convert(optim.Adafactor, {"eps": (1e-3,) * 3}, weight=8), ValueError,
                         "eps=(0.001, 0.001, 0.001) has 3 entries instead of 2"),
    "weight as dict": (lambda: convert(optim.Adam, {}, weight={"a": 8}), TypeError, "weight={'a': 8} is not a number"),
    # changes.
    "a factor in words": (lambda: changes.loss_times("8"), TypeError, "factor='8' is not a number"),
    "one alpha": (lambda: changes.lora_alpha(16), TypeError, "missing 1 required positional argument: 'new'"),
    "nothing": (lambda: changes.gain(0), ValueError, "factor=0 is not a scale; it has to be positive and finite"),
    # scale_parameters, rescale, unscale_parameters.
    "no weight": (lambda: scale_parameters(layer()), TypeError, "weight=None is not a number"),
    "two weights": (lambda: scale_parameters(layer(), 2, k=2), TypeError, "pass weight alone"),
    "a string as weight": (lambda: scale_parameters(layer(), "8"), TypeError, "weight='8' is not a number"),
    "a parameter as module": (lambda: scale_parameters(layer().weight, 8), TypeError, "is not a torch.nn.Module"),
    "scaled twice": (lambda: scale_parameters(scale_parameters(layer(), 2), 2), ValueError,
                     "is already scaled, by 2; use rescale to scale it further or unscale_parameters to undo it"),
    "no optimizer": (lambda: rescale(layer(), None, weight=8), TypeError, "optimizer=None is not a torch.optim"),
    "no module": (lambda: rescale(None, None, weight=8), TypeError, "module=None is not a torch.nn.Module"),
    "weight by position": (lambda: rescale(*pair(), 8), TypeError, "change=8 is not one of scaleinv.changes"),
    "another init": (lambda: rescale(*pair(), changes.init_times(8)), ValueError,
                     "is a different initialisation; make the module again and convert its settings"),
    "one name": (lambda: rescale(*pair(), changes.gain(8), of="weight"), ValueError, "pass a list of the names"),
    "unscale what": (lambda: unscale_parameters("model"), TypeError, "module='model' is not a torch.nn.Module"),
    "unscale with a class": (lambda: unscale_parameters(scale_parameters(layer(), 2), optim.Adam), TypeError,
                             "is not a torch.optim.Optimizer"),
}  # fmt: skip


def pair():
    module = layer()
    return module, adam(module)


@pytest.mark.parametrize("call, error, words", ERRORS.values(), ids=ERRORS)
def test_a_wrong_call_has_a_clear_error(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


DEPRECATED = {
    "k": (lambda: list(scale_parameters(layer(), k=8).state_dict()),
          lambda: list(scale_parameters(layer(), weight=8).state_dict()), "use weight"),
    "fold_parameters": (lambda: list(scaleinv.fold_parameters(scale_parameters(layer(), 8)).state_dict()),
                        lambda: ["weight", "bias"], "use unscale_parameters"),
    "start_times": (lambda: changes.start_times(8), lambda: changes.init_times(8), "use changes.init_times"),
}  # fmt: skip


@pytest.mark.parametrize("old, new, words", DEPRECATED.values(), ids=DEPRECATED)
def test_an_old_name_still_works_and_names_the_new_one(old, new, words):
    with pytest.warns(DeprecationWarning, match=words) as warned:
        result = old()
    assert [warning.filename for warning in warned] == [__file__]  # where the old name is used
    with warnings.catch_warnings(action="error"):
        assert result == new()


def test_a_state_dict_holds_the_scale_as_a_tensor():
    module = scale_parameters(layer(), 8)
    state = module.state_dict()
    assert state["scale_of_weight"].item() == 8.0 and state["scale_of_weight"].ndim == 0
    other = scale_parameters(layer(), 2)
    other.load_state_dict(state)
    assert torch.equal(other.weight, module.weight)
    assert parameter_scales(other) == {"weight": 8, "bias": 8}


def test_a_change_of_ones_own_is_applied():
    module, optimizer = pair()
    before = module.weight.detach().clone()
    rescale(module, optimizer, Change("stored half as large", weight=0.5), of=["weight"])
    assert torch.equal(module.weight, before / 2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5e-3, 1e-3]
