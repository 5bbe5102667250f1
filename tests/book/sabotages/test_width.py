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
        ["9.1 standard", "9.1 μP", "9.3 Yang", "9.3 mup"],
        "every layer starts at the same size at all widths",
        {"model = Net(width, start, gain, seed=seed)": "model = Net(width, NONE, gain, seed=seed)"},
    ),
    (
        ["9.2 lr listed", "9.2 exponents of lr"],
        "every lr has the unit of Adam's",
        {"unit = units_of(cls)": "unit = units_of(optim.Adam)"},
    ),
    (["9.4"], "a gain, and the hyperparameters as without", {"changes.gain(k))": "changes.gain(1.0))"}),
    (
        ["9.5 SGD", "9.5 Adam", "9.6 SGD", "9.6 Adam", "9.7 hidden", "9.7 output"],
        "inputs and their changes come in a random order, so that no sum has one sign",
        {
            "parts = [(w.detach() - w0, x), (w0, x1 - x)]": (
                "parts = [(w.detach() - w0, x.gather(1, order)), (w0, (x1 - x).gather(1, order))]"
            )
        }
        | FEWER,
    ),
    (
        ["9.6 slope of the output", "9.6 one lr", "9.6 by layer", "9.6 μP"],
        "one lr where lr went by layer, by layer where it was one, and all from the standard start",
        {
            'BY_LAYER = {"one lr": NONE}': 'BY_LAYER = {"by layer": NONE, "μP": NONE}',
            "Net(width, START[STARTS[form]], seed=seed)": 'Net(width, START["standard"], seed=seed)',
        }
        | FEWER,
    ),
    (
        ["9.8 one lr", "9.8 by layer", "9.8 μP", "9.9 SGD", "9.9 Adam"]
        + [f"9.10 lr of 16 at 256, {form}" for form in ("one lr", "by layer", "μP", "other's gains")],
        "lr by layer where it was one, one where it went by layer, and its own gains for the other's; two seeds",
        {
            'gain = NONE if form == "one lr" else gains(name if form in STARTS else OTHER[name], start)': (
                'gain = NONE if form in ("by layer", "μP") else gains(name, start)'
            ),
            "seeds=4, lr=": "seeds=2, lr=",
        },
    ),
    (
        ["9.10 Adam, by layer", "9.10 Adam, μP"],
        "at width 1024 the starts change places",
        {
            "end_loss(*case, 1024, seeds": (
                'end_loss("Adam", "μP" if case[1] == "by layer" else "by layer", 1024, seeds'
            ),
        },
    ),
    (
        ["9.11 by layer", "9.11 gain"],
        "trained from the standard start",
        {'Net(width, START["μP"], gain, seed=seed)': 'Net(width, START["standard"], gain, seed=seed)'},
    ),
    (
        ["9.12 by layer", "9.12 gain"],
        "the two ways of writing μP change places",
        {
            'WAYS = {"by layer": NONE, "gain": gains("Adam", "μP")}': (
                'WAYS = {"gain": NONE, "by layer": gains("Adam", "μP")}'
            )
        },
    ),
    (
        ["9.13 eps = 1e-6, converted", "9.13 eps = 1e-6, kept"],
        "eps is converted where it was kept, and kept where it was converted",
        {'((), ("eps",))': '(("eps",), ())'},
    ),
    (
        ["9.14 λ = 1, converted", "9.14 λ = 1, kept"],
        "λ is converted where it was kept, and kept where it was converted",
        {'((), ("weight_decay",))': '(("weight_decay",), ())'},
    ),
    (["9.15"], "from width 64 to 4096", {"16.0**e": "64.0**e"}),
    (
        ["9.16"],
        "an lr in Adam's unit",
        {'exponents("μP", optim.Adafactor, gain)': 'exponents("μP", optim.Adam, gain)'},
    ),
    (
        ["9.17"],
        "the exponents that go without MuReadout",
        {'LISTED["mup", "Adam"][0]': 'LISTED["Yang et al.", "Adam"][0]'},
    ),
]
