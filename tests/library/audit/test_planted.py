"""Planted faults, each found first or second, by its cause, with its parameters and a remedy."""

import math

import pytest
import torch
from torch import nn, optim
from torch.nn import functional

from scaleinv import audit
from scaleinv._audit.findings import KINDS, Severity
from scaleinv._audit.findings.wording import brief
from scaleinv.book import models
from tests.library.audit.shared import adamw, gradients, rows, trained

pytestmark = pytest.mark.usefixtures("one_thread")

FAULT, WARNING, REMARK = Severity.FAULT, Severity.WARNING, Severity.REMARK


def found(model, optimizer, kind, **options):
    """The finding of a kind among the first two."""
    finding = next(f for f in audit(model, optimizer, **options).findings[:2] if f.kind == kind)
    assert finding.remedy.endswith(".")
    return finding


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.out = [nn.Linear(16, 16), nn.Linear(16, 16)], nn.Linear(16, 4)
        self.scales = {"last": nn.Parameter(torch.ones(4))}
        self.teacher = [nn.Linear(16, 4).requires_grad_(False)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.out(x) * self.scales["last"]


def test_layers_in_a_plain_list_or_dict():
    model = Listed()
    optimizer = optim.Adam(model.parameters())
    texts = {f.text for f in audit(model, optimizer).findings if f.kind == "unregistered_layers"}
    assert {text.split()[0] for text in texts} == {"layers", "scales"}
    model(torch.randn(8, 16)).square().mean().backward()
    finding = found(model, optimizer, "unregistered_layers")
    assert finding.severity == FAULT and "layers holds 4 parameters" in finding.text and "ModuleList" in finding.remedy
    held = optim.Adam([*model.parameters(), *(p for layer in model.layers for p in layer.parameters())])
    assert [f.text for f in audit(model, held).findings if f.kind == "unregistered_layers"][0].startswith("scales")


def test_layers_in_a_list_that_take_no_part_are_not_a_fault():
    model = models.mlp()
    model.spare = [nn.Linear(2, 2)]
    gradients(model)
    assert audit(model, adamw(model)).findings == []


def half(dtype=torch.float16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10)).to(dtype)


def test_an_eps_that_is_zero_in_float16_is_a_fault_before_and_after_backward():
    model = half()
    optimizer = adamw(model)
    early = found(model, optimizer, "eps_rounds_to_zero")
    assert early.severity == FAULT and "eps = 1e-08" in early.text and len(early.parameters) == 6
    (1e-4 * functional.cross_entropy(model(torch.randn(32, 64).half()).float(), torch.zeros(32).long())).backward()
    late = found(model, optimizer, "next_step_is_infinite")
    assert late.severity == FAULT and "eps = 1e-08 is 0 in float16" in late.text
    assert all(math.isinf(row.change) for row in audit(model, optimizer).rows if row.parameter in late.parameters)
    optimizer.step()
    assert not all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype, eps", [(torch.float16, 1e-4), (torch.bfloat16, 1e-8), (torch.float32, 1e-8)])
def test_an_eps_that_the_format_holds_is_none(dtype, eps):
    model = half(dtype)
    assert "eps_rounds_to_zero" not in [f.kind for f in audit(model, adamw(model, eps=eps)).findings]


@pytest.mark.parametrize("grad", [False, True])
def test_steps_lost_to_rounding_are_counted(grad):
    torch.manual_seed(0)
    model = nn.Linear(64, 64).bfloat16()
    optimizer = adamw(model, lr=1e-4, weight_decay=0)
    if grad:
        model(torch.randn(8, 64).bfloat16()).square().mean().backward()
    shares = {name: row.lost for name, row in rows(model, optimizer).items()}
    for p in model.parameters():
        p.grad = torch.randn_like(p) if p.grad is None else p.grad
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        assert shares[name] == pytest.approx((p == before[name]).double().mean().item(), abs=0.05)
    model = nn.Linear(64, 64).bfloat16()
    finding = found(model, adamw(model, lr=1e-5), "lost_to_rounding")
    assert finding.severity == FAULT and finding.parameters[0] == "weight"


def test_decay_lost_to_rounding_does_nothing_and_is_said_to():
    model = half(torch.bfloat16)
    optimizer = adamw(model, lr=1e-3, weight_decay=0.4)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = [p.detach().clone() for p in model.parameters()]
    row = rows(model, optimizer)["1.weight"]
    assert row.decay_lost == 1 and not row.decay > 0 and math.isnan(row.equilibrium)
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    model.zero_grad()
    finding = found(model, adamw(model, lr=1e-3, weight_decay=0.4), "decay_lost_to_rounding")
    assert finding.severity == WARNING and set(finding.parameters) >= {"0.weight", "1.weight"}
    assert rows(model.float(), adamw(model.float(), weight_decay=0.4))["1.weight"].decay_lost == 0


def test_a_second_moment_in_bfloat16_cannot_forget():
    model = half(torch.bfloat16)
    for steps in (0, 1):
        optimizer = adamw(model)
        if steps:
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()
            before = {p: optimizer.state[p]["exp_avg_sq"].clone() for p in model.parameters()}
            stuck = rows(model, optimizer)["0.weight"].stuck
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
            kept = (optimizer.state[model[0].weight]["exp_avg_sq"] == before[model[0].weight]).double().mean()
            assert stuck == kept == 1
        kinds = {f.kind: f for f in audit(model, optimizer).findings}
        assert kinds["cannot_forget"].severity == WARNING and "beta2 = 0.999" in kinds["cannot_forget"].text
    optimizer = adamw(model, betas=(0.9, 0.95))
    assert "cannot_forget" not in {f.kind for f in audit(model, optimizer).findings}


@pytest.mark.parametrize("steps", [200, optim.lr_scheduler.CosineAnnealingLR])
def test_a_memory_longer_than_the_run(steps):
    model = models.mlp()
    optimizer = adamw(model)
    steps = steps if steps == 200 else steps(optimizer, 200)
    finding = found(model, optimizer, "long_memory", steps=steps)
    assert "remembers 1000 steps, and the run has 200" in finding.text and "0.95" in finding.remedy
    assert audit(model, optimizer, steps=2000).findings == audit(model, optimizer).findings == []


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("forgotten", [True, False])
def test_a_forgotten_zero_grad(forgotten, in_place):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = adamw(model)
    for _ in range(11):
        if not forgotten:
            optimizer.zero_grad(set_to_none=not in_place)
        functional.cross_entropy(model(torch.randn(32, 32)), torch.randint(10, (32,))).backward()
        optimizer.step()
    if not forgotten:
        optimizer.zero_grad(set_to_none=not in_place)
    functional.cross_entropy(model(torch.randn(32, 32)), torch.randint(10, (32,))).backward()
    if forgotten:
        finding = found(model, optimizer, "gradients_not_reset")
        assert finding.severity == FAULT and "zero_grad()" in finding.remedy and len(finding.parameters) == 4
    else:
        assert "gradients_not_reset" not in [f.kind for f in audit(model, optimizer).findings]


def test_dead_activations_are_one_fault_or_a_warning():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10, bias=False))
    nn.init.constant_(model[2].bias, -10)
    optimizer = optim.Adam(model.parameters())
    trained_on = torch.randn(64, 32)
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(model(trained_on), torch.randint(10, (64,))).backward()
        optimizer.step()
    for _ in range(2):  # by the gradients, then by the state
        finding, *others = audit(model, optimizer).findings
        assert (finding.kind, finding.severity, len(finding.parameters)) == ("nothing_trains", FAULT, 5)
        assert [f.kind for f in others if f.severity > REMARK] == [], others
        optimizer.zero_grad()
    model[4] = nn.Linear(64, 10)
    optimizer = optim.Adam(model.parameters())
    functional.cross_entropy(model(trained_on), torch.randint(10, (64,))).backward()
    finding = found(model, optimizer, "no_gradient")
    assert finding.severity == WARNING and set(finding.parameters) == {
        "0.weight", "0.bias", "2.weight", "2.bias", "4.weight"
    }  # fmt: skip


def test_a_parameter_held_twice_by_one_optimizer():
    model = models.mlp(8)
    with pytest.warns(UserWarning, match="duplicate"):
        optimizer = optim.SGD([*model.parameters(), model[3].weight], 0.1)
    finding = found(model, optimizer, "held_twice")
    assert finding.severity == FAULT and finding.parameters == ("3.weight",) and "twice" in finding.text


def test_an_optimizer_made_before_the_head_was_replaced_or_of_another_model():
    model = models.mlp(8)
    optimizer = adamw(model)
    model[3] = nn.Linear(8, 10)
    finding = found(model, optimizer, "left_out")
    assert finding.severity == FAULT and finding.parameters == ("3.weight", "3.bias") and "2 tensors" in finding.text
    finding = found(models.mlp(8), adamw(models.mlp(8)), "left_out")
    assert finding.severity == FAULT and "none of the 4 parameters" in finding.text


def test_what_is_only_probed_is_left_out_on_purpose():
    model = models.mlp()
    (finding,) = audit(model, optim.AdamW(model[3].parameters())).findings
    assert (finding.kind, finding.severity) == ("left_out", REMARK)


def test_a_module_that_is_not_frozen():
    model = models.mlp(8)
    model[1].requires_grad = False
    finding = found(model, adamw(model), "not_frozen")
    assert finding.severity == FAULT and finding.parameters == ("1.weight", "1.bias")


def test_muon_on_a_table_a_head_or_a_gain():
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"table": nn.Embedding(50, 8), "hidden": nn.Linear(8, 8), "head": nn.Linear(8, 50, bias=False)}
    )
    held = [p for name, p in model.named_parameters() if p.ndim == 2]
    finding = found(model, [optim.Muon(held), optim.AdamW([model["hidden"].bias])], "muon_elsewhere")
    assert finding.severity == WARNING and finding.parameters == ("table.weight", "head.weight")
    rest = [p for p in model.parameters() if p is not model["hidden"].weight]
    kinds = [f.kind for f in audit(model, [optim.Muon([model["hidden"].weight]), optim.AdamW(rest)]).findings]
    assert "muon_elsewhere" not in kinds


def test_decay_of_gains_and_biases_from_what_somebody_chose():
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    finding = found(model, adamw(model, weight_decay=0.1), "much_decay")
    assert finding.severity == REMARK and len(finding.parameters) == 6 and "weight_decay=0" in finding.remedy
    assert not [f for f in audit(model, adamw(model, weight_decay=0.01)).findings if f.kind == "much_decay"]
    model[1].weight._no_weight_decay = True
    finding = found(model, adamw(model, weight_decay=0.01), "much_decay")
    assert finding.parameters == ("1.weight",) and "marked" in finding.text


def test_gains_of_fifty_and_weights_of_ten():
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].weight *= 50
    finding = found(model, adamw(model), "large_gains")
    assert finding.severity == WARNING and finding.parameters == ("0.weight",)
    with torch.no_grad():
        model[1].weight.fill_(10)
    assert "large_weights" in [f.kind for f in audit(model, adamw(model)).findings]


def test_groups_whose_lr_are_far_apart():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(5)))
    groups = [{"params": layer.parameters(), "lr": 1e-3 * 0.1 ** (4 - i)} for i, layer in enumerate(model)]
    finding = found(model, optim.AdamW(groups), "lr_of_groups")
    assert finding.severity == WARNING and finding.parameters == ("0.weight", "0.bias")
    assert "layer-wise decay" in finding.text
    groups = [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[1:].parameters(), "lr": 1e-2}]
    finding = found(model, optim.AdamW(groups), "lr_of_groups")
    assert finding.severity == WARNING and "1.weight" in finding.parameters and "0.weight" not in finding.parameters
    assert "lr is 10 times as large (0.01)" in finding.text


def test_a_head_too_fast_is_named_with_its_lr():
    model = models.mlp(depth=3)
    *rest, head = [layer for layer in model if isinstance(layer, nn.Linear)]
    groups = [{"params": [p for layer in rest for p in layer.parameters()]}, {"params": head.parameters(), "lr": 0.05}]
    finding = found(model, optim.AdamW(groups, lr=1e-3), "moves_unlike_the_rest")
    assert finding.severity == WARNING and "its lr is 50 times theirs" in finding.text


def test_sgd_with_adams_lr_moves_next_to_nothing():
    model = models.mlp()
    gradients(model)
    for steps, severity in ((None, REMARK), (1000, WARNING)):
        finding = found(model, optim.SGD(model.parameters(), 1e-6), "all_move_little", steps=steps)
        assert finding.severity == severity and "lr = 1e-06 is small" in finding.text


def test_a_sum_for_a_mean_is_asked_about():
    model = models.mlp()
    gradients(model)
    for p in model.parameters():
        p.grad *= 256
    finding = found(model, optim.SGD(model.parameters(), 1.0), "all_move_far")
    assert finding.severity == WARNING and "a sum where a mean was meant" in finding.text
    result = found(model, optim.SGD(model.parameters(), 0.01), "clipping_sets_the_step", max_norm=1.0)
    assert "a sum where a mean was meant" in result.text


def test_a_gradient_of_nan_is_not_a_missing_one():
    model = models.mlp()
    gradients(model)
    model[1].weight.grad[0, 0] = math.nan
    finding = found(model, adamw(model), "not_finite")
    assert finding.severity == FAULT and finding.parameters == ("1.weight",)


def test_clipping_under_eps_is_named_as_the_cause():
    model = models.mlp()
    gradients(model)
    finding = found(model, adamw(model), "most_below_eps", max_norm=1e-9)
    assert finding.severity == FAULT and "by clipping" in finding.text and "max_norm" in finding.remedy


@pytest.mark.parametrize("kind", KINDS)
def test_every_look_takes_an_audit_of_nothing(kind):
    model = nn.Sequential(nn.Linear(2, 2))
    for optimizer in (adamw(models.mlp(8)), adamw(model)):
        list(KINDS[kind](audit(model, optimizer)))


def test_names_are_folded_from_three_on():
    assert brief(["h.0.w", "h.1.w", "h.2.w", "h.5.w", "h.0.b", "h.1.b"]) == "h.0,1,2,5.w, h.0.b, h.1.b"
    assert brief([f"h.{i}.w" for i in range(12)]) == "h.0–11.w"
    assert brief([f"{letter}.w" for letter in "abcdefgh"]) == "a.w, b.w, c.w, d.w, e.w, f.w and 2 more"


def test_a_trained_model_under_its_usual_settings_is_silent():
    model = models.mlp()
    optimizer = adamw(model)
    trained(model, optimizer, 20)
    assert audit(model, optimizer).findings == []


def test_one_lr_for_two_units_is_a_fault_and_two_are_a_remark():
    model = models.mlp(8)
    for lr, severity in ((1e-3, FAULT), (0.1, REMARK)):
        optimizers = [optim.SGD(model[1].parameters(), lr), optim.Adam(model[3].parameters(), 1e-3)]
        gradients(model)
        finding = next(f for f in audit(model, optimizers).findings if f.kind == "lr_of_different_units")
        assert finding.severity == severity


def test_groups_most_of_which_have_an_lr_of_zero():
    model = models.mlp(8, depth=3)
    first, *rest = model.parameters()
    optimizer = optim.AdamW([{"params": [first]}, {"params": rest, "lr": 0.0}], weight_decay=0)
    gradients(model)
    assert "lr_is_zero" in [f.kind for f in audit(model, optimizer).findings]
