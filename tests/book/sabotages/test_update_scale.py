"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["2.1"], "the post's slip: v² for v", {"v / (1 + 2**2)": "v**2 / (1 + 2**2)"}),
    (["2.2"], "a signal in the noise", {"gradients(2000), betas": "gradients(2000, snr=0.5), betas"}),
    (
        ["2.3 constant g", "2.3 m/√v after a step"],
        "bias correction dropped, and made",
        {
            "u.abs() for u, _ in": '(s["exp_avg"]["w"] / s["exp_avg_sq"]["w"].sqrt()).abs() for _, s in',
            "[0].sqrt()\n": "[0].sqrt() / 0.1 * 0.001**0.5\n",
        },
    ),
    (["2.4"], "no momentum", {"updates(grads, (beta1, beta2))": "updates(grads, (0.0 * beta1, beta2))"}),
    (
        ["2.5"],
        "the two laws change places",
        {
            "update_rms(0.9, snr=snr, autocorrelation=rho)": "update_rms(0.9, beta2, snr=snr, autocorrelation=rho)",
            "update_rms(0.9, beta2, snr=snr, autocorrelation=rho)": "update_rms(0.9, snr=snr, autocorrelation=rho)",
        },
    ),
    (["2.6"], "white noise", {"rho=0.9, seed": "rho=0.0, seed"}),
    (
        ["2.7 reached over bound"],
        "a constant gradient",
        {"largest_update_gradients(0.9, 0.999, 300)[:, None]": "torch.ones(300, 1, dtype=torch.float64)"},
    ),
    (
        ["2.7 the bound for (0.9, 0.999)", "2.7 the bound for (0.95, 0.95)"],
        "other betas",
        {"largest_update(0.9, 0.999), ": "largest_update(0.9, 0.99), ", "update(0.95, 0.95)": "update(0.95, 0.99)"},
    ),
    (["2.8"], "1 taken for a bound", {"corrected / largest_update(*betas, step=steps)": "corrected"}),
    (
        ["2.9"],
        "all gradients taken for noise",
        {"update_rms(0.9, snr=signal_to_noise(g)).item(),\n    ": "update_rms(0.9).item(),\n    "},
    ),
    (["2.10"], "weights at rest", {"batches, 600, lr=1e-3": "batches, 600, lr=0.0"}),
    (["2.11"], "v remembers nothing", {"(signal + 1) * memory).sqrt().item()": "(signal + 1)) ** 0.5"}),
]
