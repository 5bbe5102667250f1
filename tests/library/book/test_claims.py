"""A claim that holds is shown in one stable line; a claim that does not hold raises."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from scaleinv.book import claims
from scaleinv.book.claims import ClaimFailed, about, claim, verdict


@pytest.fixture
def shown(monkeypatch):
    """What claims display, in a process that has checked none before."""
    outputs = []
    monkeypatch.setattr(claims, "_checked", [])
    formats = DisplayFormatter().format
    monkeypatch.setattr(claims, "display", lambda line: outputs.append(formats(line)[0]))
    return outputs


HOLD = [
    (4, {"equals": 4}),
    (0, {"equals": 0}),
    (-0.0, {"equals": 0}),
    (-2.0, {"equals": -2}),
    (1.25, {"equals": 1, "tolerance": 0.25}),
    (0.75, {"equals": 1, "tolerance": 0.25}),
    (-1.25, {"equals": -1, "tolerance": 0.25}),
    (0.0, {"equals": 0, "tolerance": 0.25}),
    (3.0, {"at_most": 3}),
    (-math.inf, {"at_most": 3}),
    (3.0, {"at_least": 3}),
    (math.inf, {"at_least": 3}),
    (0.0, {"at_most": 0}),
    (0.0, {"at_least": 0}),
    (2.0, {"at_least": 1, "at_most": 3}),
    (1.0, {"equals": 1, "at_least": 1, "at_most": 1}),
]
FAIL = [
    (4.000001, {"equals": 4}),
    (5e-324, {"equals": 0}),
    (5e-324, {"equals": 0, "tolerance": 0.25}),
    (2.0, {"equals": -2}),
    (math.nextafter(1.25, 2), {"equals": 1, "tolerance": 0.25}),
    (math.nextafter(0.75, 0), {"equals": 1, "tolerance": 0.25}),
    (math.nextafter(-1.25, -2), {"equals": -1, "tolerance": 0.25}),
    (math.nextafter(3, 4), {"at_most": 3}),
    (math.nextafter(3, 2), {"at_least": 3}),
    (5e-324, {"at_most": 0}),
    (-5e-324, {"at_least": 0}),
    (0.0, {"at_least": 1, "at_most": 3}),
    (4.0, {"at_least": 1, "at_most": 3}),
    (1.5, {"equals": 1, "tolerance": 1, "at_most": 1.4}),
    (math.inf, {"equals": 1, "tolerance": 1}),
    (math.inf, {"at_most": 3}),
    (math.nan, {"equals": 1, "tolerance": 1}),
    (math.nan, {"equals": math.nan}),
    (math.nan, {"at_most": 3}),
    (math.nan, {"at_least": 3}),
]


@pytest.mark.parametrize("measured, expected", HOLD)
def test_a_claim_that_holds_is_shown(shown, measured, expected):
    claim("0.1", "a statement", measured, **expected)
    assert len(shown) == 1 and shown[0]["text/plain"].endswith("✓")


@pytest.mark.parametrize("measured, expected", FAIL)
def test_a_claim_that_does_not_hold_raises_and_shows_nothing(shown, measured, expected):
    with pytest.raises(ClaimFailed):
        claim("0.1", "a statement", measured, **expected)
    assert shown == []


@pytest.mark.parametrize("measured, expected", FAIL)
def test_one_of_several_numbers_that_does_not_hold_raises(shown, measured, expected):
    holds = next(x for x, other in HOLD if other == {"equals": 0}) if "equals" not in expected else expected["equals"]
    with pytest.raises(ClaimFailed):
        claim("0.1", "a statement", {"first": holds, "second": measured, "third": holds}, **expected)
    assert shown == []


@pytest.mark.parametrize(
    "measured, expected, line",
    [
        (4.0, {"equals": 4}, "4 (expected 4)"),
        (0, {"equals": 0}, "0 (expected 0)"),
        (0.98765, {"equals": 1, "tolerance": 0.07}, "≈ 0.99 (expected 1 ± 7 %)"),
        (1.234e-7, {"at_most": 1e-5}, "≈ 1.2e-07 (expected ≤ 1e-05)"),
        (12345.0, {"at_least": 100}, "≈ 1.2e+04 (expected ≥ 100)"),
        (2.0, {"at_most": 3, "at_least": 1}, "≈ 2 (expected ≤ 3 and ≥ 1)"),
        (1, {"equals": 1, "at_most": 3}, "1 (expected 1 and ≤ 3)"),
        ({"Adam": 4, "SGD": 4.0}, {"equals": 4}, "Adam 4, SGD 4 (expected 4)"),
        ({"Adam": 1.04, "SGD": 2.0}, {"at_most": 3}, "Adam ≈ 1, SGD ≈ 2 (expected ≤ 3)"),
    ],
)
def test_the_line_names_what_was_claimed_measured_and_expected(shown, measured, expected, line):
    claim("0.1", "a statement", measured, **expected)
    assert shown[0]["text/plain"] == f"claim 0.1: a statement: {line} ✓"


@pytest.mark.parametrize("four", [4, 4.0, True + 3, Fraction(4), np.float32(4), np.array(4), torch.tensor([4.0])])
def test_whatever_converts_to_a_float_can_be_measured(shown, four):
    claim("0.1", "a statement", four, equals=4)
    assert shown[0]["text/plain"] == "claim 0.1: a statement: 4 (expected 4) ✓"


def test_the_message_of_a_failed_claim_names_what_was_expected_and_measured():
    with pytest.raises(ClaimFailed, match=r"claim 0\.1: a statement: expected 1, measured 1\.0000000001$"):
        claim("0.1", "a statement", 1.0000000001, equals=1)
    with pytest.raises(ClaimFailed, match=r"expected ≤ 1, measured b 2\.0, c nan$"):
        claim("0.1", "a statement", {"a": 0.5, "b": 2, "c": math.nan}, at_most=1)


@pytest.mark.parametrize("measured", [1.0, math.nan])
@pytest.mark.parametrize("expected", [{}, {"tolerance": 0.1}])
def test_a_claim_that_expects_nothing_is_an_error(shown, measured, expected):
    with pytest.raises(TypeError, match="claim 0.1: nothing expected"):
        claim("0.1", "a statement", measured, **expected)
    assert shown == []


def test_a_claim_without_numbers_is_an_error(shown):
    with pytest.raises(ValueError, match="claim 0.1: measured={} holds no number"):
        claim("0.1", "a statement", {}, equals=1)


def test_html_is_escaped_and_the_plain_text_is_not(shown):
    claim("0.1", "<b> & 'k' > 0", {"<i>": 1}, equals=1)
    assert shown[0]["text/plain"] == "claim 0.1: <b> & 'k' > 0: <i> 1 (expected 1) ✓"
    html = shown[0]["text/html"]
    assert "&lt;b&gt; &amp; &#x27;k&#x27; &gt; 0" in html and "&lt;i&gt; 1" in html
    assert "<i>" not in html and " & " not in html


def test_outside_a_notebook_a_claim_prints_its_line(capsys, monkeypatch):
    monkeypatch.setattr(claims, "_checked", [])
    claim("0.1", "a statement", 1, equals=1)
    assert capsys.readouterr().out == "claim 0.1: a statement: 1 (expected 1) ✓\n"


def test_the_verdict_counts_the_checks_and_names_each_claim_once_in_order(shown):
    for identity in ("0.2", "0.10", "0.2", "0.1"):
        claim(identity, "a statement", 1, equals=1)
    with pytest.raises(ClaimFailed):
        claim("0.3", "a statement", 2, equals=1)
    verdict()
    assert shown[-1]["text/plain"] == "verdict: 4 checks of the claims 0.2, 0.10, 0.1: all hold ✓"


def test_a_verdict_without_claims_is_an_error(shown):
    with pytest.raises(ClaimFailed, match="no claim"):
        verdict()
    assert shown == []


def test_about_marks_and_rounds():
    assert about(0.012345) == "≈ 0.012" and about(torch.tensor(2.0)) == "≈ 2" and about(0.012345, 4) == "≈ 0.01235"
