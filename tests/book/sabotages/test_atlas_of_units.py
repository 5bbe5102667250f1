"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)


def without(package):
    """The atlas without one of its packages."""
    return {"frame = atlas()\n": f'frame = atlas()\nframe = frame[~frame.index.str.startswith("{package}.")]\n'}


CHANGED = "CHANGED = {optim.Adam: optim.SGD, optim.RAdam: optim.Adam, optim.AdamW: optim.Adagrad}\n"

SABOTAGES = [
    (
        ["7.1", "7.2"],
        "optimizers in another's place: SGD in Adam's, Adam in RAdam's, Adagrad in AdamW's",
        {"infer_units(cls, GIVEN": "infer_units(CHANGED.get(cls, cls), GIVEN", "GIVEN = {": CHANGED + "GIVEN = {"},
    ),
    (
        ["7.3 optimizers", "7.4 lr in", "7.12 blind to a factor"],
        "an atlas without torch_optimizer",
        without("torch_optimizer"),
    ),
    (["7.4 decay"], "an atlas without Composer", without("composer.optim")),
    (
        ["7.3 not run"],
        "what agrees within rounding does not run",
        {"frame = atlas()\n": 'frame = atlas().replace("within rounding", "not run")\n'},
    ),
    (["7.5 step / lr"], "Adam for LaProp", {"pytorch_optimizer.LaProp(p, lr": "optim.Adam(p, lr"}),
    (["7.5 eps = 0"], "an eps as large as the gradient", {"laprop(0.0, 1e-7)": "laprop(1e-7, 1e-7)"}),
    (["7.5 optimizers", "7.6 lr in L"], "an atlas without pytorch_optimizer", without("pytorch_optimizer")),
    (["7.6 AdaGO"], "Muon for AdaGO", {"pytorch_optimizer.AdaGO": "pytorch_optimizer.Muon"}),
    (["7.7 AdamG"], "Adam for AdamG", {"first_step(pytorch_optimizer.AdamG": "first_step(optim.Adam"}),
    (
        ["7.7 power"],
        "another q",
        {"infer_units(pytorch_optimizer.AdamG, {})": 'infer_units(pytorch_optimizer.AdamG, {"q": 0.25})'},
    ),
    (["7.8"], "an epsilon as large as the gradients", {"epsilon=1e-9": "epsilon=1.0"}),
    (["7.9"], "torch's SGD, whose decay multiplies", {"torch_optimizer.SGDW(p": "optim.SGD(p"}),
    (["7.10 EmoFact"], "with decay", {"lr=0.5, weight_decay=0.0": "lr=0.5, weight_decay=0.1"}),
    (["7.10 MADGRAD"], "an eps that is not lr", {"for e in (1e-6, 0.0)": "for e in (1e-9, 0.0)"}),
    (["7.10 Ranger"], "Adam for Ranger", {"pytorch_optimizer.Ranger([w]": "optim.Adam([w]"}),
    (
        ["7.11"],
        "Adam in Muon's place",
        {"symmetries_of(cls)": "symmetries_of(optim.Adam if cls is optim.Muon else cls)"},
    ),
    (
        ["7.12 blind to each"],
        "optimizers blind to a tensor's factor",
        {'frame.scales == "entry"': 'frame.scales == "tensor"'},
    ),
    (["7.13"], "the fourth root", {"power = 1 / 3": "power = 1 / 4"}),
    (["7.14"], "the powers change places", {'{"lr_power": power}': '{"lr_power": -0.9 - power}'}),
    (["7.15 g = 1:"], "SGD for LaProp", {"pytorch_optimizer.LaProp(p, lr=1.0, eps=eps)": "optim.SGD(p, lr=1.0)"}),
    (["7.15 g = 1e-8"], "Adam for LaProp", {"pytorch_optimizer.LaProp(p, lr": "optim.Adam(p, lr"}),
    (["7.16"], "the norms of columns", {"norm(dim=1, keepdim=True)": "norm(dim=0, keepdim=True)"}),
]
