"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (
        ["1.1"],
        "eps is kept, which two steps show",
        {"follow = convert(cls, given, loss=k)": "follow = given", "dtype, steps=10)": "dtype, steps=2)"},
    ),
    (["1.2"], "Adam for RAdam", {"weights(optim.RAdam, {": "weights(optim.Adam, {"}),
    (
        [
            "1.3 half of finfo's eps",
            "1.3 largest rounding",
            "1.3 k = 10, float64: roundings",
            "1.3 k = 10: roundings",
        ],
        "float16 for bfloat16, and eps is kept",
        {
            "torch.bfloat16: 8": "torch.float16: 8",
            '"bfloat16": torch.bfloat16}': '"bfloat16": torch.float16}',
            "follow = convert(optim.Adam, adam, loss=k)\n    runs": "follow = adam\n    runs",
            "dtype, seeds=range(4)": "dtype, seeds=range(2)",
        },
    ),
    (["1.4 decades"], "a smaller range", {"2.0**-20, 2.0**-7": "2.0**-19, 2.0**-7"}),
    (["1.4 each tensor"], "eps is kept", {'"eps": 1e-8 * own[name]': '"eps": 1e-8'}),
    (
        ["1.5 Adam, distance", "1.5 Adam, a loss weight", "1.5 SGD"],
        "eps and lr are kept",
        {"**convert(cls, given, loss=loss * accumulate)": "**given"},
    ),
    (["1.6"], "tanh for sigmoid", {"nn.Sigmoid": "nn.Tanh"}),
    (["1.7"], "SGD for Adam", {"trained(optim.Adam, 1e-2)": "trained(optim.SGD, 1e-2)"}),
    (
        ["1.8 SGD", "1.8 each divided", "1.8 all divided"],
        "Adam for SGD; then each and all change places, at one learning rate",
        {
            "trained(optim.SGD, 10.0**n) for n in range(-3, 4)": "trained(optim.Adam, 10.0**n) for n in (-2,)",
            "lr, all_by_one, momentum": "lr, each_by_its_own, momentum",
            "lr, each_by_its_own, momentum": "lr, all_by_one, momentum",
            "RATES = (3e-4, 1e-3, 3e-3, 1e-2)": "RATES = (3e-3,)",
            "in (1e-3, 1e-2, 1e-1)": "in (3e-3,)",
        },
    ),
    (
        ["1.9"],
        "eps follows",
        {"weights(optim.Adam, adam, k=k,": "weights(optim.Adam, convert(optim.Adam, adam, loss=k), k=k,"},
    ),
    (
        ["1.10"],
        "eps is kept, and Adam for SGD",
        {"LR, eps=lambda loss: 1e-8 * loss": "LR", "losses(optimizers.sgd": "losses(optimizers.adam"},
    ),
    (
        ["1.11"],
        "eps follows",
        {"losses(optimizers.adam, LR)": "losses(optimizers.adam, LR, eps=lambda loss: 1e-8 * loss)"},
    ),
    (["1.12"], "in float64", {"torch.zeros((), device=device())": "torch.zeros((), dtype=torch.float64)"}),
    (["1.13"], "means for sums", {'labels, reduction="sum")': 'labels, reduction="mean")'}),
    (["1.14 ℓ₂'s own head"], "SGD for Adam", {"optim.Adam(tensors, eps=0.0)": "optim.SGD(tensors, lr=1.0)"}),
    (["1.14 body"], "both losses are weighted", {"(first + weight * second)": "(weight * (first + second))"}),
    (
        ["1.15 bits", "1.15 k = 10⁶: distance"],
        "a power of two",
        {'"10⁶": 10**6': '"10⁶": 2**21'},
    ),
    (["1.15 k = 2²⁰"], "a number with more bits", {'"2²⁰": 2**20': '"2²⁰": 3**12'}),
]
