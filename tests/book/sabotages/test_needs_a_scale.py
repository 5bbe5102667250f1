"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["5.1"], "the bound of a uniform distribution for its RMS", {"(3 * fan_in) ** -0.5": "fan_in**-0.5"}),
    (["5.2"], "every entry is taken to have a gradient", {"(1e-3 * moved.share**0.5)": "1e-3"}),
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
        ["5.5 last layer zero: stored", "5.5 last layer zero: first"],
        "the bias, which is not zero, is stored larger too",
        {"self.bias = linear.bias": "self.bias = nn.Parameter(linear.bias.detach() / self.gain)"},
    ),
    (["5.5 last layer zero: last"], "lr follows the scale", {"losses(hidden)": "losses(hidden, 8.0)"}),
    (
        ["5.6", "5.7", "5.8 on the way"],
        "a quarter of the decay",
        {"lr=LR, weight_decay=DECAY)": "lr=LR, weight_decay=DECAY / 4)"},
    ),
    (["5.8 100 ×"], "the start that is too small", {'early = forgotten["100 ×"]': 'early = forgotten["1/100 ×"]'}),
    (
        ["5.9", "5.10"],
        "the last layer, before no normalisation; steps taken for independent",
        {"        if p.ndim == 4:\n": "        if p.ndim == 2:\n", "(1 + beta) / (1 - beta) * steps": "steps"},
    ),
    (
        ["5.11 Adam, second", "5.11 Adam, one v"],
        "steps taken for independent",
        {
            "growth(runs[1.0][1][name])": "growth(runs[1.0][1][name], 0.0)",
            "growth(levelled[name])": "growth(levelled[name], 0.0)",
        },
    ),
    (["5.11 Adam, first"], "one v for a tensor", {"growth(runs[1.0][1][name])": "growth(levelled[name])"}),
    (["5.12 first loss"], "one step later", {"runs[k][0][0] /": "runs[k][0][1] /"}),
    (["5.12 last losses"], "one start against itself", {"runs[10.0][0][-300:]": "runs[0.1][0][-300:]"}),
    (["5.12 k = 0.1"], "a start that is not outgrown", {"rate(0.1)[0]": "rate(10.0)[0]"}),
    (["5.12 last rate"], "a law without growth", {"start**2 + LR**2 * t": "start**2 + 0 * t"}),
    (
        ["5.13", "5.16"],
        "a law for ten times the decay",
        {"rms(LR, 0.3, 0.9)": "rms(LR, 3.0, 0.9)", "step(LR, 0.3, 0.9)": "step(LR, 3.0, 0.9)"},
    ),
    (["5.14"], "the second convolution for the first", {'over("conv 1", 1, *both)': 'over("conv 2", 1, *both)'}),
    (["5.15"], "a convolution for a gain", {'over("gain 2", 0, *both)': 'over("conv 2", 0, *both)'}),
    (
        ["5.17"],
        "Adam and SGD change places",
        {
            "optimizers.adam, lr=WIDE, weight=KS, eps=lambda weight: 1e-8 / weight": (
                "optimizers.sgd, lr=WIDE, weight=KS"
            ),
            "optimizers.sgd, lr=WIDE, weight=KS": "optimizers.adam, lr=WIDE, weight=KS",
        },
    ),
    (
        ["5.18 gain ≤ 1", "5.18 SGD"],
        "the same function in other numbers",
        {"lr=NEAR, gain=GAINS)": 'lr=WIDE, weight=GAINS).rename(weight="gain")'},
    ),
    (["5.18 gain ≥ 8"], "SGD for Adam", {"optimizers.adam, lr=NEAR": "optimizers.sgd, lr=NEAR"}),
    (["5.19"], "before and after change places", {"rms(w[0]), rms(w[-1])": "rms(w[-1]), rms(w[0])"}),
    (
        ["5.20"],
        "lr follows the scale",
        {
            "optimizers.adam, lr=1e-3": "optimizers.adam, lr=lambda weight: 0.04 * weight",
            "optimizers.sgd, lr=1e-3": "optimizers.sgd, lr=lambda weight: weight**2",
        },
    ),
]
