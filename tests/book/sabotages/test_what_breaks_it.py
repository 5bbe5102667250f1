"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

FEW = {"seeds=range(6)": "seeds=range(2)", "/ 6**0.5": "/ 2**0.5"}

SABOTAGES = [
    (
        ["6.1 window's", "6.1 clamps", "6.2"],
        "with eps, gradients a thousand times as large",
        {"updates(cls, SCALES, eps=eps": "updates(cls, SCALES * (1 if eps == none else 1000), eps=eps"},
    ),
    (
        ["6.1 Adafactor at 1e-4: change without"],
        "a gradient that is not small",
        {"[1.0, 1e-4]), d=d)": "[1.0, 1e-2]), d=d)"},
    ),
    (
        ["6.1 Adafactor at 1e-4: change with it"],
        "a cap that is never met",
        {"[1.0, 1e-4]), d=d)": "[1.0, 1e-4]), d=10 * d)"},
    ),
    (["6.3"], "a tenth of eps", {"eps in (1e-6, 1e-8)": "eps in (1e-6, 1e-7)"}),
    (
        ["6.4"],
        "inside and outside change places",
        {
            "lambda v: v.sqrt() + 1e-8": "lambda v: (v + 1e-8).sqrt()",
            "lambda v: (v + 1e-8).sqrt()": "lambda v: v.sqrt() + 1e-8",
        },
    ),
    (
        ["6.5"],
        "every pixel has ink, every character occurs, and the loss is divided by 10⁴",
        {
            "(mlp, batches, 1e-2, 5000)": "(mlp, lambda n: ((x + 0.1, y) for x, y in batches(n)), 1e-2, 500)",
            "(convnet, batches, 1e-2, 1000)": "(convnet, batches, 1e-2, 10)",
            "lambda steps: text_batches(steps, 8)": "lambda n: [torch.randint(128, (2, 8, 64)) for _ in range(n)]",
            "train(model, optimizer, data(steps))": "train(model, optimizer, data(steps), loss=1e-4)",
        },
    ),
    (
        ["6.6 loss × S", "6.6 loss/S", "6.6 these two", "6.6 Adafactor", "6.6 Adam,"],
        "eps as it was, the division forgotten twice, and Adam and Adafactor change places",
        {
            '"eps": 1e-8 / S})': '"eps": 1e-8})',
            "loss=1 / S)": "loss=S)",
            "divided(optim.Adafactor, 1e-2)": "divided(optim.Adam, 1e-3)",
            "divided(optim.Adam, 1e-3)": "divided(optim.Adafactor, 1e-2)",
        },
    ),
    (
        ["6.7"],
        "thresholds that never clip, and one that is kept for the one that follows",
        {
            "clipped(1.0, M), clipped(8.0, M), clipped(8.0, 8 * M)": (
                "clipped(1.0, 50.0), clipped(8.0, 400.0), clipped(8.0, M)"
            )
        },
    ),
    (
        ["6.8"],
        "where the hidden constant is seen, and where it is not",
        {"(2.0**10, 2.0**13)": "(2.0**-10, 2.0**-13)", "clipped(2.0**n, 2.0**n * M)": "clipped(1.0, M)"},
    ),
    (
        ["6.9 always", "6.9 one gradient", "6.9 the same"],
        "an eps that matters and does not follow; and two eps change places",
        {
            '"eps": 1e-20}': '"eps": 1e-3}',
            "last_loss(1e-8, 1.0), last_loss(1e-30, 1.0)": "last_loss(1e-30, 1.0), last_loss(1e-8, 1.0)",
            "batches(600)": "batches(200)",
        },
    ),
    (
        ["6.10"],
        "SGD with momentum and a max_norm that follows; Adam clipped both times",
        {
            "always(optim.SGD, low, loss=c, lr=1.0)": "always(optim.SGD, low * c, loss=c, lr=1.0, momentum=0.9)",
            "unclipped = run(optim.Adam, none)": "unclipped = always(optim.Adam, low, **none)",
        },
    ),
    (
        ["6.11"],
        "a spike ten times smaller, a β₁ of 0.8, and a threshold that never clips",
        {
            "max_norm=40.0": "max_norm=1e9",
            "drawn[AT] = size * shape(drawn[AT])": "drawn[AT] = size / 10 * shape(drawn[AT])",
            "betas=(0.9, beta2))\n    drawn": "betas=(0.8, beta2))\n    drawn",
        },
    ),
    (
        ["6.12 Adam, loss", "6.12 AdamW, loss"],
        "coupled and decoupled change places",
        {'right = given["weight_decay"]': 'right = 0.8 if given["weight_decay"] == 0.1 else 0.1'},
    ),
    (["6.12 AdamW, lr·λ"], "the coupled decay", {"convert(optim.AdamW, DECAY": "convert(optim.Adam, DECAY"}),
    (["6.13 float16, g = 0", "6.13 float16, g = 1e-6"], "a larger eps", {"halves[1e-8][[": "halves[1e-4][["}),
    (["6.13 float16, g = 1e4"], "a gradient whose square is finite", {"[[0, 1, 7]]": "[[0, 1, 6]]"}),
    (
        ["6.13 float16, steps"],
        "a gradient whose square is normal",
        {"1e-3, 1e-2, 1.0, 100.0": "1e-2, 1e-2, 1.0, 100.0"},
    ),
    (
        ["6.13 the MLP"],
        "a larger eps",
        {"optim.Adam(model.parameters(), lr=1e-3)\nafter": "optim.Adam(model.parameters(), lr=1e-3, eps=1e-4)\nafter"},
    ),
    (
        ["6.13 float16, least"],
        "a faster average",
        {"optimizer = optim.Adam([p])\n": "optimizer = optim.Adam([p], betas=(0.9, 0.99))\n"},
    ),
    (["6.13 share"], "at the start", {'looked[net, "late"]': 'looked[net, "start"]'}),
    (
        ["6.14"],
        "the fast and the slow average change places",
        {
            "remembered(torch.bfloat16, b) for": "remembered(torch.bfloat16, 0.99) for",
            "remembered(torch.bfloat16, 0.99),": "remembered(torch.bfloat16, 0.999),",
        },
    ),
    (
        ["6.15", "6.16"],
        "a β₂ that is a tenth smaller",
        {"betas=betas, eps=0.0)": "betas=(betas[0], 0.9 * betas[1]), eps=0.0)"},
    ),
    (
        ["6.17 default: update", "6.17 default, κ = -0.01", "6.18 β₁ = β₂: update", "6.18 β₁ = β₂: loss"],
        "the betas change places",
        {
            "real = {(n, k): drifting(betas, k)": "real = {(n, k): drifting((0.9, 1.899 - betas[1]), k)",
            "steps=700)": "steps=500)",
        },
    ),
    (
        [
            "6.18 default: best",
            "6.18 β₁ = β₂: best lr",
            "6.18 β₁ = β₂: lowest loss, over",
            "6.18 β₁ = β₂: lowest loss over",
        ],
        "equal betas for the default, and the default's for the others, at a hundredth of lr under the schedule",
        {
            "adam_ratio(s, at, g, betas, eps, -lr * at.left)": (
                "adam_ratio(s, at, g, betas, eps, -lr * at.left * (0.01 + 0.99 * (betas[1] < 0.99)))"
            ),
            '"betas[0]": lambda pair: SETS[pair][0]': '"betas[0]": 0.9',
            "lambda pair: SETS[pair][1]": 'lambda pair: 0.9 if pair == "default" else 0.999',
            **FEW,
        },
    ),
    (
        ["6.19"],
        "a slow training, and the default betas for both",
        {"drifting(betas, 0.0, 1e-2, 2000)": "drifting((0.9, 0.999), 0.0, 1e-4, 2000)"},
    ),
    (["6.20 RAdam, loss × 1024: steps 1"], "Adam", {"optim.RAdam, 1024.0": "optim.Adam, 1024.0"}),
    (["6.20 RAdam, loss × 1024: steps 6"], "an eps that matters", {"1024.0, eps=1e-20": "1024.0, eps=1.0"}),
    (
        ["6.21"],
        "converted for another loss, kept for the converted one, and the loss of a larger sum",
        {
            '_value": 0.1}, loss=8)': '_value": 0.1}, loss=4)',
            "kept = accumulated(8.0, 0.1)": "kept = accumulated(8.0, 6.4)",
            "starts = {net: torch": "starts = {net: 64 * torch",
        },
    ),
    (["6.22 ‖w‖ < 10"], "a lower clamp", {"lamb_step(k, 10.0)": "lamb_step(k, 1.0)"}),
    (["6.22 ‖w‖ > 10"], "no clamp", {"lamb_step(k, 10.0)": "lamb_step(k, 1e9)"}),
    (
        ["6.23 exercise 3", "6.23 exercise 2: lower", "6.23 exercise 2: share", "6.23 exercise 1", "6.24"],
        "a factor that falls twice as fast and no further, an eps copied over, a network at its start, max_norm as it"
        " was; a gradient ten times as large, and Adafactor's default eps",
        {
            "1 - slow * t)": "max(0.1, 1 - 2 * slow * t))",
            "(v + 2e-14)": "(v + 1e-8)",
            'looked["MLP", "late"]': 'looked["ConvNet", "start"]',
            "max_norm=4096.0": "max_norm=1.0",
            "torch.full_like(p, 1e-6)": "torch.full_like(p, 1e-5)",
            '"eps": (1e-15, 1e-3)': '"eps": (None, 1e-3)',
        },
    ),
]
