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
    (["8.1 α × 4, nothing"], "α stays 16", {"{cls: lora(cls, 64) for cls": "{cls: lora(cls, 16) for cls"}),
    (
        ["8.2 α × 4 against lr"],
        "B alone is faster, its settings converted",
        {'lora(cls, 16, given | {"lr": 4 * given["lr"]})': "lora(cls, 16, of_B=convert(cls, given, down))"},
    ),
    (["8.2 α × 4 against A₀"], "A starts as before", {"start=2.0": "start=1.0"}),
    (["8.3"], "nothing is converted", {"changes.lora_alpha(16, new_alpha)": "changes.lora_alpha(16, 16)"}),
    (["8.4"], "α = 4r", {"changes.lora_alpha(2, 1)": "changes.lora_alpha(4, 1)"}),
    (
        ["8.5 α/√r, first step", "8.5 after five"],
        "SGD for Adam",
        {'"Adam": (optim.Adam, 1e-3)': '"Adam": (optim.SGD, 1e-3)'},
    ),
    (
        ["8.5 Adam, α/√r, after"],
        "an lr at which nothing is learnt yet",
        {'late = [moved(*LR["Adam"], r,': "late = [moved(optim.Adam, 1e-6, r,"},
    ),
    (
        ["8.6", "8.7"],
        "the gain and the factor upside down",
        {"changes.gain(1 / gain)": "changes.gain(gain)", "changes.gain(1 / mul)": "changes.gain(mul)"},
    ),
    (
        ["8.8"],
        "SGD for Adam",
        {"optim.Adam(model.parameters(), lr=lr, eps=1e-20)": "optim.SGD(model.parameters(), lr=lr)"},
    ),
    (
        ["8.9", "8.10", "8.11"],
        "no threshold clips some, decay comes with the parts, and clipping before unscaling, or with a smaller scale",
        {
            '"clips some": 0.42': '"clips some": 2.0**-9',
            '({"parts": 4}, 4.0)': '({"parts": 4, "weight_decay": 0.1}, 4.0)',
            '({"scale": S}, 1.0)': '({"scale": S, "unscale": False}, 1.0)',
            '({"scale": S, "unscale": False}, 1 / S)': '({"scale": 4.0, "unscale": False}, 1 / S)',
        },
    ),
    (["8.12 some"], "max_norm stays behind", {"max_norm=64 * some": "max_norm=some"}),
    (
        ["8.12 with decay, added, no λ", "8.12 AdamW"],
        "no coupled decay, and an eps that matters",
        {
            '{"lr": 1e-2, "weight_decay": 1e-3},\n    "AdamW"': '{"lr": 1e-2, "weight_decay": 0.0},\n    "AdamW"',
            '{"lr": 1e-2, "weight_decay": 0.1},\n    "SGD"': '{"lr": 1e-2, "eps": 0.1},\n    "SGD"',
            '"SGD": {"lr": 0.1, "weight_decay": 0.01},': '"SGD": {"lr": 0.1, "weight_decay": 0.0},',
        },
    ),
    (
        ["8.12 with decay, added, lr", "8.12 with decay, added, kept"],
        "eight pieces",
        {"loss=4.0, **as_before": "loss=8.0, **as_before", "loss=4.0, **given": "loss=8.0, **given"},
    ),
    (
        ["8.12 sums over all", "8.12 divided once"],
        "each part by its own number of characters, and by half the number of pieces",
        {
            "total(r) / size(), PIECES": "total(r) / size(r), PIECES",
            "2 * total(r) / size(), HALVES": "2 * total(r) / size(r), HALVES",
            "total(r) / size() / 4, PIECES": "total(r) / size() / 2, PIECES",
        },
    ),
    (
        ["8.12 mean of means"],
        "texts of one length",
        {"4 * torch.arange(1, len(text) + 1, device": "torch.full((len(text),), 32, device"},
    ),
    (["8.12 a term", "8.12 the sum of"], "the term is not averaged once more", {"log_z / processes": "log_z"}),
    (
        ["8.13", "8.14 no decay"],
        "one threshold for SGD, and an eps that matters",
        {
            "clip_grad_norm_(held, max_norm)": 'clip_grad_norm_(held, 2.0**-6 if name == "SGD" else max_norm)',
            'else {"eps": 1e-16}': 'else {"eps": 0.01}',
        },
    ),
    (
        ["8.14 always clipped, with decay, max_norm/16, all", "8.14 always clipped, with decay, max_norm/16, lr"],
        "no decay, and another threshold",
        {
            "    cls, (before, share) =": '    given = given | {"weight_decay": 0.0}\n    cls, (before, share) =',
            "max_norm=2.0**-10, **new": "max_norm=2.0**-9, **new",
        },
    ),
    (["8.14 one tensor × 10⁸, clipped at 1, default"], "no large gradient", {'{"1.weight": 1e8}': '{"1.weight": 1.0}'}),
    (["8.14 one tensor × 10⁸, clipped at 1, eps"], "a larger eps", {'(1.0, {"eps": 1e-16})': '(1.0, {"eps": 1e-7})'}),
    (
        ["8.15"],
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
        ["8.19 α × 4 against"],
        "eps and decay follow",
        {'faster = GIVEN[cls] | {"lr": 4 * GIVEN[cls]["lr"]}': "faster = convert(cls, GIVEN[cls], down)"},
    ),
    (
        ["8.19 α × 4, converted, clipped"],
        "the norm of A alone",
        {
            'held = [p for group in optimizer.param_groups for p in group["params"]]': "held = "
            'optimizer.param_groups[0]["params"]'
        },
    ),
    (
        ["8.20 scale", "8.20 the run"],
        "a scale that does not overflow",
        {"loss=64.0, scale=2.0**127": "loss=64.0, scale=2.0**16"},
    ),
    (
        ["8.20 rows"],
        "Muon's decay is coupled",
        {"    given = dict.fromkeys(": "    cls = {optim.Muon: optim.Adam}.get(cls, cls)\n    given = dict.fromkeys("},
    ),
    (["8.20 exercise 3"], "max_norm stays behind", {"max_norm=0.84": "max_norm=0.42"}),
]
