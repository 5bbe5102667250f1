"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["1.1"], "eps is kept", {"follow = convert(cls, given, loss=k)": "follow = given"}),
    (["1.2"], "Adam for RAdam", {"weights(optim.RAdam, {": "weights(optim.Adam, {"}),
    (
        ["1.3 k = 10, distance in float32", "1.3 k = 10, distance in float64"],
        "lr follows the loss, as SGD's would",
        {"convert(optim.Adam, adam, loss=10)": '{"lr": 1e-4}'},
    ),
    (
        ["1.3 k = 10, distance in bfloat16"],
        "a power of two",
        {"convert(optim.Adam, adam, loss=10), k=10.0": "convert(optim.Adam, adam, loss=8), k=8.0"},
    ),
    (["1.4 decades"], "a smaller range", {"2.0**-20, 2.0**-7": "2.0**-19, 2.0**-7"}),
    (["1.4 each tensor"], "eps is kept", {'"eps": 1e-8 * own[name]': '"eps": 1e-8'}),
    (["1.5"], "eps is kept", {"given = convert(optim.Adam, adam, loss=loss * accumulate)": "given = adam"}),
    (["1.6"], "tanh for sigmoid", {"nn.Sigmoid": "nn.Tanh"}),
    (
        ["1.7", "1.8"],
        "Adam and SGD change places",
        {
            "trained(optim.Adam, 1e-2)": "trained(optim.SGD, 1e-2)",
            "trained(optim.SGD, 10.0": "trained(optim.Adam, 10.0",
        },
    ),
    (
        ["1.9"],
        "eps follows",
        {"weights(optim.Adam, adam, k=k,": "weights(optim.Adam, convert(optim.Adam, adam, loss=k), k=k,"},
    ),
    (["1.10 best lr"], "eps is kept", {"LR, eps=lambda loss: 1e-8 * loss": "LR"}),
    (["1.10 SGD"], "Adam for SGD", {"losses(optimizers.sgd": "losses(optimizers.adam"}),
    (["1.11 eps kept, c ≥ 1e-4"], "from c = 1e-7 on", {"line[6:]": "line[3:]"}),
    (
        ["1.11 eps kept, c ≤ 1e-8", "1.11 where they meet"],
        "eps follows",
        {"losses(optimizers.adam, LR)": "losses(optimizers.adam, LR, eps=lambda loss: 1e-8 * loss)"},
    ),
]
