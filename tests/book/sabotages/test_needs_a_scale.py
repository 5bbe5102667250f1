"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

BARE = "nn.Sequential(*(nn.Identity() if isinstance(m, nn.BatchNorm2d) else m for m in convnet()))"

SABOTAGES = [
    (["5.1"], "half the inputs", {"nn.Linear(1024, 4096)": "nn.Linear(512, 4096)"}),
    (
        ["5.2", "5.3"],
        "an eps as large as gradients, and unit weights everywhere",
        {"lr=1e-3, eps=1e-15": "lr=1e-3, eps=1e-3", "INITIALISATIONS[how](model)": "unit(model)"},
    ),
    (
        ["5.4", "5.5"],
        "the bias is stored larger too, and lr follows the scale",
        {
            "self.bias = linear.bias": "self.bias = nn.Parameter(linear.bias.detach() / self.gain)",
            "kept, converted = losses(equalised(mlp(64)))": "kept, converted = losses(equalised(mlp(64)), 8.0)",
            "losses(hidden)": "losses(hidden, 8.0)",
        },
    ),
    (
        ["5.6", "5.7"],
        "Adam and SGD change places; the same function in other numbers for another start",
        {
            "optimizers.adam, lr=WIDE, weight=KS, eps=lambda weight: 1e-8 / weight": (
                "optimizers.sgd, lr=WIDE, weight=KS[2:5]"
            ),
            "optimizers.sgd, lr=WIDE, weight=KS": "optimizers.adam, lr=WIDE, weight=KS[2:5]",
            "lr=NEAR, gain=GAINS)": 'lr=WIDE[::2], weight=GAINS).rename(weight="gain")',
        },
    ),
    (["5.8"], "one large start", {"model = scaled(gain).to": "model = scaled(64.0).to"}),
    (
        ["5.9"],
        "lr follows the scale",
        {
            "optimizers.adam, lr=1e-3": "optimizers.adam, lr=lambda weight: 0.04 * weight",
            "optimizers.sgd, lr=1e-3": "optimizers.sgd, lr=lambda weight: weight**2",
        },
    ),
    (
        ["5.10", "5.11", "5.12"],
        "a quarter of the decay",
        {"lr=LR, weight_decay=DECAY)": "lr=LR, weight_decay=DECAY / 4)"},
    ),
    (["5.13", "5.14"], "no normalisation", {"nn.Dropout(0.5), convnet()": f"nn.Dropout(0.5), {BARE}"}),
    (
        ["5.15", "5.16"],
        "weight decay, a start as small as the normalisation's eps, and a v that remembers as long; a smaller β₁",
        {
            "normalised(optim.Adam, k, lr=LR)": "normalised(optim.AdamW, min(k, k**3), lr=LR, weight_decay=0.3)",
            "before=level, lr=LR, steps=800)": "before=level, lr=LR, steps=800, betas=(0.5, 0.999))",
            "normalised(optim.Adam, 0.1, lr=LR, betas=(0.9, 0.99))": "runs[0.1]",
        },
    ),
    (
        ["5.17", "5.18", "5.19", "5.20"],
        "ten times the decay, and fewer steps, which are enough for it",
        {'"weight_decay": 0.3': '"weight_decay": 3.0, "steps": 500'},
    ),
    (
        ["5.21 2", "5.21 steps", "5.21 3"],
        "a tenth of the decay, ten times lr, and a decay that is kept",
        {
            "lr, decay = 6e-4, 0.1": "lr, decay = 6e-4, 0.01",
            "optim.AdamW([nn.Parameter(torch.zeros(1))])": "optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-2)",
            "settled(0.04, 0.25)": "settled(0.04, 0.5)",
        },
    ),
]
