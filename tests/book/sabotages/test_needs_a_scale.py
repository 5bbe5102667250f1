"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

BARE = "nn.Sequential(*(nn.Identity() if isinstance(m, nn.BatchNorm2d) else m for m in convnet()))"

SABOTAGES = [
    (["5.1"], "half the inputs", {"nn.Linear(1024, 4096)": "nn.Linear(512, 4096)"}),
    (["5.2"], "an eps as large as gradients", {"lr=1e-3, eps=1e-15": "lr=1e-3, eps=1e-3"}),
    (["5.3"], "unit weights everywhere", {"INITIALISATIONS[how](model)": "unit(model)"}),
    (
        ["5.4 the same function", "5.4 lr × 8"],
        "no gain at run time",
        {"self.gain * self.weight": "self.weight"},
    ),
    (
        ["5.4 lr kept"],
        "lr follows the scale after all",
        {"kept, converted = losses(equalised(mlp(64)))": "kept, converted = losses(equalised(mlp(64)), 8.0)"},
    ),
    (
        ["5.5 last layer zero: apart"],
        "the bias, which is not zero, is stored larger too",
        {"self.bias = linear.bias": "self.bias = nn.Parameter(linear.bias.detach() / self.gain)"},
    ),
    (["5.5 last layer zero: last"], "lr follows the scale", {"losses(hidden)": "losses(hidden, 8.0)"}),
    (
        ["5.6"],
        "Adam and SGD change places",
        {
            "optimizers.adam, lr=WIDE, weight=KS, eps=lambda weight: 1e-8 / weight": (
                "optimizers.sgd, lr=WIDE, weight=KS"
            ),
            "optimizers.sgd, lr=WIDE, weight=KS": "optimizers.adam, lr=WIDE, weight=KS",
        },
    ),
    (
        ["5.7 gain ≤ 1", "5.7 SGD"],
        "the same function in other numbers",
        {"lr=NEAR, gain=GAINS)": 'lr=WIDE, weight=GAINS).rename(weight="gain")'},
    ),
    (["5.7 gain ≥ 8"], "SGD for Adam", {"optimizers.adam, lr=NEAR": "optimizers.sgd, lr=NEAR"}),
    (["5.8 best lr/RMS(w) before"], "one start", {"model = scaled(gain).to": "model = scaled(1.0).to"}),
    (["5.8 best lr/RMS(w) after"], "one step", {"def grown(gain, lr, steps=100)": "def grown(gain, lr, steps=1)"}),
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
    (
        ["5.13", "5.14", "5.16 first loss"],
        "no normalisation",
        {"nn.Dropout(0.5), convnet()": f"nn.Dropout(0.5), {BARE}"},
    ),
    (
        ["5.15", "5.16 k = 10", "5.16 last", "5.16 k = 0.1: exponent"],
        "weight decay; a smaller β₁",
        {
            "normalised(optim.Adam, k, lr=LR)": "normalised(optim.AdamW, k, lr=LR, weight_decay=0.3)",
            "before=level, lr=LR, steps=800)": "before=level, lr=LR, steps=800, betas=(0.5, 0.999))",
        },
    ),
    (["5.16 k = 0.1: excess"], "a v that remembers as long", {"lr=LR, betas=(0.9, 0.99))": "lr=LR)"}),
    (["5.17", "5.18", "5.19", "5.20"], "ten times the decay", {'"weight_decay": 0.3': '"weight_decay": 3.0'}),
    (["5.21 2"], "a tenth of the decay", {"lr, decay = 6e-4, 0.1": "lr, decay = 6e-4, 0.01"}),
    (
        ["5.21 steps"],
        "ten times lr",
        {"optim.AdamW([nn.Parameter(torch.zeros(1))])": "optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-2)"},
    ),
    (["5.21 3"], "λ is kept", {"settled(0.04, 0.25)": "settled(0.04, 0.5)"}),
]
