"""The recorder, the audit and the comparison of gradients where the model is on the device."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import scaleinv
from scaleinv._gradients.rehearsal import _multiplies_in_tf32
from scaleinv.book.models import mlp
from tests.library.device.training import KINDS, batches, network, optimizer_of, step, trained

CPU = torch.device("cpu")
CLOSE = {"rel": 2e-3, "abs": 1e-9}  # a matrix product's sums are in another order on another device


def recorded(device, kind):
    model = network(device)
    optimizer = optimizer_of(model, kind)
    with scaleinv.Recorder(model, optimizer, every=2) as recorder:
        for batch in batches(device):
            step(model, optimizer, batch)
    return recorder.frame()


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorder_records_what_it_does_on_the_cpu(device, kind):
    frame, expected = recorded(device, kind), recorded(CPU, kind)
    assert list(frame["parameter"]) == list(expected["parameter"])
    for column in ("parameter_rms", "gradient_rms", "update_rms", "lr"):
        assert frame[column].tolist() == pytest.approx(expected[column].tolist(), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorder_makes_no_step_wait(device, kind, waited):
    model = network(device)
    optimizer = optimizer_of(model, kind)
    pairs = batches(device)

    def steps():
        for batch in pairs:
            step(model, optimizer, batch)

    steps()  # makes the state
    alone = waited(steps)
    with scaleinv.Recorder(model, optimizer):
        assert waited(steps) == alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradients", [True, False])
def test_an_audit_shows_what_it_does_on_the_cpu(device, kind, gradients):
    frames = []
    for place in (device, CPU):
        model, optimizer = trained(place, kind)
        if not gradients:
            optimizer.zero_grad()
        before = [copy.deepcopy(x) for x in (model.state_dict(), optimizer.state_dict())]
        frames.append(scaleinv.audit(model, optimizer, max_norm=1.0).frame())
        assert same(before, [model.state_dict(), optimizer.state_dict()])
    for column in frames[0].columns:
        one, other = (frame[column].tolist() for frame in frames)
        assert one == (pytest.approx(other, nan_ok=True, **CLOSE) if is_numeric(other) else other), column


def is_numeric(values):
    return all(isinstance(x, float) for x in values)


def same(a, b):
    """Whether nested states are equal."""
    if isinstance(a, torch.Tensor):
        return a.device == b.device and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_an_audit_of_someone_elses_optimizer_tries_its_step_there(device):
    class Stranger(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})
            self.count = torch.zeros((), device=device)

        @torch.no_grad()
        def step(self, closure=None):
            self.count += 1
            for p in self.param_groups[0]["params"]:
                p.add_(torch.randn(p.shape, device=p.device).sign() + 0 * p.grad, alpha=-self.param_groups[0]["lr"])

    model, _ = trained(device)
    optimizer = Stranger(model.parameters(), lr=0.01)
    torch.manual_seed(0)
    expected = torch.rand(3, device=device)
    torch.manual_seed(0)
    frame = scaleinv.audit(model, optimizer).frame()
    assert torch.equal(torch.rand(3, device=device), expected)
    assert (frame["measured"] * frame["rms"]).tolist() == pytest.approx([0.01] * 4, rel=1e-4)
    assert optimizer.count.item() == 0


def test_a_loss_scale_on_the_device_is_seen(device):
    model, optimizer = trained(device)
    plain = scaleinv.audit(model, optimizer).frame()
    for p in model.parameters():
        p.grad *= 1024
    scaled = scaleinv.audit(model, optimizer, scaler=torch.tensor(1024.0, device=device)).frame()
    for column in ("gradient_rms", "measured", "predicted", "below_eps"):
        one, other = scaled[column].tolist(), plain[column].tolist()
        assert one == (pytest.approx(other, nan_ok=True, rel=1e-4) if is_numeric(other) else other), column


def test_gradients_of_the_device_are_compared(device):
    model, optimizer = trained(device)
    inputs, labels = batches(device, 1)[0]

    def mean():
        cross_entropy(model(inputs), labels).backward()

    def accumulated():
        for x, y in zip(inputs.chunk(4), labels.chunk(4)):
            cross_entropy(model(x), y).backward()

    result = scaleinv.compare_gradients(mean, accumulated, model, optimizer=optimizer)
    assert (result.kind, result.factor) == ("factor", 4.0)


def test_random_numbers_of_the_device_are_the_same_in_both_steps_and_put_back(device):
    model, _ = trained(device)
    model = nn.Sequential(nn.Dropout(0.5), model)
    inputs, labels = batches(device, 1)[0]

    def drop():
        cross_entropy(model(inputs), labels).backward()

    torch.manual_seed(0)
    expected = torch.rand(3, device=device)
    torch.manual_seed(0)
    result = scaleinv.compare_gradients(drop, lambda: drop(), model)
    assert result.kind == "equal"
    assert torch.equal(torch.rand(3, device=device), expected)


def sharpness_on(place):
    model, optimizer = trained(place)
    inputs, labels = batches(place, 1)[0]
    return scaleinv.sharpness(model, lambda: cross_entropy(model(inputs), labels), optimizer).value


def test_sharpness_is_that_of_the_cpu(device):
    assert sharpness_on(device) == pytest.approx(sharpness_on(CPU), rel=1e-2)


def checked_widths(place):
    (inputs, labels), *_ = batches(place, 1)

    def make(n, seed):
        model = mlp(n, seed=seed).to(place)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        return model, optimizer, lambda: cross_entropy(model(inputs), labels)

    return scaleinv.coordinate_check(make, [8, 16, 32], seeds=range(2)).frame()


def test_widths_are_compared_as_on_the_cpu(device):
    one, other = checked_widths(device), checked_widths(CPU)
    assert one["slope"].tolist() == pytest.approx(other["slope"].tolist(), abs=0.02)


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_the_format_of_products_is_known_by_whichever_name_it_was_set(device, precision):
    model, _ = trained(device)
    inputs, labels = batches(device, 1)[0]
    torch.backends.fp32_precision = precision  # after which torch.get_float32_matmul_precision() raises
    try:
        coarse = _multiplies_in_tf32()
        result = scaleinv.compare_gradients(*2 * [lambda: cross_entropy(model(inputs), labels)], model)
    finally:
        torch.backends.fp32_precision = "none"
    assert coarse == (precision == "tf32")
    assert (result.tolerance > 0.01) == (coarse and device.type == "cuda")
