"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

TILTED = """
def tilted(loss):
    import xarray
    steps = [round(9 * float(np.log10(k)) / 2) for k in loss.weight]
    return xarray.concat([loss.isel(weight=i).shift(lr=n) for i, n in enumerate(steps)], loss.weight)


def losses("""
SWAPPED = "for n, (k, lr) in {1: CASES[1], 2: CASES[3], 3: CASES[2], 4: CASES[4]}"

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
    (["4.4"], "the queries' bias for the keys'", {"s[16:32]": "s[0:16]"}),
    (["4.5"], "lr × k for lr × k²", {"0.1 * 64": "0.1 * 8", "0.1 * 8": "0.1 * 64"}),
    (
        ["4.6 Adam", "4.6 SGD"],
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
        ["4.8 units measured unlike"],
        "a table in which lr is a pure number",
        {"dict(entries(UNITS[cls].hyperparameters))": 'dict(entries(UNITS[cls].hyperparameters)) | {"lr": 1}'},
    ),
    (
        ["4.8 units of the table not found"],
        "a hyperparameter that cannot be switched on: nesterov forbids dampening",
        {"GIVEN = {": 'GIVEN = {optim.SGD: {"momentum": 0.9, "nesterov": True}, '},
    ),
    (
        ["4.9"],
        "the state is forgotten",
        {"weight=2.0**10, loss=2.0**-7)": "weight=2.0**10, loss=2.0**-7)\n            optimizer.state.clear()"},
    ),
    (["4.10"], "eps follows", {'given={"lr": 1e-3 * k}': 'given={"lr": 1e-3 * k, "eps": 1e-8 / k}'}),
    (["4.11"], "8 and 10 change places", {"in (8.0, 10.0)": "in (10.0, 8.0)"}),
    (
        ["4.12 Adam, slope", "4.12 AdamW", "4.12 SGD", "4.12 LAMB"],
        "lr goes up with the square root of the scale besides",
        {
            "    return result.losses.isel(step=-1)\n": "    return tilted(result.losses.isel(step=-1))\n",
            "def losses(": TILTED,
        },
    ),
    (["4.13 difference", "4.13 and"], "cases 2 and 3 change places", {"for n, (k, lr) in CASES": SWAPPED}),
    (["4.14"], "λ follows the scale", {'"weight_decay": 1.0': '"weight_decay": lambda weight: 1 / weight'}),
    (
        ["4.15 over lr/kᵇ"],
        "SGD's lr has Adam's unit, and the others none",
        {'{"Adam": 1, "SGD": 2, "AdamW": 1, "LAMB": 0}': '{"Adam": 0, "SGD": 1, "AdamW": 0, "LAMB": 1}'},
    ),
    (["4.15 over lr alone"], "drawn over lr/k", {"collapse(n, 0)": "collapse(n, EXPONENTS[n])"}),
]
