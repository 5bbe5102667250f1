"""A claim that holds is shown in one stable line; a claim that does not hold raises."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from scaleinv.book import claims
from scaleinv.book.claims import ClaimFailed, about, claim, predict, verdict


@pytest.fixture
def shown(monkeypatch):
    """What claims display, in a process that has checked none before."""
    outputs = []
    monkeypatch.setattr(claims, "_checked", [])
    monkeypatch.setattr(claims, "_predicted", [])
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
    claim("0.1", "a statement", measured, **expected, kind="identity")
    assert len(shown) == 1 and shown[0]["text/plain"].endswith("✓")


@pytest.mark.parametrize("measured, expected", FAIL)
def test_a_claim_that_does_not_hold_raises_and_shows_nothing(shown, measured, expected):
    with pytest.raises(ClaimFailed):
        claim("0.1", "a statement", measured, **expected, kind="identity")
    assert shown == []


@pytest.mark.parametrize("measured, expected", FAIL)
def test_one_of_several_numbers_that_does_not_hold_raises(shown, measured, expected):
    holds = next(x for x, other in HOLD if other == {"equals": 0}) if "equals" not in expected else expected["equals"]
    with pytest.raises(ClaimFailed):
        claim("0.1", "a statement", {"first": holds, "second": measured, "third": holds}, **expected, kind="identity")
    assert shown == []


@pytest.mark.parametrize(
    "measured, expected, line",
    [
        (4.0, {"equals": 4}, "4 (expected 4)"),
        (0, {"equals": 0}, "0 (expected 0)"),
        (0.98765, {"equals": 1, "tolerance": 0.07}, "≈ 0.988 (expected 1 ± 7 %)"),
        (7.2694, {"equals": 7.26987, "tolerance": 1e-3}, "≈ 7.269 (expected 7.27 ± 0.1 %)"),
        (1.0000004, {"equals": 1, "tolerance": 1e-6}, "≈ 1.000000 (expected 1 ± 0.0001 %)"),
        (1.234e-7, {"at_most": 1e-5}, "≈ 1.2e-07 (expected ≤ 1e-05)"),
        (12345.0, {"at_least": 100}, "≈ 12000 (expected ≥ 100)"),
        (0.9501, {"at_least": 0.95}, "≈ 0.95 (expected ≥ 0.95)"),
        (12.6, {"at_most": 12.7}, "≈ 12.6 (expected ≤ 12.7)"),
        (12345, {"at_least": 10000}, "≈ 12345 (expected ≥ 10000)"),
        (100001.0, {"equals": 1e5, "tolerance": 0.01}, "≈ 100000 (expected 100000 ± 1 %)"),
        (np.int64(1234), {"equals": 1000, "tolerance": 0.3}, "≈ 1234 (expected 1000 ± 30 %)"),
        (2.0, {"at_most": 3, "at_least": 1}, "≈ 2.0 (expected ≤ 3 and ≥ 1)"),
        (1, {"equals": 1, "at_most": 3}, "1 (expected 1 and ≤ 3)"),
        ({"Adam": 4, "SGD": 4.0}, {"equals": 4}, "Adam: 4, SGD: 4 (expected 4)"),
        ({"Adam": 1.04, "SGD": 2.0}, {"at_most": 3}, "Adam: ≈ 1.0, SGD: ≈ 2.0 (expected ≤ 3)"),
        ({"a": 1.0, "b": 2.0}, {"equals": {"b": 2, "a": 1}}, "a: 1, b: 2 (expected b: 2, a: 1)"),
        (
            {"a": 1.01, "b": 2.0},
            {"equals": {"a": 1, "b": 1.98}, "tolerance": 0.02},
            "a: ≈ 1.01, b: ≈ 2.00 (expected a: 1, b: 1.98, each ± 2 %)",
        ),
    ],
)
def test_the_line_names_what_was_claimed_measured_and_expected(shown, measured, expected, line):
    claim("0.1", "a statement", measured, **expected, kind="identity")
    assert shown[0]["text/plain"] == f"claim 0.1 (identity): a statement: {line} ✓"


@pytest.mark.parametrize("four", [4, 4.0, True + 3, Fraction(4), np.float32(4), np.array(4), torch.tensor([4.0])])
def test_whatever_converts_to_a_float_can_be_measured(shown, four):
    claim("0.1", "a statement", four, equals=4, kind="identity")
    assert shown[0]["text/plain"] == "claim 0.1 (identity): a statement: 4 (expected 4) ✓"


def test_the_message_of_a_failed_claim_names_what_was_expected_and_measured():
    with pytest.raises(ClaimFailed, match=r"claim 0\.1: a statement: expected 1, measured 1\.0000000001$"):
        claim("0.1", "a statement", 1.0000000001, equals=1, kind="identity")
    with pytest.raises(ClaimFailed, match=r"expected ≤ 1, measured b: 2, c: nan$"):
        claim("0.1", "a statement", {"a": 0.5, "b": 2, "c": math.nan}, at_most=1, kind="identity")


@pytest.mark.parametrize("measured", [1.0, math.nan])
@pytest.mark.parametrize("expected", [{}, {"tolerance": 0.1}])
def test_a_claim_that_expects_nothing_is_an_error(shown, measured, expected):
    with pytest.raises(TypeError, match="claim 0.1: nothing expected"):
        claim("0.1", "a statement", measured, **expected, kind="identity")
    assert shown == []


def test_a_claim_without_numbers_is_an_error(shown):
    with pytest.raises(ValueError, match="claim 0.1: measured={} holds no number"):
        claim("0.1", "a statement", {}, equals=1, kind="identity")


@pytest.mark.parametrize("equals", [{"a": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "c": 1}])
def test_expected_values_have_the_labels_of_the_measured_ones(shown, equals):
    with pytest.raises(ValueError, match="claim 0.1: equals has the labels"):
        claim("0.1", "a statement", {"a": 1, "b": 1}, kind="identity", equals=equals)
    assert shown == []


def test_each_number_is_compared_with_its_own_expected_value():
    with pytest.raises(ClaimFailed, match="measured b: 1.0$"):
        claim("0.1", "a statement", {"a": 1.0, "b": 1.0}, kind="identity", equals={"a": 1, "b": 2})


def test_an_observation_names_its_scope(shown):
    with pytest.raises(ValueError, match="claim 0.1: an observation .* scope="):
        claim("0.1", "a statement", 1, kind="observation", equals=1)
    assert shown == []
    claim("0.1", "a statement", 1, kind="observation", scope="an <MLP>", equals=1)
    assert shown[0]["text/plain"] == "claim 0.1 (observation): a statement: 1 (expected 1) ✓ [an <MLP>]"
    assert "<small>an &lt;MLP&gt;</small>" in shown[0]["text/html"]


def test_a_law_is_predicted_before_it_is_claimed(shown):
    with pytest.raises(ValueError, match=r"claim 0.1: a law is predicted .* predict\('0.1'"):
        claim("0.1", "a statement", 1, kind="law", equals=1)
    assert shown == []
    predicted = torch.tensor(1.23456)
    assert predict("0.1", "a <statement>", predicted) is predicted
    assert (
        shown[0]["text/plain"] == "prediction 0.1: a <statement>: 1.235" and "<statement>" not in shown[0]["text/html"]
    )
    claim("0.1", "a statement", 1.2, kind="law", equals=predicted, tolerance=0.1)
    assert shown[1]["text/plain"] == "claim 0.1 (law): a statement: ≈ 1.2 (expected 1.235 ± 10 %) ✓"


def test_a_prediction_of_several_numbers_names_each(shown):
    predict("0.1", "a statement", {"a": 1, "b": 2e-9})
    assert shown[0]["text/plain"] == "prediction 0.1: a statement: a: 1, b: 2e-09"


@pytest.mark.parametrize("kind", ["Law", "", "laws"])
def test_another_kind_is_an_error(shown, kind):
    with pytest.raises(ValueError, match=f"claim 0.1: kind={kind!r}; pass one of 'identity', 'law', 'observation'"):
        claim("0.1", "a statement", 1, kind=kind, equals=1)
    assert shown == []


def test_html_is_escaped_and_the_plain_text_is_not(shown):
    claim("0.1", "<b> & 'k' > 0", {"<i>": 1}, equals=1, kind="identity")
    assert shown[0]["text/plain"] == "claim 0.1 (identity): <b> & 'k' > 0: <i>: 1 (expected 1) ✓"
    html = shown[0]["text/html"]
    assert "&lt;b&gt; &amp; &#x27;k&#x27; &gt; 0" in html and "&lt;i&gt;: 1" in html
    assert "<i>" not in html and " & " not in html


def test_outside_a_notebook_a_claim_prints_its_line(capsys, monkeypatch):
    monkeypatch.setattr(claims, "_checked", [])
    claim("0.1", "a statement", 1, equals=1, kind="identity")
    assert capsys.readouterr().out == "claim 0.1 (identity): a statement: 1 (expected 1) ✓\n"


def test_the_verdict_counts_the_checks_of_each_kind_and_names_each_claim_once_in_order(shown):
    for number in ("0.2", "0.10", "0.2"):
        claim(number, "a statement", 1, kind="identity", equals=1)
    claim("0.1", "a statement", 1, kind="observation", scope="ones", equals=1)
    with pytest.raises(ClaimFailed):
        claim("0.3", "a statement", 2, kind="identity", equals=1)
    verdict()
    line = "verdict: 4 checks (3 identities, 1 observation) of the claims 0.2, 0.10, 0.1: all hold ✓"
    assert shown[-1]["text/plain"] == line


def test_a_verdict_without_claims_is_an_error(shown):
    with pytest.raises(ClaimFailed, match="no claim"):
        verdict()
    assert shown == []


def test_about_marks_and_rounds():
    assert about(0.012345) == "≈ 0.012" and about(torch.tensor(2.0)) == "≈ 2.0" and about(0.012345, 4) == "≈ 0.01235"
    assert about(150.4) == "≈ 150" and about(15) == "≈ 15" and about(1.5e7) == "≈ 1.5e+07"
    assert about(99.96) == "≈ 100" and about(9e-6, 1) == "≈ 9e-06"
