"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (
        ["8.21 standard", "8.21 μP"],
        "the two starts change places",
        {
            '"standard": (0, -1 / 2, -1 / 2), "μP": (0, -1 / 2, -1)}': (
                '"μP": (0, -1 / 2, -1 / 2), "standard": (0, -1 / 2, -1)}'
            )
        },
    ),
    (["8.22"], "every lr has the unit of Adam's", {"float(b) * a": "a"}),
    (
        ["8.23 Yang", "8.23 mup"],
        "the gradients of the other start",
        {'list(g_slope["μP"].values())': 'list(g_slope["standard"].values())'},
    ),
    (["8.24"], "a gain, and the hyperparameters as without", {"changes.gain(k))": "changes.gain(1.0))"}),
    (
        ["8.25 SGD, standard", "8.25 Adam, standard", "8.25 SGD, μP", "8.25 Adam, μP"],
        "terms add up as at random, in proportion to the root of their number",
        {"e + a - fan_in for": "e + a - fan_in / 2 for"},
    ),
    (
        ["8.26"],
        "the two starts change places",
        {'whole[name, "μP"]': 'whole[name, "standard"]', 'whole[name, "standard"]': 'whole[name, "μP"]'},
    ),
    (
        ["8.27 μP, hidden", "8.27 μP, output"],
        "not shuffled",
        {"torch.randperm(x.shape[1])": "torch.arange(x.shape[1])"},
    ),
    (
        ["8.28 μP", "8.30 lr of 16 at 256, μP"],
        "μP's start without its gains, one lr for all layers",
        {"gains = NONE, GAINS[name],": "gains = NONE, NONE,"},
    ),
    (
        ["8.28 standard"],
        "the two starts change places",
        {"standard, own, other = ({n: fits": "own, standard, other = ({n: fits"},
    ),
    (
        ["8.29 SGD", "8.29 Adam"],
        "its own gains",
        {"standard, own, other = ({n: fits": "standard, other, own = ({n: fits"},
    ),
    (
        ["8.30 lr of 16 at 256, standard"],
        "the two starts change places",
        {"standard, own, other = ({n: price": "own, standard, other = ({n: price"},
    ),
    (
        ["8.30 lr of 16 at 256, other's"],
        "its own gains",
        {"standard, own, other = ({n: price": "standard, other, own = ({n: price"},
    ),
    (
        ["8.31 by layer", "8.31 gain"],
        "the gradients of the other start",
        {'zip(LAW["μP"], gain)]': 'zip(LAW["standard"], gain)]'},
    ),
    (["8.32"], "the gain's power for the lr's", {"for power in (1, 2)": "for power in (2, 1)"}),
    (["8.33"], "converted and kept change places", {'((), ("eps",))': '(("eps",), ())'}),
    (["8.34"], "converted and kept change places", {'((), ("weight_decay",))': '(("weight_decay",), ())'}),
]
