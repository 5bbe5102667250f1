"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

FEWER = {  # seeds, for time: they alone fail none of the claims named below
    "case: np.array([[moved(*case, n, seed) for seed in range(3)] for n in WIDTHS])": (
        "case: np.array([[moved(*case, n, seed) for seed in range(2)] for n in WIDTHS])"
    )
}

SABOTAGES = [
    (
        ["8.21 standard", "8.21 μP", "8.23 Yang", "8.23 mup"],
        "every layer starts at the same size at all widths",
        {"model = Net(width, start, gain, seed=seed)": "model = Net(width, NONE, gain, seed=seed)"},
    ),
    (
        ["8.22 lr listed", "8.22 exponents of lr"],
        "every lr has the unit of Adam's",
        {"unit = units_of(cls)": "unit = units_of(optim.Adam)"},
    ),
    (["8.24"], "a gain, and the hyperparameters as without", {"changes.gain(k))": "changes.gain(1.0))"}),
    (
        ["8.25 SGD", "8.25 Adam", "8.26 SGD", "8.26 Adam", "8.27 hidden", "8.27 output"],
        "inputs and their changes come in a random order, so that no sum has one sign",
        {
            "parts = [(w.detach() - w0, x), (w0, x1 - x)]": (
                "parts = [(w.detach() - w0, x.gather(1, order)), (w0, (x1 - x).gather(1, order))]"
            )
        }
        | FEWER,
    ),
    (
        ["8.26 slope of the output", "8.26 one lr", "8.26 by layer", "8.26 μP"],
        "one lr where lr went by layer, by layer where it was one, and all from the standard start",
        {
            'BY_LAYER = {"one lr": NONE}': 'BY_LAYER = {"by layer": NONE, "μP": NONE}',
            "Net(width, START[STARTS[form]], seed=seed)": 'Net(width, START["standard"], seed=seed)',
        }
        | FEWER,
    ),
    (
        ["8.28 one lr", "8.28 by layer", "8.28 μP", "8.29 SGD", "8.29 Adam"]
        + [f"8.30 lr of 16 at 256, {form}" for form in ("one lr", "by layer", "μP", "other's gains")],
        "lr by layer where it was one, one where it went by layer, and its own gains for the other's; two seeds",
        {
            'gain = NONE if form == "one lr" else gains(name if form in STARTS else OTHER[name], start)': (
                'gain = NONE if form in ("by layer", "μP") else gains(name, start)'
            ),
            "seeds=4, lr=": "seeds=2, lr=",
        },
    ),
    (
        ["8.30 Adam, by layer", "8.30 Adam, μP"],
        "at widths 64 and 1024 the starts change places; Adam only",
        {
            'for case in [(name, form) for name in RULES for form in ("by layer", "μP")]': (
                'for case in [("Adam", form) for form in ("by layer", "μP")]'
            ),
            "two = [end_loss(*case, n, seeds": (
                'two = [end_loss("Adam", "μP" if case[1] == "by layer" else "by layer", n, seeds'
            ),
        },
    ),
    (
        ["8.31 by layer", "8.31 gain"],
        "trained from the standard start",
        {'Net(width, START["μP"], gain, seed=seed)': 'Net(width, START["standard"], gain, seed=seed)'},
    ),
    (
        ["8.32 by layer", "8.32 gain"],
        "the two ways of writing μP change places",
        {
            'WAYS = {"by layer": NONE, "gain": gains("Adam", "μP")}': (
                'WAYS = {"gain": NONE, "by layer": gains("Adam", "μP")}'
            )
        },
    ),
    (
        ["8.33 eps = 1e-6, converted", "8.33 eps = 1e-6, kept"],
        "eps is converted where it was kept, and kept where it was converted",
        {'((), ("eps",))': '(("eps",), ())'},
    ),
    (
        ["8.34 λ = 1, converted", "8.34 λ = 1, kept"],
        "λ is converted where it was kept, and kept where it was converted",
        {'((), ("weight_decay",))': '(("weight_decay",), ())'},
    ),
    (["8.35"], "from width 64 to 4096", {"16.0**e": "64.0**e"}),
    (
        ["8.36"],
        "an lr in Adam's unit",
        {'exponents("μP", optim.Adafactor, gain)': 'exponents("μP", optim.Adam, gain)'},
    ),
    (
        ["8.37"],
        "the exponents that go without MuReadout",
        {'LISTED["mup", "Adam"][0]': 'LISTED["Yang et al.", "Adam"][0]'},
    ),
]
