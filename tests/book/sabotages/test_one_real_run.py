"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["12.1"], "a schedule that is a step ahead", {"settings.multiplier(step - 1)": "settings.multiplier(step)"}),
    (["12.2"], "the loss at the start", {"run.validation_loss[-1]": "run.validation_loss[0]"}),
    (
        ["12.3 share"],
        "other tensors",
        {'entries.sel(parameter="token.weight")': 'entries.sel(parameter="position.weight")'},
    ),
    (["12.3 most"], "an earlier record", {"run.eps_entries.isel(recorded=-1)": "run.eps_entries.isel(recorded=30)"}),
    (
        ["12.4"],
        "half of the decay",
        {"(1 - run.lr * settings.weight_decay)": "(1 - run.lr / 2)"},
    ),
    (
        ["12.5 from", "12.5 earlier"],
        "early and late change places",
        {"EARLY, LATE = (301, 600), (1001, 2000)": "LATE, EARLY = (301, 600), (1001, 2000)"},
    ),
    (["12.6"], "w does not matter to the step's square", {"2 * decay * run.along": "0 * decay * run.along"}),
    (["12.7"], "a v of ten steps", {"C = remembered(BETA2)": "C = remembered(0.9)"}),
    (["12.8"], "no momentum", {"white = update_rms(BETA1, BETA2)": "white = update_rms(0.0, BETA2)"}),
    (["12.9"], "the signal lasts", {"2 * BETA1 * lagged[k]": "2 * BETA1 * signal[k]"}),
    (
        ["12.10"],
        "the two products change places",
        {'for name in ("power", "signal", "lagged")': 'for name in ("power", "lagged", "signal")'},
    ),
    (["12.11 RMS"], "noise of twice the size", {"lr**2 * more)": "4 * lr**2 * more)"}),
    (["12.11 steps"], "noise of a quarter of the size", {"lr**2 * more)": "lr**2 * more / 16)"}),
    (["12.12"], "no momentum", {"shares = lr * white": "shares = lr"}),
    (["12.13 last"], "lr is not lowered", {"now = float(lr[-1])": "now = float(lr[20])"}),
    (
        ["12.13 relative"],
        "the steps of an earlier time",
        {"mean(run.update_rms / run.parameter_rms, END)": "mean(run.update_rms / run.parameter_rms, EARLY)"},
    ),
    (["12.14"], "w is not pulled", {"- 2 * lr_t * wu)": "- 0 * lr_t * wu)"}),
    (["12.15"], "an early snapshot", {"end = run.moved.isel(snapshot=-1)": "end = run.moved.isel(snapshot=0)"}),
    (["12.16 and at"], "the threshold of SGD", {"run.sharpness / run.threshold,": "run.sharpness / 2,"}),
    (["12.16 sharpness"], "its error", {'"a batch": run.sharpness / ': '"a batch": run.sharpness_error / '}),
    (
        ["12.16 of a batch"],
        "the whole twice",
        {"quarter = np.maximum(": "quarter = np.minimum("},
    ),
    (["12.17"], "the signal's share of the same batch", {"8 * share / (1 + 7 * share)": "share / 8"}),
    (["12.18"], "other numbers", {"differ = {name: others[name] for": 'differ = {name: others["steps"] for'}),
    (["12.19"], "max_norm is not converted", {"settings.max_norm * loss / weight": "settings.max_norm * loss"}),
    (["12.20"], "no clipping at all", {"    if theirs:\n": "    if False:\n"}),
    (["12.21"], "a smaller lr", {"(1 - settings.lr * settings.weight_decay) ** 2 * square + settings.lr**2": "square"}),
    (["12.22"], "no noise", {"* square + now**2, count + 1": "* square, count + 1"}),
    (["12.23"], "another factor of the loss", {"loss=2.0**-10)\ngroup": "loss=2.0**-9)\ngroup"}),
]
