"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["3.1 Δw", "3.1 |g| ≥ 1000 eps: least"], "a larger eps", {"lr=LR, eps=EPS)": "lr=LR, eps=1e-5)"}),
    (["3.1 |g| ≥ 1000 eps: largest"], "twice the lr", {"lr=LR, eps=EPS)": "lr=2 * LR, eps=EPS)"}),
    (["3.1 g = 0"], "weight decay", {"first_step(optim.Adam, model": "first_step(optim.AdamW, model"}),
    (["3.1 share"], "a larger eps", {"LR, EPS = 1e-3, 1e-8": "LR, EPS = 1e-3, 1e-6"}),
    (["3.1 keys' biases"], "the queries' biases for the keys'", {"bias.grad[32:64]": "bias.grad[0:32]"}),
    (["3.2"], "hardly a training", {"text_batches(300, 8)": "text_batches(20, 8)", "batches(300)": "batches(20)"}),
    (
        ["3.3 Adam: largest"],
        "SGD for Adam, the loss a sum over 64",
        {'sizes[net, "Adam"].max().max()': '64 * sizes[net, "SGD"].max().max()'},
    ),
    (
        ["3.3 Adam: 95 %", "3.3 Adam: between", "3.3 Adam: over time", "3.4"],
        "Adam and SGD change places",
        {
            'sizes[net, "Adam"][20:]': 'sizes[net, "SGD"][20:]',
            'of("Adam", ': 'of("SGD", ',
            'of("SGD", ': 'of("Adam", ',
        },
    ),
    (["3.5 early, law"], "all gradients taken for noise", {"update_rms(0.9, snr=": "update_rms(0.9, snr=0 * "}),
    (["3.5 early, batch of 1024"], "a smaller batch", {"now[1024]": "now[64]"}),
    (["3.6"], "early for late", {"measured(run, late)": "measured(run, early)"}),
    (["3.7"], "v remembers nothing", {"(g.square() / v)": "(g.square() / g.square())"}),
    (
        ["3.8 constant"],
        "a growing gradient",
        {"torch.ones(1000, 1, dtype=double)": "torch.arange(1, 1001, dtype=double)[:, None]"},
    ),
    (["3.8 alternating"], "not all of it taken back", {"[[1.0], [-1.0]]": "[[1.0], [-0.5]]"}),
    (["3.9"], "all noise taken for white", {"displacement(3000, rho)": "displacement(3000, 0 * rho)"}),
    (["3.10 100 steps"], "no signal", {"s = signal_to_noise(run[0][early])": "s = 0.0"}),
    (["3.10 1000 steps"], "not in units of lr", {"((w - w[0]) / LR)": "(w - w[0])"}),
    (["3.11 from 300 to 1000 steps"], "early steps", {"[1000] / far[size][300]": "[100] / far[size][30]"}),
    (
        ["3.11 from 300 to 1000: distance"],
        "every second step turned around",
        {"rms(w[-1] - w[0])": "rms(((w[1:] - w[:-1]) * (-1.0) ** torch.arange(len(w) - 1)[:, None]).sum(dim=0))"},
    ),
    (
        ["3.12"],
        "slower growth",
        {"largest_update_gradients(0.9, 0.999, 300)": "largest_update_gradients(0.9, 0.95, 300)"},
    ),
    (
        ["3.13"],
        "√T taken for the limit, T·lr for the bound",
        {
            "most(torch.tensor(d), t)": "most(torch.tensor(d), t**0.5)",
            "most(d, t)": "most(d, t**0.5)",
            "most(d, bound)": "most(d, t)",
        },
    ),
    (["3.14"], "steps alone", {"return lr * end, ": "return end, "}),
    (["3.15 Adam"], "SGD for Adam", {"trip(1e-3, 300, loss=100.0)": "trip(0.1, 300, optim.SGD)"}),
    (
        ["3.15 SGD, lr", "3.15 SGD, loss"],
        "steps alone",
        {
            "900, optim.SGD)[0]": "900, optim.SGD)[0] / 0.03 * 0.1",
            "optim.SGD, loss=100.0)[0]": "optim.SGD, loss=100.0)[0] / 1e-3 * 0.1",
        },
    ),
    (["3.16"], "five times the lr", {"loss, lr=1e-3):": "loss, lr=5e-3):"}),
    (["3.17 lr = 0.001"], "an lr of the way's size", {"fit(1e-3, 1000)": "fit(1.0, 1000)"}),
    (["3.17 within"], "within 50 % of the best", {"enough=1.01": "enough=1.5"}),
    (["3.17 lr × steps"], "steps alone", {"lr * steps / way": "steps / way"}),
    (["3.18"], "an eps below the gradients", {"eps=100.0": "eps=1e-3"}),
    (["3.19"], "decay coupled to the gradient", {"optim.AdamW, weight_decay": "optim.Adam, weight_decay"}),
    (["3.20"], "two gradients", {"rare[6000] = 1.0": "rare[5999:6001] = 1.0"}),
]
