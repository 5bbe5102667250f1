"""With ``torch.set_default_device``, what the library makes for itself is where its other tensors are."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import scaleinv
from scaleinv import laws, optimizers
from scaleinv.book import data
from scaleinv.book.models import mlp
from tests.library.device.test_reports import checked_widths, sharpness_on
from tests.library.device.training import batches, step, trained

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def default(device):
    torch.set_default_device(device)
    yield
    torch.set_default_device(None)


def test_units_and_symmetries_are_measured():
    known = scaleinv.UNITS[torch.optim.AdamW].hyperparameters
    inferred = scaleinv.infer_units(torch.optim.AdamW, {"lr": 1e-3}).hyperparameters
    assert all(inferred[name] == known[name] for name in ("lr", "eps", "weight_decay"))
    assert scaleinv.symmetries_of(torch.optim.Adam).scales == "entry"


def test_the_books_data_and_models_are_the_same_ones():
    there, here = (list(data.batches(2, 8, on=CPU)) for _ in range(2))
    torch.set_default_device(None)
    expected = list(data.batches(2, 8, on=CPU))
    for pairs in (there, here):
        assert all(torch.equal(a, b) for one, other in zip(pairs, expected) for a, b in zip(one, other))
    start = torch.nn.utils.parameters_to_vector(mlp().parameters())
    torch.set_default_device("meta")
    assert torch.equal(torch.nn.utils.parameters_to_vector(mlp().parameters()), start)


@pytest.mark.parametrize("on_the_cpu", [False, True])
def test_a_model_is_audited_recorded_and_rescaled(device, on_the_cpu):
    place = CPU if on_the_cpu else device
    model, optimizer = trained(place)
    model.long = torch.nn.Parameter(torch.ones(300, 300, device=place))  # for which the recorder has another way
    optimizer.add_param_group({"params": [model.long]})
    with scaleinv.Recorder(model, optimizer) as recorder:
        for batch in batches(place, 2):
            model.long.grad = torch.ones(300, 300, device=place)
            step(model, optimizer, batch)
    assert recorder.frame()["update_rms"].notna().all()
    assert len(scaleinv.audit(model, optimizer).frame()) == 5
    scaleinv.rescale(model, optimizer, weight=8)
    assert scaleinv.parameter_scales(model)["long"] == 8
    assert model.state_dict()["scale_of_long"].device == CPU
    model.load_state_dict(model.state_dict())


@pytest.mark.parametrize("on_the_cpu", [False, True])
def test_gradients_are_compared_and_optimizers_switched(device, on_the_cpu):
    place = CPU if on_the_cpu else device
    model, optimizer = trained(place)
    inputs, labels = batches(place, 1)[0]

    def mean():
        return cross_entropy(model(inputs), labels)

    assert scaleinv.compare_gradients(mean, lambda: 2 * mean(), model).factor == 2
    new = torch.optim.SGD(scaleinv.switch_optimizer(optimizer, torch.optim.SGD).groups)
    new.step()


@pytest.mark.parametrize("on_the_cpu", [False, True])
def test_a_rule_steps(device, on_the_cpu):
    params = {"w": torch.ones(3, device=CPU if on_the_cpu else device)}
    optimizer = optimizers.nadam(lr=0.01)
    assert optimizer.hyperparameters["lr"].device == CPU
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert updates["w"].device == params["w"].device


def test_laws_are_computed_on_the_cpu():
    assert laws.largest_update(0.9, 0.999).device == CPU
    assert laws.largest_update_gradients(0.5, 0.25, 3).tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize("optimizer", [optimizers.adam, torch.optim.Adam])
def test_a_sweep_trains_where_its_batches_are_made(device, optimizer):
    made = []

    def batches_of(seed):
        drawn = [torch.rand(8, 64) for _ in range(4)]
        made.extend(x.device.type for x in drawn)
        return [(x, torch.arange(8)) for x in drawn]

    losses = scaleinv.sweep(mlp, optimizer, batches_of, {"lr": [0.001, 0.01]}, progress=False).losses
    assert set(made) == {device.type}
    assert losses.notnull().all()


def test_sharpness_and_widths_are_measured(device):
    assert sharpness_on(device) == pytest.approx(sharpness_on(CPU), rel=1e-2)
    assert len(checked_widths(CPU)) == len(checked_widths(device)) > 0
