"""What is healthy, or cannot be told, is not called a fault: gradients of zero, starts at zero, rare rows, an lr of 0,
formats that cannot be read, clipping under Adam."""

import math
import re

import pytest
import torch
from torch import nn, optim
from torch.nn import functional

from scaleinv import audit
from scaleinv._audit.findings import Severity
from scaleinv.book import models
from tests.library.audit.shared import adamw, gradients, rms, rows, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def grave(model, optimizer, **options):
    return [str(f) for f in audit(model, optimizer, **options).findings if f.severity > Severity.REMARK]


def kinds(model, optimizer, **options):
    return {f.kind: f for f in audit(model, optimizer, **options).findings}


class Attention(nn.Module):
    """Its key bias adds the same number to all scores of a query, which softmax cancels."""

    def __init__(self, d=64, *, fused=False):
        super().__init__()
        self.qkv = nn.ModuleList([nn.Linear(d, 3 * d)] if fused else [nn.Linear(d, d) for _ in range(3)])
        self.out = nn.Linear(d, 10)

    def forward(self, x):
        qkv = [layer(x) for layer in self.qkv]
        q, k, v = qkv if len(qkv) == 3 else qkv[0].chunk(3, -1)
        return self.out(functional.scaled_dot_product_attention(q, k, v).mean(1))


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_that_is_zero_in_exact_arithmetic_is_not_below_eps(fused):
    torch.manual_seed(0)
    model = Attention(fused=fused)
    optimizer = optim.AdamW(model.parameters(), lr=1e-4)
    for step in range(11):
        optimizer.zero_grad()
        functional.cross_entropy(model(torch.randn(32, 16, 64)), torch.randint(10, (32,))).backward()
        assert grave(model, optimizer) == [], step
        optimizer.step()
    row = rows(model, optimizer)["qkv.0.bias" if fused else "qkv.1.bias"]
    assert row.below_eps == pytest.approx(1 / 3 if fused else 1, abs=0.02)  # the number is told, as it is


def test_a_bias_before_a_normalisation_neither_falls_below_eps_nor_decays_too_much():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 4))
    optimizer = optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    functional.cross_entropy(model(torch.randn(64, 16)), torch.randint(4, (64,))).backward()
    assert model[0].bias.grad.norm() < 1e-6 and grave(model, optimizer) == []


def test_a_real_gradient_below_eps_is_reported_still():
    model = models.mlp()
    gradients(model)
    found = kinds(model, adamw(model, eps=1.0))["most_below_eps"]
    assert found.severity == Severity.FAULT and "eps = 1:" in found.text and found.remedy


class LoRA(nn.Module):
    def __init__(self, d=64, r=8, start=0.0):
        super().__init__()
        self.base = nn.Linear(d, d).requires_grad_(False)
        self.A, self.B = nn.Linear(d, r, bias=False), nn.Linear(r, d, bias=False)
        nn.init.zeros_(self.B.weight)
        if start is None:
            nn.init.zeros_(self.A.weight)

    def forward(self, x):
        return self.base(x) + 2 * self.B(self.A(x))


def adapted(start=0.0):
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(3) for layer in (LoRA(start=start), nn.GELU())))
    return model, optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)


def test_lora_as_it_starts_is_healthy_at_every_step():
    model, optimizer = adapted()
    for step in range(31):
        optimizer.zero_grad()
        x = torch.randn(64, 64)
        functional.cross_entropy(model(x), x[:, :10].argmax(1)).backward()
        if step in (0, 1, 10, 30):
            assert grave(model, optimizer) == [], step
        optimizer.step()


def test_lora_of_zeros_never_trains():
    model, optimizer = adapted(start=None)
    model(torch.randn(8, 64)).square().mean().backward()
    finding = audit(model, optimizer).findings[0]
    assert (finding.kind, finding.severity) == ("nothing_trains", Severity.FAULT)
    assert set(finding.parameters) == {f"{i}.{name}.weight" for i in (0, 2, 4) for name in "AB"} and finding.remedy
    model.add_module("head", nn.Linear(64, 2))
    optimizer.add_param_group({"params": model.head.parameters()})
    model(torch.randn(8, 64)).square().mean().backward()
    assert audit(model, optimizer).findings[0].kind == "stuck_at_zero"


def test_layer_scale_and_class_tokens_start_small():
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.ModuleList([nn.LayerNorm(32), nn.Linear(32, 32)]) for _ in range(6))
    for block in blocks:
        block.gamma = nn.Parameter(1e-6 * torch.ones(32))
    model = nn.ModuleDict({"blocks": blocks, "head": nn.Linear(32, 10)})
    model.token = nn.Parameter(1e-6 * torch.randn(1, 1, 32))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    assert grave(model, optimizer) == []
    assert kinds(model, optimizer)["moves_unlike_the_rest"].severity == Severity.REMARK


@pytest.mark.parametrize("make", [optim.AdamW, optim.RMSprop, lambda p: optim.SparseAdam([*p])])
def test_a_table_is_predicted_by_its_rows_that_have_a_gradient(make):
    torch.manual_seed(0)
    table = nn.Embedding(5000, 16, sparse=make not in (optim.AdamW, optim.RMSprop))
    table(torch.randint(5000, (64,))).sum().backward()
    optimizer = make(table.parameters())
    (row,) = audit(table, optimizer).rows
    before = table.weight.detach().clone()
    optimizer.step()
    step = rms(table.weight - before) / rms(before)
    assert row.measured == pytest.approx(step, rel=1e-4)
    assert row.predicted == pytest.approx(step, rel=0.02) and "where there is a gradient" in row.law


def test_adagrad_starts_at_its_initial_accumulator():
    model = models.mlp(8)
    optimizer = optim.Adagrad(model.parameters(), 0.1, initial_accumulator_value=0.1)
    assert all(math.isnan(row.predicted) for row in audit(model, optimizer).rows)
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.02)
    for row in audit(model, optimizer).rows:
        assert row.predicted == pytest.approx(row.measured, rel=1e-4)


def test_remarks_about_rare_rows_are_one():
    torch.manual_seed(0)
    model = nn.ModuleList(nn.Embedding(1000, 8) for _ in range(26))
    sum(table(torch.randint(1000, (32,))).square().mean() for table in model).backward()
    (finding,) = audit(model, optim.Adam(model.parameters())).findings
    assert re.match(r"97 % of \d+.weight's coordinates have had no gradient. 25 other tensors", finding.text)
    assert len(finding.parameters) == 26


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_lr_of_zero_is_no_rounding(dtype):
    model = models.mlp().to(dtype)
    gradients(model)
    optimizer = adamw(model)
    optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 100))
    found = kinds(model, optimizer)
    assert found["lr_is_zero"].severity == Severity.REMARK and "lost_to_rounding" not in found
    assert [f.kind for f in audit(model, optimizer).findings if f.severity > 1] == ["cannot_forget"] * (
        dtype == torch.bfloat16
    )
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.0})
    model.register_parameter("still", optimizer.param_groups[1]["params"][0])
    assert kinds(model, optimizer)["lr_is_zero"].parameters == ("still",)


def test_the_end_of_a_schedule_is_no_rounding_fault():
    model = models.mlp()
    optimizer = adamw(model)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for step in range(50):
        gradients(model, step)
        assert grave(model, optimizer) == [], step
        optimizer.step()
        schedule.step()


def test_lr_equals_is_said_only_where_it_is_true():
    model = models.mlp()
    nn.init.zeros_(model[3].bias)
    gradients(model)
    for eps, words in ((1e-12, "its absolute step is lr = 0.001."), (1e-2, r"its absolute step is \d\S+\.$")):
        assert re.search(words, kinds(model, adamw(model, eps=eps))["zero"].text)


FROZEN = {
    "float8": (lambda w: w.to(torch.float8_e4m3fn), True),
    "int8": (lambda w: (100 * w).to(torch.int8), False),
    "packed": (lambda w: torch.zeros(32, 1, dtype=torch.uint8), False),
    "quantised": (lambda w: torch.quantize_per_tensor(w, 0.05, 0, torch.qint8), True),
    "meta": (lambda w: w.to("meta"), False),
}


@pytest.mark.parametrize("make, has_size", FROZEN.values(), ids=FROZEN)
def test_a_frozen_format_is_read_or_said_to_be_unknown(make, has_size):
    torch.manual_seed(0)
    weight = torch.randn(8, 8)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 4))
    model[0].weight = nn.Parameter(make(weight), requires_grad=False)
    result = audit(model, optim.AdamW(model[1].parameters()))
    row = result.rows[0]
    assert row.has_size == has_size and row.status == "frozen"
    assert row.rms == pytest.approx(rms(weight), rel=0.05) if has_size else math.isnan(row.rms)
    assert has_size or row.note.startswith("its size is not known")
    assert grave(model, optim.AdamW(model[1].parameters())) == []
    (layer,) = result.summary().to_dict("records")
    assert layer["rms"] > 0 and "nan" not in str(result)


def test_an_lr_of_none_is_not_known():
    model = models.mlp(8)
    optimizer = adamw(model)
    optimizer.param_groups[0]["lr"] = None
    assert all(math.isnan(row.lr) and math.isnan(row.change) for row in audit(model, optimizer).rows)


def test_under_adam_a_clip_sets_nothing_and_that_is_what_is_said():
    model = models.mlp()
    optimizer = adamw(model)
    trained(model, optimizer, 5)
    gradients(model)
    norm = audit(model, optimizer).gradient_norm
    assert grave(model, optimizer, max_norm=norm / 8) == []
    found = kinds(model, adamw(model), max_norm=norm / 8)
    assert "clipping_sets_the_step" not in found and found["clipping_cancels"].severity == Severity.REMARK


def test_decay_at_convergence_is_no_warning():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 1))
    x, y = torch.randn(64, 16), torch.zeros(64, 1)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        functional.mse_loss(model(x), y).backward()
        optimizer.step()
    assert "much_decay" not in [f.kind for f in audit(model, optimizer).findings if f.severity > Severity.REMARK]


def test_layers_behind_a_factor_of_zero_have_no_gradient_yet():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    optimizer = adamw(model)
    functional.cross_entropy(model(torch.randn(8, 16)), torch.randint(4, (8,))).backward()
    assert grave(model, optimizer) == []
    assert "behind a factor that starts at zero" in kinds(model, optimizer)["no_gradient"].text
    optimizer.step()
    optimizer.zero_grad()
    assert grave(model, optimizer) == []  # from the state


@pytest.mark.parametrize("make", [adamw, lambda model: optim.SGD(model.parameters(), 0.1)])
def test_gradients_set_to_zero_in_place_are_not_those_of_a_dead_network(make):
    model = models.mlp(8)
    optimizer = make(model)
    gradients(model)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    assert grave(model, optimizer) == []


def test_after_an_update_of_the_scaler_gradients_are_known_to_be_unscaled():
    model = models.mlp(8)
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for step in range(2):
        gradients(model, step)
        scaler.scale(torch.ones(()))
        for p in model.parameters():
            p.grad *= scaler.get_scale()
        before = audit(model, optimizer, scaler=scaler).gradient_norm
        scaler.step(optimizer)
        scaler.update()
        assert audit(model, optimizer, scaler=scaler).gradient_norm == pytest.approx(before, rel=1e-5)
