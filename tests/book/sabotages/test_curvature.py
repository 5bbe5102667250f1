"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (
        ["11.1"],
        "the sharpness is that of twice the loss that is trained",
        {
            "sharpness(model, partial(loss, model), optimizer": "sharpness(model, lambda: 2 * loss(model), optimizer",
            "for seed in range(2)]": "for seed in range(1)]",
            "**given), 1200)": "**given), 700)",
        },
    ),
    (
        ["11.2", "11.3"],
        "hyperparameters are not converted",
        {"**convert(cls, given, weight=k, loss=c)": "**given"},
    ),
    (
        ["11.4"],
        "curvatures a tenth smaller than their numbers say",
        {"w.grad = pure / lr": "w.grad = 0.9 * pure / lr"},
    ),
]
