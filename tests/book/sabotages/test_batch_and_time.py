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
        ["10.4", "10.5", "10.6", "10.7 B = 128", "10.7 B = 256"],
        "settings are kept; two seeds",
        {
            "new = converted(name, settings, b)": "new = settings",
            "batches, seeds=SEEDS": "batches, seeds=range(2)",
            "(256,), seeds=range(3)": "(256,), seeds=range(2)",
        },
    ),
    (
        ["10.8 SGD", "10.8 Adam", "10.9 SGD", "10.9 best lr"],
        "SGD's runs of 4 and 64 examples change places, Adam's and AdamW's of 16 and 64",
        {
            "results = {": """sgd_ends[4], sgd_ends[64] = sgd_ends[64], sgd_ends[4]
ends[16], ends[64] = ends[64], ends[16]
results = {"""
        },
    ),
    (
        ["10.10"],
        "β is converted where it was kept",
        {'"Adam, β kept": kept,': '"Adam, β kept": {b: x.isel(weight_decay=0) for b, x in ends.items()},'},
    ),
    (
        ["10.11 λ kept", "10.11 λ/4"],
        "the training with λ kept is short, and the converted one has λ kept",
        {
            '"λ kept": (4 * LENGTH, SHORT)': '"λ kept": (LENGTH, SHORT)',
            '"λ/4": (4 * LENGTH, LONG)': '"λ/4": (4 * LENGTH, SHORT)',
        },
    ),
    (["10.12"], "lr is constant", {".update(lr=lr, weight_decay=decay)": ".update(lr=LR, weight_decay=decay)"}),
    (
        ["10.13"],
        "the gradient is constant",
        {"w.grad, before = torch.randn(20000, generator=noise)": "w.grad, before = torch.ones(20000)"},
    ),
    (
        ["10.14"],
        "labels are at random",
        {
            "train(model, optimizer, batches(20, batch)).weights": (
                "train(model, optimizer, [(x, torch.randint_like(y, 10)) for x, y in batches(20, 1)]).weights"
            )
        },
    ),
    (["10.15"], "twice the length", {"changes.horizon(1, 4)": "changes.horizon(1, 2)"}),
]
