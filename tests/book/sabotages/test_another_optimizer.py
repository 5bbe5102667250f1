"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (
        ["8.21 share"],
        "the paper's decay is multiplied by lr too",
        {"1 - self.multiplier * self.share": '1 - self.param_groups[0]["lr"] * self.share'},
    ),
    (["8.21 λ of another"], "λ has the unit of lr, not of 1/lr", {"ONE / lr if": "lr if"}),
    (
        ["8.22 the paper's AdamW, λ converted"],
        "λ is halved, not multiplied by lr",
        {"NEW = convert(optim.AdamW, OLD, changes.decay_independent())": 'NEW = OLD | {"weight_decay": 2.0**-7}'},
    ),
    (
        ["8.22 the paper's AdamW, other"],
        "the right λ, in the schedule",
        {'OLD | {"weight_decay": 2.0**-4}': "NEW", "halving, False": "halving, True"},
    ),
    (["8.23 a step"], "gradients have a direction", {"(0.01 * torch.randn(": "(0.01 + 0.01 * torch.randn("}),
    (
        ["8.23 Muon"],
        "one iteration is not enough",
        {'"Muon": (optim.Muon, {})': '"Muon": (optim.Muon, {"ns_steps": 1})'},
    ),
    (["8.24 best", "8.24 loss"], "an eighth of the lr", {'group["lr"] *= factor': 'group["lr"] *= factor / 8'}),
    (
        ["8.25"],
        "the computed lr and λ",
        {"group.update(lr=LR, weight_decay=DECAY)": 'group.update(lr=group["lr"])'},
    ),
    (["8.26"], "ten times the lr", {"lr=3e-4": "lr=3e-3"}),
]
