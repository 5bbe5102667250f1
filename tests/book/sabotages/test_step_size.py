"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

MOMENTUM = "lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9)"

SABOTAGES = [
    (["3.1 Δw", "3.1 |g| ≥ 1000 eps: least"], "a larger eps", {"lr=LR, eps=EPS)": "lr=LR, eps=1e-5)"}),
    (["3.1 |g| ≥ 1000 eps: largest"], "twice the lr", {"lr=LR, eps=EPS)": "lr=2 * LR, eps=EPS)"}),
    (["3.1 g = 0"], "weight decay", {"first_step(optim.Adam, model": "first_step(optim.AdamW, model"}),
    (["3.1 share", "3.1 other"], "a larger eps", {"LR, EPS = 1e-3, 1e-8": "LR, EPS = 1e-3, 1e-5"}),
    (
        ["3.1 embeddings, present", "3.1 keys' biases"],
        "tokens have no embeddings at their start, and the queries' biases take the keys' place",
        {
            "double)\ng, step = ": "double)\nmodel.token.weight.register_hook(lambda g: 0 * g)\ng, step = ",
            "bias.grad[32:64]": "bias.grad[0:32]",
        },
    ),
    (
        ["3.2", "3.3 Adam: largest"],
        "hardly a training, and a loss that grows by a tenth a step",
        {
            "train(model, optimizer, data())": "train(model, optimizer, data(), before_step=lambda step: 1.1**step)",
            "text_batches(300, 8)": "text_batches(60, 8)",
            "batches(300)": "batches(60)",
            "optim.Adam: (1e-3, 3e-3, 1e-2)": "optim.Adam: (3e-3,)",
            "optim.SGD: (0.1, 0.3, 1.0)": "optim.SGD: (1e-6,)",
        },
    ),
    (
        [
            "3.3 Adam: the median",
            "3.3 Adam: 95 %",
            "3.3 Adam, convnet's",
            "3.3 Adam: between",
            "3.3 Adam: over time",
            "3.4",
        ],
        "Adam and SGD change places",
        {"sizes = {(net, name): of": 'sizes = {(net, {"Adam": "SGD", "SGD": "Adam"}[name]): of'},
    ),
    (
        ["3.5", "3.10", "3.11 distance", "3.13 furthest coordinate, most of T·lr", "3.13 it comes close"],
        "labels at random: noise alone; and twice the lr for the short trainings",
        {
            "SIZES, SEEDS = (4, 16, 64, 256, 1024), range(4)": "SIZES, SEEDS = (4, 64, 1024), range(2)",
            "batches(steps, size, seed=seed)": "((x, y[torch.randperm(len(y))]) for x, y in "
            "batches(steps, size, seed=seed))",
            "watched(size, 100, seed)": "watched(size, 100, seed, lr=2 * LR)",
        },
    ),
    (
        [
            "3.6",
            "3.7 late, memory",
            "3.7 late, batch of 1024, β₂",
            "3.11 from 300 to 1000 steps",
            "3.13 RMS distance",
            "3.13 furthest coordinate, most of the bound",
        ],
        "twice the lr, and v forgets in twenty steps",
        {"watched(size) for size in SIZES": "watched(size, lr=2 * LR, beta2=0.95) for size in (4, 64, 1024)"},
    ),
    (
        ["3.8", "3.9"],
        "a growing gradient, an alternating one whose way back is shorter, momentum without dampening, and noise that"
        " never undoes itself",
        {
            "torch.ones(1000, 1, dtype=double)": "torch.arange(1, 1001, dtype=double)[:, None]",
            "[[1.0], [-1.0]]": "[[1.0], [-0.5]]",
            "m = 0.9 * m + 0.1 * g": "m = 0.9 * m + g",
            "x = rho * x + ": "x = rho.abs() * x + ",
            "size=2048": "size=256",
        },
    ),
    (
        ["3.12"],
        "gradients that grow by a hundredth a step",
        {"largest_update_gradients(0.9, 0.999, 300)[:, None]": "1.01 ** torch.arange(300, dtype=double)[:, None]"},
    ),
    (
        ["3.14 lr × steps", "3.14 furthest", "3.14 noise"],
        "learning rates that are not small next to the way, and then hardly any noise",
        {
            "(1e-4, 3e-4, 3e-3)": "(0.01, 0.03, 0.1)",
            "trip(lr, size=8, target=0.1)": "trip(lr, size=256, target=0.5)",
        },
    ),
    (
        ["3.15"],
        "an eps as large as Adam's gradients, and momentum for SGD",
        {
            "trip(1e-3, loss=100.0)": "trip(1e-3, lambda p, lr: optim.Adam(p, lr=lr, eps=0.3), loss=100.0)",
            "trip(0.03, optim.SGD)": f"trip(0.03, {MOMENTUM})",
            "trip(1e-3, optim.SGD, loss=100.0)": f"trip(1e-3, {MOMENTUM}, loss=100.0)",
        },
    ),
    (["3.16"], "five times the lr", {"loss, lr=1e-3):": "loss, lr=5e-3):"}),
    (
        ["3.17"],
        "features brought to scale 1, and SGD for Adam, at an lr of the way's size",
        {
            "x = torch.cat([x, ": "x = torch.cat([21 * x, ",
            "optim.Adam([w], lr=lr)\n    for": "optim.SGD([w], lr=lr)\n    for",
            "fit(1e-3, 1000)": "fit(1.0, 1000)",
            "fit(lr, 10000)": "fit(lr, 2000)",
        },
    ),
    (["3.18"], "an eps below the gradients", {"eps=100.0": "eps=1e-3"}),
    (
        ["3.19"],
        "the paper's decay for torch's, and torch's for the paper's",
        {
            "decayed(optim.AdamW, lr, weight_decay=0.1)": "decayed(PaperAdamW, lr, decay=LR * 0.1)",
            "decayed(PaperAdamW, lr, decay=LR * 0.1)": "decayed(optim.AdamW, lr, weight_decay=0.1)",
        },
    ),
    (
        ["3.20", "3.21", "3.22", "3.23"],
        "a gradient in every hundred, no schedule, and a larger batch with as much noise",
        {
            "grads[6000] = 1.0": "grads[::100] = 1.0",
            "CosineAnnealingLR(optimizer, 10000)": "ConstantLR(optimizer, 1.0)",
            "[[0.03], [0.06], [10.0], [20.0]]": "[[0.03], [0.03], [10.0], [10.0]]",
        },
    ),
]
