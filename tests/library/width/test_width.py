"""``width``: the exponents of published tables, groups that keep what they had, and what cannot be told refused."""

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn, optim

import scaleinv
from scaleinv import width
from tests.library.width.shared import Noisy, Sign, Spectral, mlp

pytestmark = pytest.mark.usefixtures("one_thread")

# Powers of n for input, hidden and output.  μP: Yang et al. (2021), arXiv 2203.03466, Table 3; the standard start:
# Everett et al. (2024), arXiv 2407.05872; Muon: √(fan_out/fan_in) for a spectral norm (Yang et al., 2023, arXiv
# 2310.17813), over the factor √max(1, rows/columns) that torch multiplies by itself.
LR = {
    ("SGD", "standard"): (0.5, -0.5, -1),
    ("SGD", "μP"): (1, 0, -1),
    ("Adam", "standard"): (0, -1, -1),
    ("Adam", "μP"): (0, -1, -1),
    ("AdamW", "μP"): (0, -1, -1),
    ("Adagrad", "μP"): (0, -1, -1),
    ("RMSprop", "standard"): (0, -1, -1),
    ("Adafactor", "standard"): (0, -0.5, -0.5),
    ("Adafactor", "μP"): (0, -0.5, 0),
    ("Muon", "μP"): (0, 0, -0.5),
    ("Muon", "standard"): (0, 0, -0.5),
}
NAMES = "1.weight", "3.weight", "5.weight"


def powers(result, column="n^lr"):
    return tuple(result.frame()[column])


def model_and_optimizer(cls, **settings):
    model = mlp(256, bias=True)
    return model, cls(model.parameters(), **settings)


@pytest.mark.parametrize("name, start", LR)
def test_exponents_of_lr_are_those_of_the_published_tables(name, start):
    model, base = (mlp(n, head={"standard": 0.5, "μP": 1}[start]) for n in (1024, 256))
    assert powers(width(model, base, getattr(optim, name), start=start)) == LR[name, start]
    assert powers(width(model, base, getattr(optim, name))) == LR[name, start]  # by the numbers of the two models


@pytest.mark.parametrize("adjust, expected", [("original", (0, 0, -0.5)), ("match_rms_adamw", (0, -0.5, -1))])
def test_muons_own_factor_for_the_shape_counts(adjust, expected):
    model = mlp(1024)
    muon = optim.Muon(model.parameters(), lr=0.02, adjust_lr_fn=adjust)
    assert powers(width(model, mlp(256), muon)) == expected


def test_where_a_factor_for_the_shape_sets_in_between_the_widths_it_is_refused():
    with pytest.raises(ValueError, match="Muon: how a step goes with the shape changes between"):
        width(mlp(256), mlp(16), optim.Muon)


def test_eps_goes_with_the_gradient_and_decay_keeps_its_share():
    model, base = mlp(64, head=1), mlp(16, head=1)
    frame = width(model, base, optim.AdamW, {"lr": 0.5, "eps": 1.0, "weight_decay": 0.25}).frame()
    assert list(frame["lr"]) == [0.5, 0.125, 0.125] and list(frame["eps"]) == [0.25, 0.25, 1.0]
    assert list(frame["weight_decay"]) == [0.25, 1.0, 1.0]
    coupled = width(model, base, optim.SGD, {"lr": 0.5, "weight_decay": 0.25}).frame()
    assert list(coupled["lr"] * coupled["weight_decay"]) == [0.125] * 3
    # Adam divides λ·w by the size of the gradient: λ·w/RMS(g), times lr, is the share
    adam = width(model, base, optim.Adam, {"lr": 0.5, "weight_decay": 0.25}).frame()
    share = adam["n^lr"] + adam["n^weight_decay"] - adam["n^eps"]
    assert list(share) == [0, 0, 0]
    pair = width(model, base, optim.Adafactor, {"eps": (1.0, 2**-9)}).frame()
    assert list(pair["eps"]) == [(0.25, 2**-9), (0.25, 2**-10), (1.0, 2**-11)]


def test_biases_norms_and_embeddings_are_inputs_and_the_last_bias_stays():
    def make(n):
        return nn.Sequential(nn.Embedding(7, n), nn.Linear(n, n), nn.LayerNorm(n), nn.Linear(n, 5))

    frame = width(make(64), make(16), optim.SGD, {"lr": 1.0}, start="μP").frame()
    assert list(frame["kind"]) == ["input", "hidden", "vector", "vector", "vector", "output", "fixed"]
    assert list(frame["lr"]) == [4, 1, 4, 4, 4, 0.25, 1]


def test_convolutions_and_tensors_stored_the_other_way_round():
    def make(n):
        layers = nn.Conv2d(3, n, 3), nn.Conv2d(n, 2 * n, 3), nn.Conv2d(2 * n, 2 * n, 3, groups=2 * n)
        return nn.Sequential(*layers, nn.ConvTranspose2d(2 * n, 3, 2))

    frame = width(make(32), make(8), optim.Adam, start="standard").frame()
    weights = frame.loc[[name for name in frame.index if name.endswith("weight")]]
    assert list(weights["kind"]) == ["input", "hidden", "input", "output"]
    assert list(weights["n^lr"]) == [0, -1, 0, -1]


def test_the_groups_of_an_optimizer_are_kept_and_divided():
    model = mlp(64, bias=True)
    groups = [
        {"params": [("a", model[1].weight), ("b", model[3].weight)], "weight_decay": 0.0, "note": "mine"},
        {"params": [("c", model[1].bias)], "lr": 0.5},
    ]
    old = optim.AdamW(groups, lr=1.0, betas=(0.8, 0.9))
    optim.lr_scheduler.LambdaLR(old, lambda step: 0.5)
    result = width(model, mlp(16, bias=True), old, start="standard")
    new = optim.AdamW(result.groups)
    told = [(g["param_names"], g["initial_lr"], g["lr"], g["weight_decay"], g["betas"]) for g in new.param_groups]
    assert told == [
        (["a"], 1.0, 0.5, 0.0, (0.8, 0.9)),
        (["b"], 0.25, 0.125, 0.0, (0.8, 0.9)),
        (["c"], 0.5, 0.25, 0.01, (0.8, 0.9)),
    ]
    assert result.groups[0]["note"] == "mine" and old.param_groups[0]["lr"] == 0.5
    assert all("because" not in g for g in new.param_groups)


def test_an_optimizer_without_an_lr_is_refused():
    class Without(optim.SGD):
        def __init__(self, params):
            super().__init__(params, lr=0.1)

    with pytest.raises(ValueError, match="Without: lr has no unit"):
        width(mlp(64), mlp(16), Without)


def test_nothing_changes_but_what_is_returned():
    model, old = model_and_optimizer(optim.AdamW, lr=0.5)
    base = mlp(16, bias=True)
    before, state = copy.deepcopy(old.state_dict()), torch.random.get_rng_state()
    width(model, base, old, start="standard")
    assert old.state_dict() == before and torch.equal(torch.random.get_rng_state(), state)


def test_the_base_as_shapes_or_as_a_state_dict():
    model, base = mlp(64), mlp(16)
    shapes = {name: tuple(p.shape) for name, p in base.named_parameters()}
    expected = powers(width(model, base, optim.SGD))
    assert powers(width(model, base.state_dict(), optim.SGD)) == expected
    assert powers(width(model, shapes, optim.SGD, start="standard")) == expected
    assert powers(width(model, shapes, optim.AdamW, {"eps": 0.0})) == (0, -1, -1)  # the start does not matter
    with torch.device("meta"):
        outline = mlp(16)
    for without_numbers in (shapes, outline):
        with pytest.raises(ValueError, match="base has no numbers.*start='standard'"):
            width(model, without_numbers, optim.SGD)


def test_a_last_layer_that_starts_at_zero_has_the_gradients_of_mup():
    model, base = mlp(64), mlp(16)
    for each in (model, base):
        nn.init.zeros_(each[5].weight)
    assert powers(width(model, base, optim.SGD)) == (1, 0, -1)


def test_at_the_base_width_nothing_changes_and_a_narrower_model_has_larger_lr():
    same = width(mlp(16), mlp(16), optim.SGD, {"lr": 0.5})
    assert same.n == 1 and set(same.frame()["lr"]) == {0.5}
    narrow = width(mlp(16), mlp(64), optim.Adam, {"lr": 1.0})
    assert narrow.n == Fraction(1, 4) and list(narrow.frame()["lr"]) == [1, 4, 4]


def test_optimizers_of_others_by_measured_units_and_a_trial():
    model, base = mlp(1024), mlp(256)
    assert powers(width(model, base, Sign, {"weight_decay": 0.1})) == (0, -1, -1)
    assert powers(width(model, base, Sign, {"weight_decay": 0.1}), "n^weight_decay") == (0, 0, 0)
    assert powers(width(model, base, Spectral)) == (0, 0, 0)


def test_tied_weights_are_refused_and_told_what_to_do():
    class Tied(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.token, self.hidden, self.head = nn.Embedding(7, n), nn.Linear(n, n), nn.Linear(n, 7, bias=False)
            self.head.weight = self.token.weight

    with pytest.raises(ValueError, match="'token.weight' and 'head.weight' are tied.*divide the logits by n = 4"):
        width(Tied(64), Tied(16), optim.AdamW)
    way_out = width(Tied(64), Tied(16), optim.AdamW, kinds={"token.weight": "input"}, start="μP")
    assert powers(way_out)[:2] == (0, -1)


def raw(n, shape):
    model = nn.Module()
    model.p = nn.Parameter(torch.ones(*(n if side is None else side for side in shape)))
    return model


REFUSED = [
    (
        ValueError,
        "'p' grows from .3, 16. to .3, 64.*kinds={'p': 'input'}",
        lambda: (raw(64, (3, None)), raw(16, (3, None))),
    ),
    (ValueError, "3 of its sides grow", lambda: (raw(8, [None] * 3), raw(4, [None] * 3))),
    (ValueError, "number of entries grows", lambda: (nn.Embedding(8, 3), nn.Embedding(4, 3))),
    (ValueError, "grows 2 times.* 4 times", lambda: (nn.Linear(64, 32), nn.Linear(16, 16))),
    (ValueError, "'weight' is in one of the two", lambda: (nn.Linear(4, 4), {"bias": (4,)})),
    (ValueError, "'bias' is in one of the two", lambda: (nn.Linear(4, 4, False), nn.Linear(4, 4))),
    (ValueError, "has the shape .2, 2, 2.", lambda: (nn.Linear(4, 4, False), {"weight": (2, 2, 2)})),
    (TypeError, "base=4 is not a module", lambda: (nn.Linear(4, 4), 4)),
    (TypeError, "not a torch.nn.Module", lambda: (None, nn.Linear(4, 4))),
]


@pytest.mark.parametrize("error, words, pair", REFUSED)
def test_models_that_cannot_be_told_are_refused(error, words, pair):
    with pytest.raises(error, match=words):
        width(*pair(), optim.Adam, start="standard")


@pytest.mark.parametrize(
    "cls, settings, words",
    [
        (optim.RAdam, {}, "RAdam: lr has no unit: RAdam takes SGD's steps"),
        (optim.Adadelta, {}, "a step goes with the gradient to the power .*authors' rule"),
        (optim.Rprop, {}, "step_sizes=.* has the unit W"),
        (Noisy, {}, "which is no power of ½"),
        (optim.Adam, {"lrr": 1}, r"settings\['lrr'\] is not a hyperparameter of Adam"),
        (optim.Adagrad, {"initial_accumulator_value": 0.5}, "initial_accumulator_value=0.5 has the unit"),
    ],
)
def test_optimizers_that_do_not_follow_from_units_are_refused(cls, settings, words):
    with pytest.raises(ValueError, match=words):
        width(mlp(64), mlp(16), cls, settings)


def test_other_starts_are_refused_where_they_matter():
    model, base = mlp(64), mlp(16)
    nn.init.normal_(model[3].weight, std=0.02)
    nn.init.normal_(base[3].weight, std=0.02)
    with pytest.raises(ValueError, match="'3.weight' starts as n\\^0, where n\\^−0.5 keeps its outputs"):
        width(model, base, optim.SGD)
    assert powers(width(model, base, optim.Adam, {"eps": 0.0})) == (0, -1, -1)
    nn.init.normal_(model[3].weight, std=0.028)
    with pytest.raises(ValueError, match="no start that is known; pass models before their training"):
        width(model, base, optim.SGD)
    with pytest.raises(ValueError, match="there is no output layer"):
        width(nn.Sequential(nn.Linear(3, 64)), nn.Sequential(nn.Linear(3, 16)), optim.SGD)


def test_arguments_are_checked():
    model, old = model_and_optimizer(optim.AdamW)
    base = mlp(16, bias=True)
    with pytest.raises(ValueError, match="an optimizer brings its own"):
        width(model, base, old, {"lr": 1.0})
    with pytest.raises(ValueError, match="start='mup' is not a start"):
        width(model, base, old, start="mup")
    with pytest.raises(ValueError, match="kinds: 'no' is not a parameter"):
        width(model, base, old, kinds={"no": "input"})
    with pytest.raises(ValueError, match="is not one of input, hidden"):
        width(model, base, old, kinds={"1.weight": "embedding"})
    with pytest.raises(ValueError, match="one of its parameters is not in the model"):
        width(mlp(64, bias=True), base, old)
    with pytest.raises(TypeError, match="optimizer=3 cannot be called"):
        width(model, base, 3)
    with pytest.raises(TypeError, match="settings=0.1 is not a dict"):
        width(model, base, optim.SGD, 0.1)


def test_attention_whose_heads_grow_is_noted():
    def make(n, heads):
        return nn.TransformerEncoderLayer(n, heads, n, batch_first=True)

    options = {"optimizer": optim.Adam, "settings": {"eps": 0.0}}
    assert "keep d and let the number of heads grow" in str(width(make(32, 2), make(8, 2), **options))
    assert width(make(32, 8), make(8, 2), **options).notes == ()


def test_the_names_are_public():
    assert scaleinv.width is width and scaleinv.Width.__name__ == "Width"
