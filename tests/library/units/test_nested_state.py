"""State in lists, dicts and objects is converted as well."""

import pytest
import torch

from scaleinv import infer_units, rescale
from scaleinv.units import G


class Average:
    def __init__(self):
        self.mean, self.side, self.norm = None, "left", 0.0


class Nested(torch.optim.Optimizer):
    """Adam's step from averages in a list, a dict and an object."""

    def __init__(self, params, lr=0.01, eps=1e-8):
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["squares"], state["average"] = [torch.zeros_like(p), None], Average()
                    state["average"].mean = torch.zeros_like(p)
                    state["sums"] = {"square": 0.0}
                g, average = p.grad, state["average"]
                state["squares"][0].lerp_(g * g, 0.1)
                average.mean.lerp_(g, 0.1)
                average.norm += 0.1 * (g.norm().item() - average.norm)
                state["sums"]["square"] += g.square().sum().item()
                size = average.norm + state["sums"]["square"] ** 0.5
                p -= group["lr"] * (average.mean / (state["squares"][0].sqrt() + group["eps"]) + g / size)


def trained(steps, at=None, weight=8.0, units=None):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).double()
    optimizer = Nested(model.parameters())
    x = torch.randn(steps, 4, 3, dtype=torch.float64)
    for step in range(steps):
        if step == at:
            rescale(model, optimizer, weight=weight, units=units)
        optimizer.zero_grad()
        (model(x[step]) - 1).square().mean().backward()
        optimizer.step()
    return model(x[0]).detach(), optimizer


def test_units_of_nested_state_are_measured():
    units = infer_units(Nested)
    assert units.verdict == "bitwise" and units.midway == ""
    assert units.state == {"squares": G**2, "average.mean": G, "average.norm": G, "sums.square": G**2}


@pytest.mark.parametrize("weight", [8.0, 2.0**-7])
def test_a_training_continues_bit_for_bit(weight):
    units = infer_units(Nested)
    plain, changed = trained(10)[0], trained(10, at=5, weight=weight, units=units)[0]
    assert torch.equal(plain, changed)


def test_what_has_no_unit_is_refused_and_nothing_changes():
    units = infer_units(Nested)
    model = torch.nn.Linear(3, 2)
    optimizer = Nested(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    state = optimizer.state[model.weight]
    state["squares"].append({"other": torch.ones(2)})
    before = model.weight.detach().clone(), state["average"].norm
    with pytest.raises(ValueError, match="'squares.other' of Nested has no known unit"):
        rescale(model, optimizer, weight=8, units=units)
    assert torch.equal(model.weight, before[0]) and state["average"].norm == before[1]
    assert optimizer.param_groups[0]["lr"] == 0.01
