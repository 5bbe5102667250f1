"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

FEWER = {"np.logspace(-1, 1, 65)": "np.logspace(-1, 1, 33)"}  # scales, with which the claims hold too

SABOTAGES = [
    (["4.1"], "one scale in all cases", {"scale / r for": "1.0 / r for"}),
    (["4.2"], "lr follows the square of the scale, as SGD's would", {"lr=lr, eps": "lr=scale * lr, eps"}),
    (
        ["4.3 k = 8, distance of cases 1 and 2", "4.3 k = 10"],
        "eps is kept; lr is kept",
        {'{"lr": 8e-3, "eps": 1e-8 / 8}': '{"lr": 8e-3}', '{"lr": 1e-2, "eps": 1e-9}': '{"lr": 1e-3, "eps": 1e-9}'},
    ),
    (
        ["4.3 k = 8, distance of cases 3 and 4", "4.3 k = 8, distance of cases 1 and 3"],
        "lr follows the scale in case 3 too",
        {"run(make, k=8.0), run": 'run(make, k=8.0, given={"lr": 8e-3, "eps": 1e-8 / 8}), run'},
    ),
    (
        ["4.4"],
        "an eps far above the rounding of a gradient",
        {"lr=1e-3 * k, eps=1e-8 / k": "lr=1e-3 * k, eps=1e-4 / k"},
    ),
    (["4.5"], "lr × k for lr × k²", {"0.1 * 64": "0.1 * 8", "0.1 * 8": "0.1 * 64"}),
    (
        ["4.6 exponent"],
        "lr follows the scale",
        {"given=KEPT[cls], steps=1": "given=convert(cls, KEPT[cls], weight=k), steps=1"},
    ),
    (["4.6 Adafactor"], "eps sets the scale of every parameter", {"(1e-15, 1e-6)": "(1e-15, 1e4)"}),
    (
        ["4.7"],
        "every optimizer keeps its parameters below a constant",
        {
            "measured = {cls: infer_units(cls,": """
def clamped(cls):
    class Clamped(cls):
        def step(self, closure=None):
            loss = super().step(closure)
            for p in self.param_groups[0]["params"]:
                p.data.clamp_(-0.5, 0.5)
            return loss
    return Clamped
measured = {cls: infer_units(clamped(cls),"""
        },
    ),
    (
        ["4.8"],
        "an AdamW that adds its decay to the gradient, and what cannot be switched on: nesterov forbids dampening",
        {
            "infer_units(cls, GIVEN": "infer_units(optim.Adam if cls is optim.AdamW else cls, GIVEN",
            "GIVEN = {": 'GIVEN = {optim.SGD: {"momentum": 0.9, "nesterov": True}, ',
        },
    ),
    (
        ["4.9 exponent", "4.9 paper's"],
        "the paper's rule decays by lr·λ",
        {'1 - eta * group["decay"]': '1 - group["lr"] * group["decay"]'},
    ),
    (["4.9 PyTorch's"], "Adam, whose decay is in the gradient", {"halved(optim.AdamW, 8.0": "halved(optim.Adam, 8.0"}),
    (["4.9 k = 8"], "no decay", {"LR, DECAY = 2.0**-9, 2.0": "LR, DECAY = 2.0**-9, 0.0"}),
    (
        ["4.10", "4.11 difference", "4.13 over lr/kᵇ"],
        "an eps that is kept, and as large as gradients; Adam for LAMB",
        FEWER | {'EPS = {"eps": lambda weight: 1e-8 / weight}': 'EPS = {"eps": 1e-2}', "(rules.lamb,": "(rules.adam,"},
    ),
    (
        ["4.11 and", "4.12", "4.13 over lr alone"],
        "λ follows the scale; LAMB for Adam",
        FEWER | {'"weight_decay": 1.0': '"weight_decay": lambda weight: 1 / weight', "(rules.adam,": "(rules.lamb,"},
    ),
    (
        ["4.14"],
        "the state is forgotten",
        {"weight=2.0**10, loss=2.0**-7)": "weight=2.0**10, loss=2.0**-7)\n            optimizer.state.clear()"},
    ),
    (["4.15 eight"], "losses keep their scale, and eps does not", {"sum(k * linear_loss(": "sum(linear_loss("}),
    (
        ["4.15 distance of"],
        "eight times nearly the same lr",
        {"1e-3 * 2.0 ** np.arange(8)": "1e-3 + 1e-6 * np.arange(8)"},
    ),
    (["4.16"], "single runs from another start", {"model = mlp(8)": "model = mlp(8, seed=1)"}),
    (["4.17"], "eps follows", {'given={"lr": 1e-3 * k}': 'given={"lr": 1e-3 * k, "eps": 1e-8 / k}'}),
    (["4.18 bfloat16, k = 8"], "lr and eps are kept", {'{"lr": 1e-3}, weight=k)': '{"lr": 1e-3}, weight=1.0)'}),
    (
        ["4.18 bfloat16, k = 10", "4.18 bfloat16: largest"],
        "float32 and float16 for bfloat16",
        {"torch.bfloat16": "torch.float32", ".bfloat16()": ".half()"},
    ),
    (["4.19 1"], "SGD's unit for Adam's lr", {'convert(optim.Adam, {"lr": 0.003}': 'convert(optim.SGD, {"lr": 0.003}'}),
    (["4.19 2: exp", "4.19 2: half"], "Adam for AdamW", {"(optim.AdamW, optim.SGD)": "(optim.Adam, optim.SGD)"}),
    (["4.19 2: Adam"], "AdamW for Adam", {"half_life(optim.Adam, weight": "half_life(optim.AdamW, weight"}),
    (
        ["4.19 3"],
        "the hyperparameters are kept",
        {'convert(cls, {"lr": 1e-2, "momentum": 0.9}, weight=k, loss=c)': '{"lr": 1e-2, "momentum": 0.9}'},
    ),
]
