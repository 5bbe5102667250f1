"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (
        ["8.1 α × 4, B's", "8.1 α × 4 against"],
        "the two conversions change places",
        {"of_B=as_64": "of_B=as_16", "of_B=as_16": "of_B=as_64"},
    ),
    (
        ["8.1 α × 4, nothing"],
        "the change has no effect",
        {"relative_distance(quadrupled[cls], plain[cls])": "relative_distance(plain[cls], plain[cls])"},
    ),
    (["8.2 α × 4 against lr"], "α for lr", {'lora(cls, 16, given | {"lr": 4 * given["lr"]})': "lora(cls, 64, given)"}),
    (["8.2 α × 4 against A₀"], "A starts as before", {"start=2.0": "start=1.0"}),
    (["8.3"], "nothing is converted", {"changes.lora_alpha(16, new_alpha)": "changes.lora_alpha(16, 16)"}),
    (["8.4"], "α = 4r", {"changes.lora_alpha(2, 1)": "changes.lora_alpha(4, 1)"}),
    (
        ["8.5 output"],
        "the two gains change places",
        {'key in ("Adam, α/r", "SGD, α/√r")': 'key in ("Adam, α/√r", "SGD, α/r")'},
    ),
    (["8.5 Adam, α/√r: slope"], "the other gain", {'slopes["Adam, α/√r"], eq': 'slopes["Adam, α/r"], eq'}),
    (["8.5 SGD"], "the other gain", {'slopes["SGD, α/r"], eq': 'slopes["SGD, α/√r"], eq'}),
    (["8.5 Adam, α/√r, after"], "after five steps", {"(r), 0, 100)": "(r), 0, 5)"}),
    (["8.6"], "the gain upside down", {"changes.gain(1 / gain)": "changes.gain(gain)"}),
    (["8.7"], "the factor upside down", {"changes.gain(1 / mul)": "changes.gain(mul)"}),
    (["8.8 equalised"], "lr_mul is forgotten", {"{name: x / mul for": "{name: x for"}),
    (["8.8 plain"], "the equalised layers", {"max(one[2:]) / min(one[2:])": "max(equal[2:]) / min(equal[2:])"}),
    (["8.9 share"], "a threshold that clips all", {'if "some" in name}': 'if "all" in name}'}),
    (["8.9 Adam"], "SGD for AdamW", {'("AdamW", "no clipping")]': '("SGD", "no clipping")]'}),
    (
        ["8.9 SGD", "8.11 GradScaler", "8.11 SGD"],
        "lr by other factors, and clipped before it is unscaled",
        {
            '({"loss": 64.0}, 64.0)': '({"loss": 64.0}, 8.0)',
            '({"scale": S}, 1.0)': '({"scale": S, "unscale": False}, 1.0)',
            '"unscale": False}, 1 / S)': '"unscale": False}, 64 / S)',
        },
    ),
    (
        ["8.10 all", "8.10 some"],
        "the two thresholds change places",
        {'words.xs("clips all"': 'words.xs("clips some"', 'words.xs("clips some"': 'words.xs("clips all"'},
    ),
    (["8.12"], "max_norm stays behind", {"max_norm=64 * some": "max_norm=some"}),
    (["8.13 SGD, lr ×"], "lr kept", {"sgd[n, n:]": "sgd[n, : len(sgd[0]) - n]"}),
    (["8.13 SGD, max_norm"], "the same threshold", {"np.abs(sgd[1] / sgd[0] - 1)": "np.abs(sgd[0] / sgd[0] - 1)"}),
    (["8.14"], "an eps that matters", {'"eps": 1e-16': '"eps": 0.01'}),
    (
        ["8.15 update", "8.15 unclipped"],
        "clipped and unclipped change places",
        {"for m in (1.0, math.inf))": "for m in (math.inf, 1.0))"},
    ),
    (["8.16"], "the two thresholds change places", {"for m in (0.25, 1.0))": "for m in (1.0, 0.25))"}),
    (["8.17"], "twice the threshold", {"clip_grad_value_(p, 2.0**-100)": "clip_grad_value_(p, 2.0**-99)"}),
    (
        ["8.18"],
        "clipped and unclipped change places",
        {"[cosine(cut(g, 1 / 300), orth": "[cosine(g, orth", "[cosine(g, orth": "[cosine(cut(g, 1 / 300), orth"},
    ),
    (["8.19 α × 3"], "converted for another α", {"changes.lora_alpha(16, 48)": "changes.lora_alpha(16, 32)"}),
    (
        ["8.19 α × 4"],
        "eps and decay follow",
        {'faster = GIVEN[cls] | {"lr": 4 * GIVEN[cls]["lr"]}': "faster = convert(cls, GIVEN[cls], down)"},
    ),
    (["8.20"], "a scale that does not overflow", {"scale=2.0**127": "scale=2.0**16"}),
]
