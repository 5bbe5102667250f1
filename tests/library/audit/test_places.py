"""Parameters of all kinds: groups, tied, frozen, scaled, parametrized, sparse, complex, of any dtype."""

import copy
import math

import pytest
import torch
from torch import nn, optim
from torch.nn.utils import parametrizations

from scaleinv import audit, scale_parameters
from scaleinv.book import models
from tests.library.audit.shared import MAKE, gradients, rms, rows

pytestmark = pytest.mark.usefixtures("one_thread")


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
    result = audit(model, optimizer)
    row = {row.parameter: row for row in result.rows}
    assert "head.weight" not in row and row["token.weight"].names == ("token.weight", "head.weight")
    assert (row["token.weight"].group, row["token.weight"].lr) == (0, 1e-2)
    assert (row["norm.weight"].group, row["norm.weight"].lr) == (1, 1e-3)
    assert row["position.weight"].status == "frozen" and math.isnan(row["position.weight"].lr)
    assert row["norm.bias"].status == "left out"
    texts = [finding.text for finding in result.findings]
    assert any("no optimizer holds norm.bias" in text for text in texts)
    assert any("holds 1 tensor that the model does not have" in text for text in texts)
    assert "token.weight (= head.weight)" in str(result) and "frozen" in str(result)


@pytest.mark.parametrize("name, power", [("AdamW", 1), ("SGD", 2), ("Adafactor", 0)])
def test_scaled_parameters_show_as_the_model_sees_them(name, power):
    plain, scaled = models.mlp(8), scale_parameters(models.mlp(8), 8.0)
    result = []
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
        result.append({row.parameter: row for row in audit(model, optimizer).rows})
    assert result[0].keys() == result[1].keys()
    for one, other in ((result[0][key], result[1][key]) for key in result[0]):
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
    result = rows(scaled, optim.RAdam(scaled.parameters(), 1e-2))
    assert math.isnan(result["1.weight"].lr) and result["1.bias"].lr == 1e-2


def test_other_parametrizations_are_evaluated_and_left_as_they_are():
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 3)), parametrizations.spectral_norm(nn.Linear(3, 2))
    )
    before = copy.deepcopy(model.state_dict())
    result = rows(model, optim.Adam(model.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert result["0.parametrizations.weight.original1"].rms == pytest.approx(rms(model[0].weight), rel=1e-6)
    assert result["1.parametrizations.weight.original"].rms == pytest.approx(rms(model.eval()[1].weight), rel=1e-5)
    assert result["1.parametrizations.weight.original"].note == "a part of weight, through _SpectralNorm"
    assert {row.layer for row in result.values()} == {"Linear"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_several_dtypes(dtype):
    model = models.mlp(8).to(dtype)
    optimizer = optim.SGD(model.parameters(), 1.0)
    gradients(model)
    result = rows(model, optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        assert result[name].dtype == str(dtype)[6:]
        assert result[name].measured == pytest.approx(rms(p.double() - before[name]) / rms(before[name]), rel=1e-2)


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
    result = rows(model, optimizer)
    assert [result[name].rms for name in ("complex", "scalar", "empty")] == pytest.approx([5, 7, 0])
    assert result["scalar"].change == pytest.approx(0.5) and result["transposed"].change == pytest.approx(0.5)

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
