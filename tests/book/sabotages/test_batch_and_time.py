"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["10.1"], "nothing is converted", {"changes.batch(OLD, batch)": "changes.batch(OLD, OLD)"}),
    (
        ["10.2 B = 2", "10.2 B = 8", "10.2 B = 32"],
        "the noise has a mean",
        {"torch.randn(size, generator=noise) / batch**0.5": "torch.randn(size, generator=noise) / batch**0.5 + 0.5"},
    ),
    (
        ["10.3 settings", "10.3 B = 128"],
        "converted where it was kept, and a batch of 8 for one of 128",
        {
            "kept = {b: walk(NOISE, b) for b in (2, 128)}": (
                'kept = {b: walk(converted("AdamW", NOISE, b), b) for b in (2, 128)}\nwalks[128] = walks[8]'
            )
        },
    ),
    (
        ["10.4", "10.5", "10.7 B = 128"],
        "settings are kept; two seeds",
        {"new = converted(name, settings, b)": "new = settings", "batches, seeds=SEEDS": "batches, seeds=range(2)"},
    ),
    (
        ["10.6"],
        "lr is not four times as large; one seed",
        {"fast, (256,), seeds=range(3)": "ADAM, (256,), seeds=range(2)"},
    ),
    (["10.7 B = 256"], "lr is a quarter of what it was", {'SGD = {"lr": 0.04}': 'SGD = {"lr": 0.01}'}),
]
