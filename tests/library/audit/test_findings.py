"""Planted faults: each is the first finding, and a healthy network has none."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn, optim

from scaleinv import audit
from scaleinv._audit import findings
from scaleinv._audit.findings.steps import median_without
from scaleinv.book import models
from tests.library.audit.shared import MAKE, adamw, gradients, rows, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def first(model, optimizer, **options):
    result = audit(model, optimizer, **options)
    return result.findings[0].text


def test_a_healthy_network_has_no_finding():
    model = models.mlp()
    assert audit(model, adamw(model)).findings == []
    gradients(model)
    assert audit(model, adamw(model), max_norm=100).findings == []


def test_a_zero_bias_is_the_first_finding():
    model = models.mlp()
    nn.init.zeros_(model[3].bias)
    text = "3.bias starts at zero: its relative step is undefined, its absolute step is lr = 0.001."
    assert first(model, adamw(model)) == text
    assert math.isnan(rows(model, adamw(model))["3.bias"].predicted)


def test_a_small_embedding_is_the_first_finding():
    model = models.gpt(16, 1)
    with torch.no_grad():
        model.token.weight /= 100
    assert re.match(
        r"token.weight moves 5\d\d % a step, the median of the other tensors \d", first(model, adamw(model))
    )


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
        text = first(model, optimizers)
        assert text.startswith("lr has different units in these groups: SGD (L⁻¹ W²) and Adam (W).")


def test_strong_decay_is_the_first_finding():
    model = models.mlp()
    text = first(model, adamw(model, lr=1e-2, weight_decay=50.0))
    assert text.startswith("weight decay is ") and "removes 50 % of the tensor at each step" in text
    assert "; under noise its RMS goes from 0.1 to 0.0" in text
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
        assert median_without(number, sorted(numbers)) == pytest.approx(expected, nan_ok=True)


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
    result = audit(model, adamw(model)).findings
    assert [finding.kind for finding in result] == ["moves_unlike_the_rest", "zero"]
    assert result[0].parameters == ("token.weight",) and result[0].size < len(result[1].parameters)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_what_started_at_zero_or_tiny_has_no_scale_to_move_unlike(steps):
    model = models.mlp()
    with torch.no_grad():
        model[1].weight /= 1e4
    nn.init.zeros_(model[3].bias)
    trained(model, optimizer := adamw(model), steps)
    unlike = [f for f in audit(model, optimizer).findings if f.kind == "moves_unlike_the_rest"]
    assert [f.parameters for f in unlike] == ([("1.weight",)] if steps == 0 else [])
    assert all(f.severity == findings.Severity.REMARK for f in unlike)


def test_all_that_move_far_are_named():
    model = models.mlp()
    with torch.no_grad():
        model[3].weight *= 100
    (finding,) = audit(model, adamw(model, lr=0.1)).findings[:1]
    assert finding.kind == "all_move_far" and finding.parameters == ("1.weight", "1.bias", "3.bias")


def test_a_finding_says_its_kind_and_chapter_9_explains_all_of_them():
    model = models.mlp().to(torch.bfloat16)
    assert audit(model, adamw(model, lr=1e-5)).findings[0].kind == "lost_to_rounding"
    page = (Path(__file__).parents[3] / "book" / "13_audit_your_model.ipynb").read_text()
    table = "".join(line for line in page.splitlines() if line.lstrip().startswith('"| '))
    assert set(findings.KINDS) <= set(re.findall(r"`(\w+)`", table))


def clipping_of(model, optimizer, share):
    """The findings about clipping at this share of the gradient's norm, as (severity, parameters, text)."""
    max_norm = share * audit(model, optimizer).gradient_norm
    result = audit(model, optimizer, max_norm=max_norm).findings
    return [(f.severity.word, f.parameters, f.text) for f in result if f.kind.startswith("clipping_")]


@pytest.mark.parametrize(
    "name, severity, text",
    [
        ("Nesterov", "warning", "clipping sets the step of SGD: the gradient norm is "),
        ("ASGD", "warning", "clipping sets the step of ASGD: "),
        ("RAdam", "warning", "clipping may set the step of RAdam: "),
        ("Adam", "remark", "clipping does not set the step of Adam: the gradient norm is "),
        ("AdamW", "remark", "clipping does not set the step of AdamW: "),
        ("RMSprop", "remark", "clipping does not set the step of RMSprop: "),
        ("Rprop", "remark", "clipping does not set the step of Rprop: "),
        ("Adafactor", "remark", "clipping does not set the step of Adafactor: "),
    ],
)
def test_clipping_sets_the_step_where_the_unit_of_lr_contains_that_of_the_loss(name, severity, text):
    model = models.mlp()
    gradients(model)
    optimizer = MAKE[name](model.parameters())
    assert clipping_of(model, optimizer, 8) == []
    ((word, parameters, sentence),) = clipping_of(model, optimizer, 1 / 8)
    assert word == severity and sentence.startswith(text)
    assert parameters == tuple(name for name, _ in model.named_parameters())
    free = audit(model, optimizer)
    for before, after in zip(free.rows, audit(model, optimizer, max_norm=free.gradient_norm / 8).rows, strict=True):
        assert after.change / before.change == pytest.approx(1 / 8 if word == "warning" else 1, rel=0.01)


def test_clipping_is_reported_for_each_kind_of_lr():
    model = models.mlp()
    gradients(model)
    optimizers = [optim.AdamW(model[1].parameters(), 1e-3), optim.SGD(model[3].parameters(), 0.1)]
    assert [(word, parameters) for word, parameters, _ in clipping_of(model, optimizers, 1 / 8)] == [
        ("warning", ("3.weight", "3.bias")), ("remark", ("1.weight", "1.bias")),
    ]  # fmt: skip


def test_findings_are_ranked():
    model = models.gpt(16, 1)
    gradients(model)
    result = audit(model, [optim.SGD(model.token.parameters(), 1.0), adamw(model.blocks)]).findings
    ranks = [(finding.severity, finding.size) for finding in result]
    assert ranks == sorted(ranks, reverse=True) and len(ranks) > 2


def test_gradients_that_are_not_finite_are_the_first_finding():
    model = models.mlp(8)
    gradients(model)
    model[1].weight.grad[0, 0] = math.inf
    result = audit(model, adamw(model), max_norm=1.0)
    assert result.findings[0].text.startswith("1.weight has a gradient with NaN or infinity")
    assert all(math.isfinite(value) for value in result.flat().values()) and "nan" not in str(result)


def test_a_finding_counts_the_other_tensors():
    for others, sentence in (
        (0, ""),
        (1, " 1 other tensor is affected too."),
        (2, " 2 other tensors are affected too."),
    ):
        model = models.mlp(depth=2)
        optimizer = optim.AdamW([*model.parameters()][others + 1 :])
        text = "no optimizer holds 1.weight, though it requires a gradient."
        assert audit(model, optimizer).findings[0].text == text + sentence


def test_a_severity_is_a_number_and_a_word():
    assert [(severity.value, severity.word) for severity in findings.Severity] == [
        (1, "remark"), (2, "warning"), (3, "fault"),
    ]  # fmt: skip
    model = models.mlp()
    nn.init.zeros_(model[3].bias)
    (finding,) = audit(model, adamw(model)).findings
    assert finding.severity == 1 and str(audit(model, adamw(model))).splitlines()[1].startswith("1. remark: 3.bias")
