"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (
        ["9.18"],
        "the last layer starts as the hidden ones do, also in μP",
        {"np.array(START[start])": 'np.array(START["standard"])'},
    ),
    (
        ["9.19 mup", "9.19 Megatron", "9.19 nanochat"],
        "logits are multiplied by n, and nanochat's exponents are Megatron's",
        {
            "GAIN = np.array([0, 0, 0, -1])": "GAIN = np.array([0, 0, 0, 1])",
            "(-1 / 2, -1, 0, -1 / 2), False)": "(0, -1, 0, -1), False)",
        },
    ),
    (
        ["9.20 mup", "9.20 one lr", "9.20 by layer", "9.20 Megatron", "9.20 nanochat", "9.21"],
        "every rule is that of mup, and its gains fall by n^1.5 more; two seeds, and a grid that has these best lr",
        {
            "list(RULES.values())[int(rule)]": 'RULES["mup"]',
            "(float(n**e) for e in lr)": "(float(n ** (e - 1.5)) for e in lr)",
            "np.geomspace(2.5e-3, 0.16, 7)": "np.geomspace(5e-3, 1.28, 7)",
            "seeds=range(3), every": "seeds=range(2), every",
        },
    ),
    (["9.22"], "heads grow in number, and d stays", {"heads, drawn = 1,": "heads, drawn = d // 16,"}),
    (["9.23"], "the embedding and the head are not trained alike", {"lr=1e-3 * n**lr": "lr=1e-3 * n ** (lr - 0.5)"}),
    (["9.24 eps kept", "9.24 eps converted"], "from the standard start", {"base**-0.5 / n *": "base**-0.5 / n**0.5 *"}),
    (
        ["9.25", "9.26 λ kept", "9.26 λ ∝ √n"],
        "λ falls where it rises",
        {"weight_decay=30 * n**p": "weight_decay=30 * n ** (1.5 - 3 * p)"},
    ),
    (
        ["9.27 slope of Δh", "9.27 slope of h", "9.27 α = 1", "9.28"],
        "blocks are divided by other powers of their number",
        {"blocks**-alpha *": "blocks ** (0.4 * alpha - 0.5) *"},
    ),
    (["9.29"], "one lr where it went by width", {"partial(make, by_width=by)": "partial(make, by_width=not by)"}),
    (["9.30"], "from width 64", {"for d in (1024, 256)": "for d in (1024, 64)"}),
]
