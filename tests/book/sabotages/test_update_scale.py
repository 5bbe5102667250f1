"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["2.1"], "a smaller signal", {"snr=2.0": "snr=1.0"}),
    (["2.2"], "a signal in the noise", {"gradients(2000), betas": "gradients(2000, snr=0.5), betas"}),
    (
        ["2.3 constant g", "2.3 m/√v after a step"],
        "gradients that grow, and another β₂",
        {
            "updates(constant, betas": "updates([g * 1.001**t for t, g in enumerate(constant)], betas",
            "updates(constant[:1], betas=(0.9, 0.999))": "updates(constant[:1], betas=(0.9, 0.99))",
        },
    ),
    (["2.4"], "no momentum", {"updates(grads, (beta1, beta2))": "updates(grads, (0.0 * beta1, beta2))"}),
    (
        ["2.5 white noise"],
        "another β₂",
        {"(1 + x) ** 0.5, update_rms(0.9, 0.95)": "(1 + x) ** 0.5, update_rms(0.9, 0.9)"},
    ),
    (
        ["2.5 RMS for β₁", "2.5 largest miss of the law for slow β₂"],
        "a slow β₂",
        {"measured(0 * beta2 + 0.9, beta2, ": "measured(0 * beta2 + 0.9, 0.999, "},
    ),
    (["2.5 largest miss with 1 − x"], "slower β₂", {"grid([0.95, 0.9], ": "grid([0.99, 0.98], "}),
    (["2.5 largest miss to second order"], "a weaker autocorrelation", {"grid([0.9, -0.9], ": "grid([0.5, -0.5], "}),
    (["2.6"], "white noise", {"rho=0.9, seed": "rho=0.0, seed"}),
    (
        ["2.7 worst gradients"],
        "a constant gradient",
        {"largest_update_gradients(0.9, 0.999, 300)[:, None]": "torch.ones(300, 1, dtype=torch.float64)"},
    ),
    (
        ["2.7 the bound for (0.9, 0.999)", "2.7 the bound for (0.95, 0.95)"],
        "other betas",
        {"largest_update(0.9, 0.999), ": "largest_update(0.9, 0.99), ", "update(0.95, 0.95)": "update(0.95, 0.99)"},
    ),
    (["2.8"], "v starts at zero, uncorrected", {"* g**2).sum(0) / (1 - b**steps)": "* g**2).sum(0)"}),
    (
        ["2.9", "2.11 decomposed"],
        "less momentum than the law is given",
        {"updates(g, (0.9, 0.999))])": "updates(g, (0.5, 0.999))])"},
    ),
    (["2.10", "2.11 in training, the factor of memory"], "weights at rest", {"600, lr=1e-3": "600, lr=0.0"}),
    (
        ["2.11 in training, the factor of lags"],
        "every batch comes twice",
        {"recorded(convnet, batches, ": "recorded(convnet, lambda n: (b for b in batches(n // 2) for _ in 'ab'), "},
    ),
    (["2.12"], "gaps half as long", {"t % 1000 == 0, t % 6000": "t % 500 == 0, t % 3000", "1 / 2000": "1 / 1000"}),
    (["2.13 RMS", "2.13 twice"], "noise alone", {"beta2, snr, 0 * snr, steps": "beta2, 0 * snr, 0 * snr, steps"}),
    (["2.13 a single gradient"], "another β₂", {".double()], betas=(0.0, 0.999)": ".double()], betas=(0.0, 0.99)"}),
]
