"""audit against hand computation and real steps, planted faults, and what it leaves behind: nothing."""

import copy
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from rich.cells import cell_len
from rich.console import Console
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scaleinv import Audit, Recorder, audit, infer_units, scale_parameters
from scaleinv._audit import findings
from scaleinv.book import data, models
from scaleinv._cli import main
from scaleinv.laws import equilibrium_rms
from scaleinv._audit.saved import audit_saved
from scaleinv._audit.measured_step import next_step
from scaleinv.units import ONE, L, W

pytestmark = pytest.mark.usefixtures("one_thread")


def rms(tensor):
    return tensor.detach().double().square().mean().sqrt().item()


def gradients(model, seed=0):
    model.zero_grad()
    if isinstance(model, models.GPT):
        inputs, targets = next(data.text_batches(1, 4, seed=seed, on="cpu"))
    else:
        inputs, targets = next(data.batches(1, seed=seed, dtype=next(model.parameters()).dtype, on="cpu"))
    functional.cross_entropy(model(inputs), targets).backward()


def trained(model, optimizer, steps=3):
    for step in range(steps):
        gradients(model, step)
        for each in optimizer if isinstance(optimizer, list) else [optimizer]:
            each.step()
    return model, optimizer


def rows(*args, **options):
    return {row.parameter: row for row in audit(*args, **options).rows}


def muon_and_adamw(model):
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "blocks" in name]
    outer = [p for name, p in model.named_parameters() if p.ndim != 2 or "blocks" not in name]
    return [optim.Muon(inner, lr=0.02), optim.AdamW(outer, lr=1e-3)]


MAKE = {
    "Adam": lambda p: optim.Adam(p, 1e-3, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, 1e-3, weight_decay=0.1),
    "amsgrad": lambda p: optim.AdamW(p, torch.tensor(1e-3), amsgrad=True, foreach=False),
    "SGD": lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    "Nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, 1e-2, lr_decay=0.1),
    "Adafactor": lambda p: optim.Adafactor(p, 1e-2),
    "Adamax": lambda p: optim.Adamax(p),
    "NAdam": lambda p: optim.NAdam(p),
    "RAdam": lambda p: optim.RAdam(p),
    "Rprop": lambda p: optim.Rprop(p, 1e-3),
    "Adadelta": lambda p: optim.Adadelta(p),
    "ASGD": lambda p: optim.ASGD(p, 0.1),
}


# Measured steps.


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_the_step_that_gradients_make_is_the_step_that_is_made(make, steps):
    model = models.mlp(8)
    optimizer = make(model.parameters())
    trained(model, optimizer, steps)
    gradients(model, 9)
    found = rows(model, optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        row = found[name]
        assert row.source == "gradients"
        assert row.rms == pytest.approx(rms(before[name]), rel=1e-6)
        assert row.gradient_rms == pytest.approx(rms(p.grad), rel=1e-6)
        assert row.measured == pytest.approx(rms(p - before[name]) / rms(before[name]), rel=1e-4)
        assert row.change == pytest.approx(rms(p - before[name]), rel=1e-4)


def test_the_step_of_a_gpt_under_muon_and_adamw():
    model = models.gpt(16, 1)
    optimizers = muon_and_adamw(model)
    trained(model, optimizers, 2)
    gradients(model)
    found = audit(model, optimizers)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for optimizer in optimizers:
        optimizer.step()
    assert {row.optimizer for row in found.rows} == {"Muon", "AdamW"} and {row.unit for row in found.rows} == {W}
    for row, (name, p) in zip(found.rows, model.named_parameters(), strict=True):
        assert row.parameter == name
        assert row.change == pytest.approx(rms(p - before[name]), rel=1e-3)


def test_clipping_is_tried_along_whether_it_was_done_or_not():
    model = models.mlp(8)
    optimizer = optim.SGD(model.parameters(), 0.1)
    gradients(model)
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    free, loose, tight = (audit(model, optimizer, max_norm=limit) for limit in (None, 2 * norm, norm / 4))
    assert free.gradient_norm == pytest.approx(norm, rel=1e-6) and not free.clipped and not loose.clipped
    assert tight.clipped and "clipping sets the step" in tight.findings[0].text
    nn.utils.clip_grad_norm_(model.parameters(), norm / 4)
    done = audit(model, optimizer, max_norm=norm / 4)
    assert done.clipped
    for a, b, c in zip(free.rows, tight.rows, done.rows):
        assert b.measured == pytest.approx(a.measured / 4, rel=1e-4) == pytest.approx(c.measured, rel=1e-4)
        assert b.predicted == pytest.approx(a.predicted / 4, rel=1e-4)


def test_a_recorder_is_believed():
    model = models.mlp(8)
    optimizer = optim.AdamW(model.parameters(), 1e-2)
    with Recorder(model, optimizer) as recorder:
        trained(model, optimizer, 13)
    changes = recorder.frame().groupby("parameter")["update_rms"].apply(lambda all: all.iloc[-10:].median())
    for name, row in rows(model, optimizer, recorder=recorder).items():
        assert row.source == "recorder"
        assert row.measured == pytest.approx(changes[name] / rms(model.get_parameter(name)), rel=1e-5)
    assert rows(model, optimizer, recorder=[recorder])["1.bias"].source == "recorder"


def test_without_gradients_adams_state_tells_its_last_step():
    for name in ("Adam", "AdamW", "amsgrad"):
        model = models.mlp(8)
        optimizer = MAKE[name](model.parameters())
        trained(model, optimizer, 3)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        gradients(model, 5)
        optimizer.step()
        optimizer.zero_grad()
        for parameter, row in rows(model, optimizer).items():
            change = rms(model.get_parameter(parameter) - before[parameter])
            assert row.source == "state" and row.change == pytest.approx(change, rel=1e-3)


@pytest.mark.parametrize("name", ["NAdam", "RAdam", "RMSprop", "SGD"])
def test_other_states_do_not_tell_the_last_step(name):
    model = models.mlp(8)
    optimizer = MAKE[name](model.parameters())
    trained(model, optimizer, 3)[1].zero_grad()
    for row in audit(model, optimizer).rows:
        assert math.isnan(row.measured) and row.source == ""


# Predicted steps, by hand.


def test_predicted_steps_by_hand():
    model = models.mlp(8)
    w = rms(model[1].weight)

    def predicted(optimizer, steps=0, grad=False):
        fresh = copy.deepcopy(model)
        optimizer = optimizer(fresh.parameters())
        trained(fresh, optimizer, steps)
        fresh.zero_grad()
        if grad:
            gradients(fresh)
        row = rows(fresh, optimizer)["1.weight"]
        return row.predicted * row.rms / (rms(fresh[1].weight.grad) if grad else 1)

    assert predicted(lambda p: optim.Adam(p, 2e-3)) == pytest.approx(2e-3)
    assert predicted(lambda p: optim.AdamW(p, 2e-3, betas=(0.9, 0.999)), 4) == pytest.approx(2e-3 / 19**0.5, rel=0.02)
    assert predicted(lambda p: optim.AdamW(p, 2e-3, betas=(0.0, 0.999)), 4) == pytest.approx(2e-3, rel=0.02)
    assert predicted(lambda p: optim.Adagrad(p, 0.1), 3) == pytest.approx(0.05)
    assert predicted(lambda p: optim.Adagrad(p, 0.1, lr_decay=1.0), 3) == pytest.approx(0.0125)
    assert predicted(lambda p: optim.RMSprop(p, 0.1, alpha=0.99)) == pytest.approx(1.0)
    assert predicted(lambda p: optim.RMSprop(p, 0.1, momentum=0.6), 2) == pytest.approx(0.125)
    assert predicted(lambda p: optim.Adafactor(p, 1e-2)) == pytest.approx(1e-2 * w, rel=1e-5)
    assert predicted(lambda p: optim.Adafactor(p, 1e-2, eps=(None, 10 * w))) == pytest.approx(0.1 * w, rel=1e-5)
    assert predicted(lambda p: optim.SGD(p, 0.1), grad=True) == pytest.approx(0.1, rel=1e-5)
    assert predicted(lambda p: optim.SGD(p, 0.1, momentum=0.6), 2, grad=True) == pytest.approx(0.125, rel=1e-5)
    assert predicted(lambda p: optim.SGD(p, 0.1, momentum=0.6, dampening=0.6), 2, True) == pytest.approx(0.05, rel=1e-5)
    assert math.isnan(predicted(lambda p: optim.SGD(p, 0.1)))
    assert math.isnan(predicted(lambda p: optim.Adadelta(p)))


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_sgds_law_holds_under_noise(momentum):
    p = nn.Parameter(torch.ones(20_000))
    model = nn.Module()
    model.p = p
    optimizer = optim.SGD([p], 1e-3, **momentum)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    p.grad = torch.randn(p.shape, generator=generator)
    (row,) = audit(model, optimizer).rows
    assert row.measured == pytest.approx(row.predicted, rel=0.03)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (40, 40)])
def test_muons_law_holds_to_a_third(adjust, shape):
    model = nn.Linear(*shape, bias=False)
    optimizer = optim.Muon(model.parameters(), 0.01, weight_decay=0, adjust_lr_fn=adjust)
    model.weight.grad = torch.randn(model.weight.shape, generator=torch.Generator().manual_seed(0))
    (row,) = audit(model, optimizer).rows
    assert row.measured == pytest.approx(row.predicted, rel=0.33)


def test_large_matrices_of_muon_have_the_law_only():
    model = nn.Linear(300, 300, bias=False)
    model.weight.grad = torch.ones(300, 300)
    found = audit(model, optim.Muon(model.parameters()))
    assert math.isnan(found.rows[0].measured) and found.rows[0].predicted > 0
    assert "Not measured: 1 of 1; a Recorder" in " ".join(str(found).split())


# Decay, eps, units.


def test_decays_share_and_equilibrium_by_hand():
    model = models.mlp(8)
    gradients(model)
    row = rows(model, optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1))["1.weight"]
    w, g = rms(model[1].weight), rms(model[1].weight.grad)
    assert row.decay == pytest.approx(1e-3 * 0.1 * w / (row.measured * w), rel=1e-5)
    assert row.decay_rate == pytest.approx(1e-4)
    assert row.equilibrium == pytest.approx(math.sqrt(1e-3 / (2 * 0.1)), rel=1e-3)
    row = rows(model, optim.Adam(model.parameters(), 1e-3, weight_decay=0.1))["1.weight"]
    assert row.decay == pytest.approx(0.1 * w / g, rel=1e-5)
    assert math.isnan(row.equilibrium) and math.isnan(row.decay_rate)
    decoupled = optim.Adam(model.parameters(), 1e-3, weight_decay=0.1, decoupled_weight_decay=True)
    assert rows(model, decoupled)["1.weight"].equilibrium == pytest.approx(math.sqrt(0.005), rel=1e-3)
    row = rows(model, optim.Adafactor(model.parameters(), 1e-2, weight_decay=0.1))["1.weight"]
    assert row.decay == pytest.approx(1e-3 / row.measured, rel=1e-5)


@pytest.mark.parametrize("cls", [optim.Adam, optim.RMSprop, optim.Adagrad, optim.Adamax, optim.Adadelta])
def test_the_share_below_eps_is_of_what_the_optimizer_divides_by(cls):
    p = nn.Parameter(torch.ones(1000))
    model = nn.Module()
    model.p = p
    p.grad = torch.logspace(-6, 2, 1000)
    p.grad[:100] = 0
    power = 2 if cls is optim.Adadelta else 1
    optimizer = cls([p], eps=1e-3**power)
    (row,) = audit(model, optimizer).rows
    assert row.without_gradient == 0.1
    assert row.below_eps == pytest.approx(((0 < p.grad) & (p.grad < 1e-3)).float().mean().item())
    for _ in range(5):
        optimizer.step()
    (row,) = audit(model, optimizer).rows
    scale = {
        optim.Adam: lambda g: g,
        optim.RMSprop: lambda g: g * math.sqrt(1 - 0.99**5),
        optim.Adagrad: lambda g: g * math.sqrt(5),
        optim.Adamax: lambda g: g + 1e-3,  # eps is in it
        optim.Adadelta: lambda g: g * math.sqrt(1 - 0.9**5),
    }[cls](p.grad)
    assert row.below_eps == pytest.approx(((0 < scale) & (scale < 1e-3)).float().mean().item(), abs=2e-3)


def test_the_share_below_eps_is_of_the_gradient_that_clipping_leaves():
    model = nn.Linear(1, 1000, bias=False)
    model.weight.grad = torch.logspace(-6, 2, 1000)[:, None]
    norm = model.weight.grad.norm().item()
    shares = [audit(model, optim.Adam(model.parameters(), eps=e), max_norm=m).rows[0].below_eps
              for e, m in ((1e-3, None), (1e-3, norm / 100), (1e-1, None))]  # fmt: skip
    assert shares[0] < shares[1] == pytest.approx(shares[2], abs=2e-3)


def test_units_from_the_table_inferred_and_not_known():
    class Mine(optim.SGD):
        pass

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


# Parameters of all kinds.


def test_groups_tied_frozen_left_out_and_others():
    model = models.gpt(16, 1)
    model.head.weight = model.token.weight
    model.position.weight.requires_grad_(False)
    held = [p for name, p in model.named_parameters() if name not in ("norm.bias", "position.weight")]
    stranger = nn.Parameter(torch.ones(3))
    optimizer = optim.AdamW(
        [
            {"params": [p for p in held if p.ndim > 1], "lr": 1e-2},
            {"params": [p for p in held if p.ndim < 2] + [stranger]},
        ]
    )
    found = audit(model, optimizer)
    row = {row.parameter: row for row in found.rows}
    assert "head.weight" not in row and row["token.weight"].names == ("token.weight", "head.weight")
    assert (row["token.weight"].group, row["token.weight"].lr) == (0, 1e-2)
    assert (row["norm.weight"].group, row["norm.weight"].lr) == (1, 1e-3)
    assert row["position.weight"].status == "frozen" and math.isnan(row["position.weight"].lr)
    assert row["norm.bias"].status == "left out"
    texts = [finding.text for finding in found.findings]
    assert any("no optimizer holds norm.bias" in text for text in texts)
    assert any("holds 1 tensor that the model does not have" in text for text in texts)
    assert "token.weight (= head.weight)" in str(found) and "frozen" in str(found)


@pytest.mark.parametrize("name, power", [("AdamW", 1), ("SGD", 2), ("Adafactor", 0)])
def test_scaled_parameters_show_as_the_model_sees_them(name, power):
    plain, scaled = models.mlp(8), scale_parameters(models.mlp(8), 8.0)
    found = []
    for model, k in ((plain, 1.0), (scaled, 8.0)):
        optimizer = MAKE[name](model.parameters())
        gradients(model)
        group = optimizer.param_groups[0]
        group["lr"] *= k**power
        group["weight_decay"] *= {"AdamW": 1 / k, "SGD": 1 / k**2, "Adafactor": 1}[name]
        if name == "AdamW":
            group["eps"] /= k
        if name == "Adafactor":
            group["eps"] = (None, group["eps"][1] * k)
        found.append({row.parameter: row for row in audit(model, optimizer).rows})
    assert found[0].keys() == found[1].keys()
    for one, other in ((found[0][key], found[1][key]) for key in found[0]):
        assert other.weight == 8 and one.layer == other.layer == "Linear"
        for column in (
            "rms",
            "lr",
            "gradient_rms",
            "predicted",
            "measured",
            "change",
            "below_eps",
            "decay",
            "equilibrium",
        ):
            assert getattr(one, column) == pytest.approx(getattr(other, column), rel=1e-6, nan_ok=True), column


def test_an_lr_without_unit_is_not_converted():
    plain, scaled = models.mlp(8), scale_parameters(models.mlp(8), {"1.weight": 8.0})
    assert rows(plain, optim.RAdam(plain.parameters(), 1e-2))["1.weight"].lr == 1e-2
    found = rows(scaled, optim.RAdam(scaled.parameters(), 1e-2))
    assert math.isnan(found["1.weight"].lr) and found["1.bias"].lr == 1e-2


def test_other_parametrizations_are_evaluated_and_left_as_they_are():
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 3)), parametrizations.spectral_norm(nn.Linear(3, 2))
    )
    before = copy.deepcopy(model.state_dict())
    found = rows(model, optim.Adam(model.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert found["0.parametrizations.weight.original1"].rms == pytest.approx(rms(model[0].weight), rel=1e-6)
    assert found["1.parametrizations.weight.original"].rms == pytest.approx(rms(model.eval()[1].weight), rel=1e-5)
    assert found["1.parametrizations.weight.original"].note == "a part of weight, through _SpectralNorm"
    assert {row.layer for row in found.values()} == {"Linear"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_several_dtypes(dtype):
    model = models.mlp(8).to(dtype)
    optimizer = optim.SGD(model.parameters(), 1.0)
    gradients(model)
    found = rows(model, optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        assert found[name].dtype == str(dtype)[6:]
        assert found[name].measured == pytest.approx(rms(p.double() - before[name]) / rms(before[name]), rel=1e-2)


def test_sparse_gradients_complex_parameters_scalars_and_empty_ones():
    model = nn.ParameterDict(
        {
            "complex": torch.full((5,), 3 + 4j, dtype=torch.complex64),
            "scalar": torch.tensor(-7.0),
            "empty": torch.zeros(0, 4),
            "transposed": torch.arange(6.0).reshape(2, 3).T,
        }
    )
    optimizer = optim.Adam(model.parameters(), 0.5)
    for p in model.values():
        p.grad = torch.ones_like(p)
    found = rows(model, optimizer)
    assert [found[name].rms for name in ("complex", "scalar", "empty")] == pytest.approx([5, 7, 0])
    assert found["scalar"].change == pytest.approx(0.5) and found["transposed"].change == pytest.approx(0.5)

    table = nn.Embedding(10, 3, sparse=True)
    for optimizer in (optim.SparseAdam(table.parameters(), 0.1), optim.SGD(table.parameters(), 0.1)):
        table.zero_grad()
        table(torch.tensor([4, 4, 7])).sum().backward()
        before = table.weight.detach().clone()
        (row,) = audit(table, optimizer).rows
        optimizer.step()
        assert row.gradient_rms == pytest.approx(math.sqrt((4 + 1) * 3 / 30))
        assert row.change == pytest.approx(rms(table.weight.detach() - before), rel=1e-5)
        assert row.without_gradient == pytest.approx(0.8) or type(optimizer) is optim.SGD


# Findings.


def first(model, optimizer, **options):
    found = audit(model, optimizer, **options)
    return found.findings[0].text


def adamw(model, **options):
    return optim.AdamW(model.parameters(), **{"lr": 1e-3} | options)


def test_a_healthy_network_has_no_finding():
    model = models.mlp()
    assert audit(model, adamw(model)).findings == []
    gradients(model)
    assert audit(model, adamw(model), max_norm=100).findings == []


def test_a_zero_bias_is_the_first_finding():
    model = models.mlp()
    nn.init.zeros_(model[3].bias)
    said = "3.bias starts at zero: its relative step is undefined, its absolute step is lr = 0.001."
    assert first(model, adamw(model)) == said
    assert math.isnan(rows(model, adamw(model))["3.bias"].predicted)


def test_a_small_embedding_is_the_first_finding():
    model = models.gpt(16, 1)
    with torch.no_grad():
        model.token.weight /= 100
    assert re.match(r"token.weight moves 5\d\d % a step, the median of the other tensors \d", first(model, adamw(model)))


def test_a_large_eps_is_the_first_finding():
    model = models.mlp()
    gradients(model)
    assert re.match(r".* % of \S+'s coordinates are below eps", first(model, adamw(model, eps=1.0)))


def test_learning_rates_of_different_units_are_the_first_finding():
    model = models.mlp()
    optimizers = [optim.SGD(model[1].parameters(), 0.1), optim.Adam(model[3].parameters(), 1e-3)]
    for gradient in (False, True):
        if gradient:
            gradients(model)
        said = first(model, optimizers)
        assert said.startswith("lr has different units in these groups: SGD (L⁻¹ W²) and Adam (W).")


def test_strong_decay_is_the_first_finding():
    model = models.mlp()
    said = first(model, adamw(model, lr=1e-2, weight_decay=50.0))
    assert said.startswith("weight decay is ") and "removes 50 % of the tensor at each step" in said
    assert "; under noise its RMS goes from 0.1 to 0.0" in said
    gradients(model)
    coupled = first(model, optim.Adam(model.parameters(), weight_decay=50.0))
    assert re.match(r"weight decay is \d+ % of \S+'s gradient\. \d other tensors are affected too\.", coupled)
    model.zero_grad()
    gradients(model)
    assert first(model, adamw(model, lr=1e-2, weight_decay=50.0)).startswith("weight decay is ")


def test_steps_lost_to_rounding_are_the_first_finding():
    model = models.mlp().to(torch.bfloat16)
    assert "bfloat16 loses most of a step to rounding" in first(model, adamw(model, lr=1e-5))
    model = models.mlp()
    assert audit(model, adamw(model, lr=1e-5)).findings == []


def test_what_is_not_finite_is_the_first_finding():
    model = models.mlp()
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    assert first(model, adamw(model)).startswith("1.weight contains NaN")


def test_a_parameter_without_gradient_and_one_with_none_yet():
    model = models.mlp()
    gradients(model)
    model[3].bias.grad = None
    assert first(model, adamw(model)).startswith("no gradient reaches 3.bias")


@pytest.mark.parametrize("numbers", [[3.0], [1.0, 5.0], [1.0, 2.0, 2.0, 7.0], [4.0, 1.0, 3.0, 9.0, 2.0]])
def test_the_median_of_the_rest(numbers):
    for i, number in enumerate(numbers):
        rest = numbers[:i] + numbers[i + 1 :]
        expected = np.median(rest) if rest else math.nan
        assert findings._median_without(number, sorted(numbers)) == pytest.approx(expected, nan_ok=True)


def test_tensors_that_move_far_less_and_all_that_move_far():
    model = models.mlp(depth=2)
    with torch.no_grad():
        model[3].weight *= 100
    text = first(model, adamw(model))
    assert re.match(r"3.weight moves 0.01 % a step, the median of the other matrices 1.\d %\.", text)
    model = models.mlp()
    assert first(model, adamw(model, lr=0.1)).startswith("a step changes the median tensor by ")


def test_zero_biases_do_not_hide_a_tensor_that_moves_unlike_the_rest():
    model = models.gpt(16, 8)
    with torch.no_grad():
        model.token.weight *= 20
    found = audit(model, adamw(model)).findings
    assert [finding.kind for finding in found] == ["moves_unlike_the_rest", "zero"]
    assert found[0].parameters == ("token.weight",) and found[0].size < len(found[1].parameters)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_bias_just_made_from_zero_has_no_scale_to_move_unlike(steps):
    def unlike(model):
        trained(model, optimizer := adamw(model), steps)
        return [f.parameters for f in audit(model, optimizer).findings if f.kind == "moves_unlike_the_rest"]

    model = models.mlp()
    for layer in (model[1], model[3]):
        nn.init.zeros_(layer.bias)
    assert unlike(model) == []
    model = models.mlp()
    with torch.no_grad():
        model[1].weight /= 1e4
    assert unlike(model)[0] == ("1.weight",)


def test_all_that_move_far_are_named():
    model = models.mlp()
    with torch.no_grad():
        model[3].weight *= 100
    (finding,) = audit(model, adamw(model, lr=0.1)).findings[:1]
    assert finding.kind == "all_move_far" and finding.parameters == ("1.weight", "1.bias", "3.bias")


def test_a_finding_says_its_kind_and_chapter_9_what_to_do_about_each():
    model = models.mlp().to(torch.bfloat16)
    assert audit(model, adamw(model, lr=1e-5)).findings[0].kind == "lost_to_rounding"
    page = (Path(__file__).parents[3] / "book" / "9_audit_your_model.ipynb").read_text()
    assert re.findall(r"\| `(\w+)` \| \w", page) and set(findings.KINDS) == set(re.findall(r'"\| `(\w+)` \|', page))


def test_findings_are_ranked():
    model = models.gpt(16, 1)
    gradients(model)
    found = audit(model, [optim.SGD(model.token.parameters(), 1.0), adamw(model.blocks)]).findings
    ranks = [(finding.severity, finding.size) for finding in found]
    assert ranks == sorted(ranks, reverse=True) and len(ranks) > 2


# What it gives.


def test_frame_summary_and_flat():
    model = models.gpt(16, 2)
    optimizers = muon_and_adamw(model)
    gradients(model)
    found = audit(model, optimizers)
    frame, summary, flat = found.frame(), found.summary(), found.flat()
    assert isinstance(found, Audit) and len(frame) == len(found.rows) == len(list(model.parameters()))
    assert frame.loc[0, "unit"] == "W"
    assert summary["layer"].tolist() == ["Embedding", "LayerNorm", "Linear"]
    assert summary["coordinates"].sum() == sum(p.numel() for p in model.parameters())
    linear = torch.cat([p.flatten() for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()])
    assert summary.loc[2, "rms"] == pytest.approx(rms(linear), rel=1e-6)
    assert summary.loc[2, "predicted"] == frame[frame["layer"] == "Linear"]["predicted"].median()
    assert all(type(value) is float and math.isfinite(value) for value in flat.values())
    assert flat["rms/token.weight"] == found.rows[0].rms
    assert "measured/norm.bias" not in flat and "rms/norm.bias" in flat


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_prints_in_any_width(width):
    model = models.gpt(16, 2)
    optimizers = muon_and_adamw(model)
    gradients(model)
    console = Console(file=io.StringIO(), width=width)
    console.print(audit(model, optimizers))
    text = console.file.getvalue()
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text and "nan" not in text and "None" not in text
    assert "blocks.0.norm1.bias" in text and "\x1b" not in text


def test_it_prints_as_text_and_shows_in_a_notebook():
    model = models.mlp()
    model.add_module("<odd>[red]", nn.Linear(2, 2))
    found = audit(model, adamw(model))
    text, page = str(found), found._repr_html_()
    assert "<odd>[red].weight" in text and repr(found) == text
    assert "&lt;odd&gt;[red].weight" in page and page.count("<tr>") == 2 + 1 + len(found.rows)


def test_in_a_notebook_it_is_shown_once(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *args: pytest.fail("displayed by rich besides"))
    model = models.mlp()
    assert "1.weight" in str(audit(model, adamw(model)))


# Bad input.


def test_bad_input_is_named():
    model = models.mlp()
    optimizer = adamw(model)
    cases = [
        (TypeError, "model=3", lambda: audit(3, optimizer)),
        (TypeError, "optimizer=3", lambda: audit(model, 3)),
        (TypeError, "recorder=3", lambda: audit(model, optimizer, recorder=3)),
        (TypeError, "units=3", lambda: audit(model, optimizer, units=3)),
        (ValueError, "max_norm=-1", lambda: audit(model, optimizer, max_norm=-1)),
        (ValueError, "holds none of the 4", lambda: audit(models.mlp(), optimizer)),
        (ValueError, "'1.weight' is held by two", lambda: audit(model, [optimizer, adamw(model)])),
        (ValueError, "'weight' has no numbers", lambda: audit(nn.LazyLinear(3), optimizer)),
        (ValueError, "'weight' has no numbers", lambda: audit(nn.Linear(3, 3, device="meta"), optimizer)),
    ]
    for error, said, call in cases:
        with pytest.raises(error, match=re.escape(said)):
            call()


# What it leaves behind.


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
    found = audit(model, optimizer, max_norm=0.1)
    str(found), found.flat()
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


def test_gradients_that_are_not_finite_are_the_first_finding():
    model = models.mlp(8)
    gradients(model)
    model[1].weight.grad[0, 0] = math.inf
    found = audit(model, adamw(model), max_norm=1.0)
    assert found.findings[0].text.startswith("1.weight has a gradient with NaN or infinity")
    assert all(math.isfinite(value) for value in found.flat().values()) and "nan" not in str(found)


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


# Sharded.


def sharded_model(mesh=None):
    model = models.mlp(33, depth=2)
    if mesh is not None:
        for name, p in list(model.named_parameters()):
            owner, _, attribute = name.rpartition(".")
            place = Replicate() if name == "3.bias" else Shard(p.ndim - 1)
            setattr(model.get_submodule(owner), attribute, nn.Parameter(distribute_tensor(p.detach(), mesh, [place])))
    return model


def sharded_rows(name, mesh=None):
    """The rows before, with and after gradients, as frames."""
    model = sharded_model(mesh)
    whole = {key: p.clone() for key, p in sharded_model().named_parameters()}
    optimizer = MAKE[name](model.parameters())
    frames = [audit(model, optimizer).frame()]
    for step in range(2):
        for key, p in model.named_parameters():
            g = torch.randn(whole[key].shape, generator=torch.Generator().manual_seed(step)) * 1e-3
            p.grad = g if mesh is None else distribute_tensor(g, mesh, p.placements)
        found = audit(model, optimizer, max_norm=1e-2)
        frames.append(found.frame().assign(norm=found.gradient_norm))
        optimizer.step()
    optimizer.zero_grad()
    return [*frames, audit(model, optimizer).frame()]


SHARDED = ["AdamW", "SGD", "RMSprop"]


def sharded_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        torch.save({name: sharded_rows(name, mesh) for name in SHARDED}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_sharded_parameters_give_the_same_numbers(tmp_path):
    torch.multiprocessing.spawn(sharded_process, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for name in SHARDED:
            for one, other in zip(found[name], sharded_rows(name), strict=True):
                numbers = one.select_dtypes("number").columns
                assert len(numbers) >= 13
                np.testing.assert_allclose(one[numbers], other[numbers], rtol=2e-5)
                words = one.columns.difference(numbers)
                assert one[words].equals(other[words])


# Formulas exchanged.

SABOTAGES = {
    "lr for 0.23 lr": ("scaleinv._audit.predicted_step.update_rms", lambda *args: torch.tensor(1.0), "test_predicted_steps_by_hand"),
    "equilibrium twice as large": (
        "scaleinv._audit.row.equilibrium_rms", lambda *args: 2 * equilibrium_rms(*args),
        "test_decays_share_and_equilibrium_by_hand",
    ),
    "mean for RMS": (
        "scaleinv._audit.row.rms", lambda t: t.detach().abs().mean().item(), "test_decays_share_and_equilibrium_by_hand"
    ),
    "decoupled for coupled": (
        "scaleinv._audit.row._decay",
        lambda u, c, group, w, change, g, k: {"decay": group["lr"] * group["weight_decay"] * w / change},
        "test_decays_share_and_equilibrium_by_hand",
    ),
    "gradients unclipped": (
        "scaleinv._audit.row.next_step", lambda *args, clip: next_step(*args),
        "test_clipping_is_tried_along_whether_it_was_done_or_not",
    ),
    "state's step without decay and bias correction": (
        "scaleinv._audit.row.last_step",
        lambda o, group, p: group["lr"] * rms(o.state[p]["exp_avg"] / o.state[p]["exp_avg_sq"].sqrt()),
        "test_without_gradients_adams_state_tells_its_last_step",
    ),
}  # fmt: skip


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES)
def test_a_swapped_formula_is_noticed(sabotage, monkeypatch):
    target, wrong, test = sabotage
    globals()[test]()
    module, _, name = target.rpartition(".")
    monkeypatch.setattr(sys.modules[module], name, wrong)
    with pytest.raises(AssertionError):
        globals()[test]()


# Saved.


def saved(tmp_path, model, optimizer):
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    return ["audit", str(tmp_path / "model.pt"), str(tmp_path / "optimizer.pt"), "--optimizer"]


def loaded(tmp_path, cls):
    return audit_saved(*(torch.load(tmp_path / f"{name}.pt", mmap=True) for name in ("model", "optimizer")), cls)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adafactor", "RMSprop"])
def test_what_is_saved_is_audited_as_what_is_not(name, named, tmp_path):
    model = scale_parameters(models.convnet(), {"4.weight": 8.0})
    made = MAKE[name](model.named_parameters() if named else model.parameters())
    trained(model, made)
    made.zero_grad()
    saved(tmp_path, model, made)
    frames = [
        found.frame().set_index("parameter").sort_index()
        for found in (audit(model, made), loaded(tmp_path, type(made)))
    ]
    assert [c for c in frames[0] if not frames[0][c].equals(frames[1][c])] == ["layer"]


def test_groups_are_matched_by_shape_or_by_name(tmp_path):
    model = models.mlp(64, depth=2)
    weights, biases = ([(n, p) for n, p in model.named_parameters() if p.ndim == d] for d in (2, 1))
    for pairs in (weights, biases), (weights[::-1], biases[::-1]):
        optimizer = optim.AdamW([{"params": pairs[0], "lr": 0.1}, {"params": pairs[1], "lr": 0.2}])
        trained(model, optimizer)
        optimizer.zero_grad()
        saved(tmp_path, model, optimizer)
        assert loaded(tmp_path, optim.AdamW).flat() == audit(model, optimizer).flat()
    optimizer = optim.AdamW([{"params": [p for _, p in pairs], "lr": 0.1} for pairs in (weights, biases)])
    trained(model, optimizer)
    saved(tmp_path, model, optimizer)
    optimizer.zero_grad()
    assert loaded(tmp_path, optim.AdamW).flat() == audit(model, optimizer).flat()


def test_tied_and_frozen_ones_are_found_again(tmp_path):
    model = models.gpt(16, 1)
    model.head.weight = model.token.weight
    model.position.weight.requires_grad_(False)
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad])
    trained(model, optimizer)
    optimizer.zero_grad()
    saved(tmp_path, model, optimizer)
    frames = [found.frame() for found in (audit(model, optimizer), loaded(tmp_path, optim.AdamW))]
    assert [c for c in frames[0] if not frames[0][c].equals(frames[1][c])] == ["layer"]
    assert frames[1].loc[0, "names"] == ("token.weight", "head.weight") and frames[1].loc[1, "status"] == "frozen"


def test_what_is_in_doubt_is_not_guessed(tmp_path):
    model = models.mlp(64, depth=3)
    model[1].requires_grad_(False)
    inner = [*model[3].parameters(), *model[7].parameters()]  # model[5] has the same shapes as model[3]
    for optimizer in (optim.AdamW(inner), optim.SGD([{"params": [p]} for p in inner], 0.1), optim.SGD(inner, 0.1)):
        saved(tmp_path, *trained(model, optimizer))
        with pytest.raises(ValueError, match="fit in several ways the 8 tensors.*named_parameters"):
            loaded(tmp_path, type(optimizer))
    saved(tmp_path, model, trained(model, optim.AdamW(model[7].parameters()))[1])
    assert [row.status for row in loaded(tmp_path, optim.AdamW).rows] == ["frozen"] * 6 + ["trained"] * 2


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    model = models.mlp()
    words = saved(tmp_path, *trained(model, optim.AdamW(model.parameters())))
    assert main([*words, "torch.optim.AdamW"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "1.weight" in out and "lr" in out and max(map(len, out.splitlines())) <= 80
    assert main([*words, "AdamW"]) == 0
    assert capsys.readouterr().out == out


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    model, other = models.mlp(), models.mlp(7)
    words = saved(tmp_path, *trained(model, optim.AdamW(model.parameters())))
    (tmp_path / "text.pt").write_text("no tensors")
    torch.save(model, tmp_path / "module.pt")
    torch.save(other.state_dict(), tmp_path / "other.pt")
    _, first, second, flag = words
    cases = [
        ("no such", ["audit", first, str(tmp_path / "none.pt"), flag, "AdamW"]),
        ("cannot be loaded as tensors and plain data", ["audit", str(tmp_path / "text.pt"), second, flag, "AdamW"]),
        ("cannot be loaded as tensors and plain data", ["audit", str(tmp_path / "module.pt"), second, flag, "AdamW"]),
        ("is not a model's state_dict", ["audit", second, first, flag, "AdamW"]),
        ("is not an optimizer's state_dict", ["audit", first, first, flag, "AdamW"]),
        ("do not fit the 4 tensors", ["audit", str(tmp_path / "other.pt"), second, flag, "AdamW"]),
        ("is not understood", [*words, "AdamW", "--lr", "1"]),
        ("has to be package.module.Name", [*words, "torch.optim.None_"]),
    ]
    for said, command in cases:
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("python -m scaleinv audit: ") and err.count("\n") == 1 and len(err) < 500
        assert said in err.lower() or said in err
