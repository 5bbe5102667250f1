"""Units, conversion and measurement where the model is on the device."""

import pytest
import torch

import scaleinv
from scaleinv import measure
from tests.library.device.training import KINDS, all_on, batches, network, optimizer_of, step, trained


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_rescaled_midway_goes_on_bit_for_bit(device, kind):
    losses = []
    for weight, loss in [(1, 1.0), (8, 4.0)]:
        model = network(device)
        optimizer = optimizer_of(model, kind)
        values = [step(model, optimizer, batch) for batch in batches(device, 3)]
        scaleinv.rescale(model, optimizer, weight=weight, loss=loss)
        values += [step(model, optimizer, batch, loss) for batch in batches(device, 6)[3:]]
        losses.append(torch.stack(values))
    assert set(scaleinv.parameter_scales(model).values()) == {8.0}
    assert all_on(device, *model.parameters(), *(p.grad for p in model.parameters()))
    assert torch.equal(*(x.cpu() for x in losses))


def devices_of(optimizer):
    return [(name, x.device.type) for state in optimizer.state.values() for name, x in state.items()]


def test_state_and_learning_rate_stay_where_they_are(device):
    model, optimizer = trained(device, "capturable")
    lr, before = optimizer.param_groups[0]["lr"], devices_of(optimizer)
    assert ("step", device.type) in before
    scaleinv.rescale(model, optimizer, weight=8)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.08)
    assert devices_of(optimizer) == before


def test_parameters_are_scaled_and_read_in_place(device):
    model = network(device)
    before = scaleinv.effective_parameters(model)
    scaleinv.scale_parameters(model, 8)
    assert all_on(device, *scaleinv.effective_parameters(model).values())
    assert all(torch.equal(before[name], x) for name, x in scaleinv.effective_parameters(model).items())
    saved = {name: x.cpu() for name, x in model.state_dict().items()}
    other = scaleinv.scale_parameters(network(device, seed=1), 2)
    other.load_state_dict({name: x.to(device) for name, x in saved.items()})
    assert all(torch.equal(before[name], x) for name, x in scaleinv.effective_parameters(other).items())


def test_settings_on_the_device_are_converted_there(device):
    settings = {"lr": torch.tensor(1e-3, device=device), "eps": 1e-8}
    converted = scaleinv.convert(torch.optim.AdamW, settings, weight=8)
    assert converted["lr"].device.type == device.type
    assert converted["lr"].item() == pytest.approx(8e-3)
    assert settings["lr"].item() == pytest.approx(1e-3)


def test_measures_are_those_of_the_cpu(device):
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(50, 40, generator=generator) + 1 for _ in range(2))
    for function in (measure.signal_to_noise, measure.autocorrelation):
        assert function(one.to(device)) == function(one)
    for function in (measure.relative_distance, measure.relative_change, measure.ulp_distance):
        assert function(one.to(device), other.to(device)) == function(one, other)
        assert function([one.to(device)], [other]) == function([one], [other])  # of two devices


def test_another_optimizer_begins_where_this_one_is(device):
    lrs = []
    for place in (device, torch.device("cpu")):
        model, optimizer = trained(place)
        switch = scaleinv.switch_optimizer(optimizer, torch.optim.SGD)
        lrs.append([group["lr"] for group in switch.groups])
        torch.optim.SGD(switch.groups).step()
        assert all_on(place, *model.parameters())
    assert lrs[0] == pytest.approx(lrs[1], rel=1e-3)
