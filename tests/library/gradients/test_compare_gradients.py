"""``compare_gradients``: the verdict on two gradients that are there, and on two steps that are run."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from scaleinv import compare_gradients, convert
from scaleinv._gradients.factors import simple_fraction
from scaleinv.book import data, models

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient(dtype=torch.float32, seed=0):
    """Of a model of three tensors."""
    shapes = {"0.weight": (8, 6), "0.bias": (8,), "2.weight": (3, 8)}
    return {name: noise(*shape, seed=seed + i, dtype=dtype) for i, (name, shape) in enumerate(shapes.items())}


def times(factor, of):
    return {name: factor * value for name, value in of.items()}


def status(result):
    return {row.parameter: row.status for row in result.rows}


# One factor everywhere.


@pytest.mark.parametrize("factor", [9.0, 1 / 8, 3 / 2, 1 / 3, 4390.0, 65536.0, 1 / 569])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_factor_everywhere_is_named_exactly(factor, dtype):
    a = gradient(dtype)
    result = compare_gradients(a, times(factor, a))
    assert (result.kind, result.factor, result.change.loss) == ("factor", factor, factor)
    assert {row.status for row in result.rows} == {"factor"}


@settings(max_examples=25)
@given(st.floats(1e-6, 1e6))
def test_a_factor_is_found_and_is_the_inverse_the_other_way_round(factor):
    a = gradient(torch.float64)
    b = times(factor, a)
    result, back = compare_gradients(a, b), compare_gradients(b, a)
    assert result.factor == pytest.approx(factor, rel=1e-9)
    assert result.factor * back.factor == pytest.approx(1)


def test_a_change_is_what_convert_takes():
    a = gradient()
    change = compare_gradients(a, times(8.0, a)).change
    assert convert(torch.optim.SGD, {"lr": 0.5, "weight_decay": 0.01}, change) == {"lr": 0.0625, "weight_decay": 0.08}


def test_factors_that_are_no_simple_fraction_stay_as_measured():
    a = gradient(torch.float64)
    assert compare_gradients(a, times(math.pi / 3, a)).factor == pytest.approx(math.pi / 3, rel=1e-12)


def test_equal_gradients_agree_bit_for_bit():
    result = compare_gradients(gradient(), gradient())
    assert (result.kind, result.factor, str(result)) == ("equal", 1.0, "the gradients agree, bit for bit")
    almost = gradient()
    almost["0.bias"] = almost["0.bias"] * (1 + 2**-23)
    assert "bit for bit" not in str(compare_gradients(gradient(), almost))


def test_a_factor_near_one_is_not_equal():
    a = gradient()
    result = compare_gradients(a, times(1.0001, a))
    assert result.kind == "factor" and result.factor == pytest.approx(1.0001, rel=1e-7)


def test_a_loss_scale_is_named():
    a = gradient()
    assert "2^16 is a loss scale's: in b" in str(compare_gradients(a, times(65536.0, a)))
    assert "2^16 is a loss scale's: in a" in str(compare_gradients(times(65536.0, a), a))
    assert "loss scale" not in str(compare_gradients(a, times(64.0, a)))


def test_another_sign_is_no_change_of_units():
    a = gradient()
    result = compare_gradients(a, times(-2.0, a))
    assert (result.kind, result.factor, result.change) == ("sign", -2.0, None)


# Other factors, no factor.


def test_a_group_of_tensors_with_another_factor_is_named():
    a = gradient()
    result = compare_gradients(a, {**a, "2.weight": a["2.weight"] / 2})
    assert result.kind == "factors" and result.change is None and math.isnan(result.factor)
    assert "× 1 in 0.weight, 0.bias; × 1/2 in 2.weight" in result.verdict.text


def test_no_factor_has_its_cosine_and_rest():
    """b = a + e, e at right angles to a and of its norm: cosine 1/√2, √2 times as long."""
    a = torch.zeros(2, 4)
    e = torch.zeros(2, 4)
    a[0], e[1] = 1.0, 1.0
    result = compare_gradients({"w": a}, {"w": a + e})
    (row,) = result.rows
    assert (result.kind, row.status, result.change) == ("unequal", "unequal", None)
    assert row.cosine == pytest.approx(0.5**0.5) and row.factor == pytest.approx(2**0.5)
    assert row.rest == pytest.approx(0.5**0.5) and result.rest == row.rest and result.cosine == row.cosine


def test_the_tensors_together_are_one_vector():
    a, b = gradient(), gradient(seed=7)
    x, y = (torch.cat([value.flatten() for value in each.values()]).double() for each in (a, b))
    result = compare_gradients(a, b)
    assert result.cosine == pytest.approx((x @ y / x.norm() / y.norm()).item())
    assert result.rest == pytest.approx(((y - (x @ y) / (x @ x) * x).norm() / y.norm()).item())
    for row in result.rows:
        other = (b[row.parameter].double() - 2.5 * a[row.parameter].double()).norm().item()
        assert row.distance(2.5) == pytest.approx(other)


def test_one_tensor_without_a_factor_is_enough():
    a = gradient()
    result = compare_gradients(a, {**times(4.0, a), "2.weight": noise(3, 8, seed=9)})
    assert result.kind == "unequal" and "in 1 of 3 tensors, 2.weight" in result.verdict.text
    assert status(result) == {"0.weight": "factor", "0.bias": "factor", "2.weight": "unequal"}


def test_two_numbers_are_in_proportion_always_and_show_nothing():
    a = {"scale": torch.tensor(1.0), "shift": torch.tensor(2.0)}
    assert compare_gradients(a, {"scale": torch.tensor(3.0), "shift": torch.tensor(1.0)}).kind == "unequal"
    assert compare_gradients(a, times(3.0, a)).kind == "factor"


def test_factors_that_differ_by_more_than_rounding_are_told_apart():
    """As where one loss term counts one token more."""
    a = gradient()
    result = compare_gradients(a, {**a, "2.weight": a["2.weight"] * (3000 / 3001)})
    assert result.kind == "factors" and "× 0.9997 in 2.weight" in result.verdict.text
    many = {f"{i}.weight": noise(20, seed=i) for i in range(40)}
    drifting = {name: value * (1 + 1e-4 * i) for i, (name, value) in enumerate(many.items())}
    assert compare_gradients(many, drifting).kind == "factors"


def test_rounding_beside_larger_gradients_is_not_a_direction():
    """A bias before a softmax or a normalisation has a gradient of zero, up to rounding."""
    a = {**gradient(), "key.bias": 1e-8 * noise(8, seed=5)}
    b = {**times(4.0, gradient()), "key.bias": 1e-8 * noise(8, seed=6)}
    result = compare_gradients(a, b)
    assert (result.kind, result.factor, status(result)["key.bias"]) == ("factor", 4.0, "too_small")
    assert "Too small to tell" in str(result)
    b["key.bias"] = 1e-4 * noise(8, seed=6)
    assert compare_gradients(a, b).kind == "unequal"


# No gradient, zeros, NaN.


def test_a_gradient_in_one_of_them_only_is_named():
    a = gradient()
    result = compare_gradients(a, {**times(2.0, a), "0.bias": None})
    assert result.kind == "missing" and result.change is None
    assert "b is 2 × a" in result.verdict.text and "A gradient in a, and none in b: 0.bias." in result.verdict.notes
    zeros = {**a, "0.bias": torch.zeros(8)}
    assert status(compare_gradients(zeros, a))["0.bias"] == "only_b"


def test_zeros_and_none_are_told_apart():
    a = {**gradient(), "frozen": torch.zeros(3)}
    result = compare_gradients(a, {**gradient(), "frozen": None})
    assert result.kind == "equal" and "None in one, zeros in the other: frozen" in str(result)
    assert "None in one" not in str(compare_gradients(a, a))


def test_no_gradient_in_b_at_all():
    a = gradient()
    result = compare_gradients(a, dict.fromkeys(a))
    assert result.kind == "missing" and "b has no gradient" in str(result)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_named(bad):
    a, b = gradient(), gradient()
    b["0.bias"][2] = bad
    result = compare_gradients(a, b)
    assert result.kind == "not_finite" and "in b" not in result.verdict.text.replace("0.bias in b", "")
    assert "0.bias in b" in result.verdict.text or "b in 0.bias" in result.verdict.text
    assert status(result) == {"0.weight": "factor", "0.bias": "not_finite", "2.weight": "factor"}


# Formats of tensors.


def test_complex_sparse_and_half_gradients():
    z = noise(6, 2).view(6, 2)
    assert compare_gradients({"z": torch.view_as_complex(z)}, {"z": torch.view_as_complex(3 * z)}).factor == 3
    assert compare_gradients({"z": torch.view_as_complex(z)}, {"z": 1j * torch.view_as_complex(z)}).kind == "unequal"
    rows = torch.sparse_coo_tensor([[1, 3, 1]], noise(3, 4), (5, 4), check_invariants=True)
    assert compare_gradients({"e": rows}, {"e": 2 * rows.to_dense()}).factor == 2
    half = {name: value.half() for name, value in gradient().items()}
    assert compare_gradients(half, times(4.0, half)).factor == 4


def test_large_tensors_are_summed_in_float64_block_by_block():
    a = 1 + noise(700_000) / 8
    row = compare_gradients({"w": a}, {"w": 3 * a + 0.01 * noise(700_000, seed=1)}).rows[0]
    exact, other = a.double(), (3 * a + 0.01 * noise(700_000, seed=1)).double()
    assert row.factor == pytest.approx((other.norm() / exact.norm()).item(), rel=1e-13)
    assert row.cosine == pytest.approx((exact @ other / exact.norm() / other.norm()).item(), rel=1e-13)


# Steps: the accumulation mistake.

TOKENS = [24, 20, 16, 12, 8, 4, 2, 1]


def language_model():
    """A small model, eight sequences of other lengths, and their loss by ``reduction``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 20))
    x = torch.randint(20, (8, 24))
    y = torch.randint(20, (8, 24)).masked_fill(torch.arange(24) >= torch.tensor(TOKENS)[:, None], -100)
    return model, x, y, lambda x, y, **how: cross_entropy(model(x).mT, y, **how)


def accumulate(pieces, loss, x, y):
    def step():
        for part, target in zip(x.chunk(pieces), y.chunk(pieces)):
            loss(part, target).backward()

    return step


def test_accumulation_right_not_divided_and_a_mean_of_means():
    model, x, y, loss = language_model()
    tokens = sum(TOKENS)

    def whole():
        loss(x, y).backward()

    right = accumulate(4, lambda x, y: loss(x, y, reduction="sum") / tokens, x, y)
    summed = accumulate(4, lambda x, y: 4 * loss(x, y, reduction="sum") / tokens, x, y)
    means = accumulate(4, lambda x, y: loss(x, y) / 4, x, y)
    results = [compare_gradients(whole, step, model) for step in (right, summed, means)]
    assert [result.kind for result in results] == ["equal", "factor", "unequal"]
    assert results[1].factor == 4 and "a divides by 4 once more than b" in str(results[1])
    assert "examples are weighted unequally" in str(results[2]) and results[2].noise == 0


def test_a_mean_of_means_over_pieces_of_one_size_is_the_mean():
    model, x, y, loss = language_model()
    y = y.clamp(min=0)
    means = accumulate(4, lambda x, y: loss(x, y) / 4, x, y)
    assert compare_gradients(lambda: loss(x, y).backward(), means, model).kind == "equal"


def test_under_autocast_rounding_is_not_taken_for_weights():
    model, x, y, loss = language_model()

    def half(step):
        def run():
            with torch.autocast("cpu", torch.bfloat16):
                step()

        return run

    def whole():
        loss(x, y).backward()

    right = accumulate(4, lambda x, y: loss(x, y, reduction="sum") / sum(TOKENS), x, y)
    means = accumulate(4, lambda x, y: loss(x, y) / 4, x, y)
    assert compare_gradients(half(whole), half(right), model).kind == "equal"
    assert compare_gradients(half(whole), half(means), model).kind == "unequal"
    assert compare_gradients(half(whole), half(right), model, tolerance=1e-5).kind == "unequal"


def test_of_saved_gradients_the_format_is_not_known_and_small_differences_are_unclear():
    a = gradient()
    b = {name: value * (1 + 2e-3 * noise(*value.shape, seed=7)) for name, value in a.items()}
    assert compare_gradients(a, b).kind == "unclear"
    assert compare_gradients(a, b, tolerance=0.09).kind == "equal"
    assert compare_gradients(a, b, tolerance=3e-4).kind == "unequal"


# Steps that differ from themselves.


def digits_and(model):
    x, y = next(data.batches(1))
    return lambda: cross_entropy(model(x), y).backward()


def test_dropout_that_draws_other_masks_is_not_taken_for_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))
    x, y = next(data.batches(1))

    def backwards():
        for part, target in zip(reversed(x.chunk(2)), reversed(y.chunk(2))):
            (cross_entropy(model(part), target) / 2).backward()

    whole = digits_and(model)
    result = compare_gradients(whole, backwards, model)
    assert result.kind == "random" and "dropout" in str(result)
    assert compare_gradients(whole, lambda: 3 * cross_entropy(model(x), y), model).factor == 3  # the same masks
    model.eval()
    assert compare_gradients(whole, backwards, model).kind == "equal"


def test_a_step_that_takes_other_data_each_time_differs_from_itself():
    model = models.mlp()
    batches = itertools.cycle(data.batches(5))

    def step():
        x, y = next(batches)
        cross_entropy(model(x), y).backward()

    result = compare_gradients(step, step, model)
    assert result.kind == "random" and "next data" in str(result) and result.noise > 0.1


def test_batch_norm_is_named_among_the_causes():
    model = models.convnet()
    x, y = next(data.batches(1))
    pieces = accumulate(4, lambda x, y: cross_entropy(model(x), y) / 4, x, y)
    result = compare_gradients(digits_and(model), pieces, model)
    assert result.kind == "unequal" and "batch norm" in str(result)
    model.eval()
    assert compare_gradients(digits_and(model), pieces, model).kind == "equal"


def test_a_scaler_that_has_not_unscaled():
    model = models.mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = next(data.batches(1))

    def scaled(unscale):
        def step():
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
            scaler.scale(cross_entropy(model(x), y)).backward()
            if unscale:
                scaler.unscale_(optimizer)

        return step

    whole = digits_and(model)
    assert compare_gradients(whole, scaled(True), model).kind == "equal"
    assert compare_gradients(whole, scaled(False), model).factor == 2.0**16


def test_a_step_that_does_not_run_twice_is_compared_all_the_same():
    model = models.mlp()
    batches = iter([next(data.batches(1))] * 2)

    def step():
        x, y = next(batches)
        cross_entropy(model(x), y).backward()

    result = compare_gradients(step, step, model)
    assert result.kind == "equal" and math.isnan(result.noise)


# Losses that are returned; loss terms.


def test_a_returned_loss_is_differentiated():
    model = models.mlp()
    x, y = next(data.batches(1))
    result = compare_gradients(lambda: cross_entropy(model(x), y), lambda: cross_entropy(model(x), y) * 2, model)
    assert (result.kind, result.factor) == ("factor", 2.0)
    logging = compare_gradients(lambda: {"loss": float(digits_and(model)() or 0)}, digits_and(model), model)
    assert logging.kind == "equal"  # what a step returns besides its gradients


def losses(model, weights):
    x, y = next(data.batches(1))

    def step():
        logits = model(x)
        terms = {"task": cross_entropy(logits, y), "z": logits.logsumexp(1).square().mean()}
        return {term: weights[term] * loss for term, loss in terms.items()}

    return step


def test_each_loss_term_has_its_own_verdict():
    model = models.mlp()
    a, b = (losses(model, {"task": 1.0, "z": weight}) for weight in (1.0, 1 / 8))
    result = compare_gradients(a, b, model)
    assert result.kind == "terms" and "task × 1, z × 1/8" in result.verdict.text and result.change is None
    assert {term: each.factor for term, each in result.terms.items()} == {"task": 1.0, "z": 1 / 8}
    assert compare_gradients(a, a, model).kind == "equal"
    twice = compare_gradients(a, losses(model, {"task": 2.0, "z": 2.0}), model, optimizer=torch.optim.AdamW)
    assert (twice.kind, twice.factor) == ("factor", 2.0) and "AdamW does not see it" in str(twice)
    assert set(result.frame().term) == {"task", "z"}


def test_a_loss_term_that_does_not_reach_the_model():
    model = models.mlp()

    def detached():
        terms = losses(model, {"task": 1.0, "z": 1.0})()
        return {**terms, "z": terms["z"].detach()}

    result = compare_gradients(losses(model, {"task": 1.0, "z": 1.0}), detached, model)
    assert result.kind == "missing" and "loss term z: b has no gradient" in result.verdict.text


def test_loss_terms_as_steps_of_their_own():
    model = models.mlp()
    step = losses(model, {"task": 1.0, "z": 0.5})
    a = {term: lambda term=term: step()[term].backward() for term in ("task", "z")}
    b = {"task": lambda: (3 * step()["task"]).backward(), "z": a["z"]}
    result = compare_gradients(a, b, model)
    assert {term: each.factor for term, each in result.terms.items()} == {"task": 3.0, "z": 1.0}


# Names.


def test_wrapped_models_have_the_same_tensors():
    a = gradient()
    for wrapper in ("module.{}", "_orig_mod.{}", "module._orig_mod.{}", "model.{}"):
        result = compare_gradients(a, {wrapper.format(name): 2 * value for name, value in a.items()})
        assert (result.kind, [row.parameter for row in result.rows]) == ("factor", list(a)), wrapper
    inside = {name.replace("0.", "0._checkpoint_wrapped_module."): value for name, value in a.items()}
    assert compare_gradients(a, inside).kind == "equal"


def test_steps_on_two_models_return_their_gradients():
    x, y = noise(6, 4), noise(6, 2)
    plain = nn.Linear(4, 2)
    wrapped = nn.DataParallel(nn.Linear(4, 2))
    wrapped.module.load_state_dict(plain.state_dict())

    def step(model, factor):
        def run():
            model.zero_grad()
            (factor * mse_loss(model(x), y)).backward()
            return model

        return run

    assert compare_gradients(step(plain, 1.0), step(wrapped, 5.0)).factor == 5
    assert compare_gradients(plain, wrapped).factor == 5  # the gradients that they hold now


def test_a_compiled_model_and_a_wrapped_one_are_run():
    model, x, y, loss = language_model()
    whole = lambda: loss(x, y).backward()  # noqa: E731
    compiled = torch.compile(model, backend="eager")
    result = compare_gradients(whole, lambda: 2 * cross_entropy(compiled(x).mT, y), compiled)
    assert (result.kind, result.factor) == ("factor", 2.0)
    assert compare_gradients(whole, lambda: loss(x, y), nn.DataParallel(model)).kind == "equal"


# What the optimizer sees.


class Renamed(torch.optim.AdamW):
    pass


@pytest.mark.parametrize(
    "optimizer, words",
    [
        (torch.optim.AdamW, "AdamW does not see it but for eps and max_norm: b trains as a does with eps × 4"),
        (torch.optim.Adam, "Adam does not see it but for eps, weight_decay and max_norm"),
        (torch.optim.SGD, "SGD sees it: b trains as a does with lr / 4, weight_decay × 4 and max_norm × 4"),
        (torch.optim.Muon, "Muon does not see it but for eps and max_norm"),
        (torch.optim.Adafactor, "Adafactor does not see it but for eps[0] and max_norm"),
        (Renamed, "AdamW does not see it but for eps and max_norm"),
        (torch.optim.RAdam, "What RAdam sees of it is not a matter of one number"),
        (torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), "with lr / 4 and max_norm × 4"),
        (torch.optim.Adam([nn.Parameter(torch.ones(2))], weight_decay=0.1), "but for eps, weight_decay and max_norm"),
        (torch.optim.Adam([nn.Parameter(torch.ones(2))]), "but for eps and max_norm"),
    ],
)  # fmt: skip
def test_what_an_optimizer_sees_of_a_factor(optimizer, words):
    a = gradient()
    result = compare_gradients(a, times(4.0, a), optimizer=optimizer)
    assert words in " ".join(result.seen.split())
    assert compare_gradients(a, a, optimizer=optimizer).seen == ""


def test_numbers_that_differ_in_the_last_digit_are_not_the_same_bit_for_bit():
    a, b = torch.tensor(1.0), torch.tensor(1.0 + 2**-23)
    assert str(compare_gradients({"w": a}, {"w": b})) == "the gradients agree, to within 1e-07"


def test_in_a_coarse_format_a_factor_is_not_taken_for_a_fraction():
    half = {name: value.bfloat16() for name, value in gradient().items()}
    assert compare_gradients(half, times(64.0, half)).factor == 64
    assert simple_fraction(64.5, 3e-4) is None and simple_fraction(64.0, 3e-4) == 64
    assert simple_fraction(64.5, 1e-5) == Fraction(129, 2)


def test_a_part_of_a_name_that_tells_tensors_apart_is_kept():
    a = {"weight": noise(4, 3), "module.weight": noise(4, 3, seed=1)}
    result = compare_gradients(a, times(2.0, a))
    assert (result.kind, result.factor, [row.parameter for row in result.rows]) == ("factor", 2.0, list(a))
