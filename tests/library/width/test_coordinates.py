"""``coordinate_check``: what one lr does, what ``width`` does, on three kinds of networks; and its report."""

import json

import matplotlib
import pytest
import torch
from torch import nn, optim
from torch.nn import functional

import scaleinv
from scaleinv import coordinate_check
from scaleinv.book import data, models
from tests.library.width.shared import mlp

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS = {  # name → model of a width, base, widths, kinds
    "mlp": (lambda n, seed: mlp(n, seed, head=1), 16, [32, 128, 512], {}),
    "convnet": (lambda n, seed: models.convnet(n, seed=seed), 8, [8, 16, 32], {}),
    "transformer": (lambda n, seed: models.transformer(n, seed=seed), 16, [16, 32, 64], {"position": "input"}),
}


def making(network, cls, lr, by_width=True, start="standard"):
    model_of, base, _, kinds = NETWORKS[network]
    x, y = next(data.batches(1, 64, seed=0, on="cpu"))

    def make(n, seed):
        model = model_of(n, seed)
        groups = model.parameters()
        if by_width:
            groups = scaleinv.width(model, model_of(base, 0), cls, {"lr": lr}, kinds=kinds, start=start).groups
        return model, cls(groups, lr=lr), lambda: functional.cross_entropy(model(x), y)

    return make


@pytest.mark.parametrize("network, last", [("mlp", "5"), ("convnet", "8"), ("transformer", "out")])
def test_with_one_lr_the_output_moves_as_the_width_and_by_width_hidden_modules_are_level(network, last):
    widths = NETWORKS[network][2]
    one = coordinate_check(making(network, optim.Adam, 1e-3, by_width=False), widths).frame()
    own = coordinate_check(making(network, optim.Adam, 1e-3), widths).frame()
    assert one.loc[last, "slope"] > 0.6 and one.loc[last, "verdict"] == "grows"
    assert own.loc[last, "slope"] < one.loc[last, "slope"] - 0.4
    # 0.25 is half of the smallest exponent; what passes through the last layer of the standard start grows besides
    assert (own["slope"].drop(last).abs() < 0.25).all()


def test_from_the_start_of_mup_everything_is_level_and_the_sentence_says_so():
    check = coordinate_check(making("mlp", optim.Adam, 1e-3), [32, 128, 512], steps=1)
    assert check.level and check.verdict.startswith("Level: no module's change grows or shrinks")
    assert list(check.frame().index) == ["1", "3", "5"]


def test_sgd_by_width_is_level_where_one_lr_shrinks_the_first_layer():
    one = coordinate_check(making("mlp", optim.SGD, 0.05, by_width=False), [32, 128, 512], steps=1).frame()
    own = coordinate_check(making("mlp", optim.SGD, 0.05, start="μP"), [32, 128, 512], steps=1).frame()
    assert one.loc["1", "slope"] == pytest.approx(-1, abs=0.25) and one.loc["1", "verdict"] == "shrinks"
    assert own["slope"].abs().max() < 0.25


def test_a_report_a_picture_and_a_document():
    check = coordinate_check(making("mlp", optim.Adam, 1e-3, by_width=False), [16, 32, 64], seeds=[0, 1])
    assert check.verdict.startswith("The change of 5 (slope ") and " grow" in check.verdict
    text = str(check)
    assert "change\nat" not in text and "grows" in text and max(map(len, text.splitlines())) <= 80
    figure = check.plot()
    assert figure.get_suptitle().replace("\n", " ").startswith("The change of 5 grows as width^")
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[16, 32, 64]] * 3
    assert "<img" in check._repr_html_() and matplotlib.get_backend()
    document = json.loads(json.dumps(check.as_dict(), allow_nan=False))
    assert document["level"] is False and len(document["data"]) == 3 * 2 * 4 * 3


def test_dropout_draws_the_same_in_each_pass_and_the_random_state_stays():
    x = torch.randn(16, 8)

    def make(n):
        model = nn.Sequential(nn.Linear(8, n), nn.Dropout(0.5), nn.Linear(n, 3))
        return model, optim.SGD(model.parameters(), lr=0.0), lambda: model(x).square().mean()

    state = torch.random.get_rng_state()
    check = coordinate_check(make, [4, 8, 16], seeds=[0, 1])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert set(check.data["change"]) == {0.0} and set(check.frame()["verdict"]) == {"level"}


def test_what_diverges_is_not_finite():
    def make(n):
        model = nn.Linear(4, n)
        return model, optim.SGD(model.parameters(), lr=1e30), lambda: model(torch.ones(2, 4)).pow(4).sum()

    check = coordinate_check(make, [4, 8, 16], seeds=[0, 1])
    assert not check.level and "not finite" in check.verdict and check.as_dict()["modules"][0]["slope"] is None
    assert "not finite" in str(check)


def noise(n):
    model = nn.Linear(4, n)
    stream = torch.Generator()
    return model, optim.SGD(model.parameters()), lambda: model(torch.randn(2, 4, generator=stream)).sum()


@pytest.mark.parametrize(
    "error, words, make, widths, seeds",
    [
        (TypeError, "make=3 cannot be called", 3, [1, 2, 3], [0, 1]),
        (ValueError, "give three widths or more", noise, [4, 8], [0, 1]),
        (ValueError, "two seeds or more", noise, [4, 8, 16], [0]),
        (ValueError, "widths=0 is below 1", noise, [0, 8, 16], [0, 1]),
        (ValueError, "when it is computed again; let it return the loss on one batch", noise, [4, 8, 16], [0, 1]),
        (TypeError, "make returns Linear, int; it has to return", lambda n: (nn.Linear(2, n), 3), [4, 8, 16], [0, 1]),
        (TypeError, "make returns Linear", lambda n: nn.Linear(2, n), [4, 8, 16], [0, 1]),
    ],
)
def test_what_cannot_be_checked_is_refused(error, words, make, widths, seeds):
    with pytest.raises(error, match=words):
        coordinate_check(make, widths, seeds=seeds)
