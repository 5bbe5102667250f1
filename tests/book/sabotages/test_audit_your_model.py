"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["13.1"], "an eps that sets the step", {"**GIVEN)\npredicted": "**GIVEN, eps=1.0)\npredicted"}),
    (
        ["13.2 N(0,1) tokens", "13.2 tensors", "13.3 tied, lr 3e-4: loss"],
        "tokens only five times as large as the rest",
        {'{"faulty": (1.0, 1)': '{"faulty": (0.1, 1)'},
    ),
    (["13.2 place", "13.3 tied, lr 3e-4: share"], "settings kept", {"changes.init_times(k)": "changes.init_times(1)"}),
    (
        ["13.3 tied, each", "13.3 tied, large lr", "13.3 tied: loss"],
        "fixed at the start",
        {"LRS = 1e-3, 3e-3, 1e-2\n": 'LRS = 1e-3, 1e-2\nLANGUAGE["fixed"] = LANGUAGE["never faulty"]\n'},
    ),
    (
        ["13.3 untied: loss below never faulty: fixed", "13.3 untied: loss below never faulty: faulty"],
        "tied again",
        {"grid_of(False, (given_lr, *LRS))": "grid_of(True, LRS)"},
    ),
    (["13.4 SGD", "13.5 loss"], "the mean as it was", {'"faulty": (64.0, MEAN)': '"faulty": (1.0, MEAN)'}),
    (["13.4 place", "13.5 fixed"], "lr kept", {"changes.sum_over(64)": "changes.sum_over(1)"}),
    (
        ["13.6 Adam", "13.7 loss above never faulty: faulty", "13.7 loss beside never faulty: summed"],
        "the loss as it was, and the sum divided",
        {'"faulty": (PIXELS, ADAM)': '"faulty": (1.0, ADAM)', '"summed": (64.0, ADAM)': '"summed": (PIXELS, ADAM)'},
    ),
    (["13.6 place", "13.7 fixed"], "eps kept", {"changes.loss_times(PIXELS)": "changes.loss_times(1)"}),
    (
        ["13.7 clipped to 1/8", "13.7 clipped: severity"],
        "SGD in Adam's place",
        {'"Adam": (optim.Adam, ADAM)}': '"Adam": (optim.SGD, MEAN)}'},
    ),
    (
        ["13.8"],
        "asked for vowels without stress",
        {'held_out=True, on="cpu"))\nshare': 'held_out=True, stress=False, on="cpu"))\nshare'},
    ),
    (["13.9 head", "13.10 loss"], "stored plainly", {'stored=case != "never faulty"': "stored=False"}),
    (["13.9 place", "13.10 fixed"], "lr kept", {'head.scale if case == "fixed" else 1.0': "1.0"}),
    (
        ["13.11 in", "13.13 loss above never faulty: faulty", "13.13 in bfloat16"],
        "in float32",
        {"model = model.to(torch.bfloat16)": "model = model.to(torch.float32)"},
    ),
    (
        ["13.11 place", "13.13 loss beside never faulty: fixed"],
        "parameters in bfloat16 all the same",
        {"model.forward = cast(model.forward)": "model = model.to(torch.bfloat16)"},
    ),
    (
        ["13.12 stored × 1024: predicted"],
        "settings kept",
        {
            "rescale(model, optimizer, weight=dict.fromkeys(names, 1024.0))": (
                "__import__('scaleinv').scale_parameters(model, dict.fromkeys(names, 1024.0))"
            )
        },
    ),
    (["13.12 stored × 1024: place"], "in float32", {'tuned("faulty")\nbefore': 'tuned("fixed")\nbefore'}),
    (
        ["13.14"],
        "the checkpoint saved in float32",
        {
            'torch.save(model.state_dict(), f"{folder}/MODEL.pt")': (
                'torch.save({n: p.float() for n, p in model.state_dict().items()}, f"{folder}/MODEL.pt")'
            )
        },
    ),
    (
        ["13.15 divided by 64: columns"],
        "stored numbers divided",
        {"model = faint(factor)": "model = faint(1.0); model[-1].weight.data /= factor; model"},
    ),
    (["13.15 divided by 64: last"], "not divided", {"out: out / factor": "out: out"}),
    (["13.16 tokens"], "a usual start", {"small = language(2e-4,": "small = language(0.02,"}),
    (["13.16 loss"], "not converted", {"spoken(2e-4, 0.01, 1e-3": "spoken(2e-4, 1, 1e-3"}),
    (["13.18 healthy"], "an alarm in each", {"zoo.healthy(), zoo": "zoo.healthy().assign(alarms=1), zoo"}),
    (
        ["13.18 mistakes"],
        "half of them not tried",
        {"mistakes.found.mean()": "mistakes.found[::2].sum() / len(mistakes)"},
    ),
    (["13.17"], "tokens from N(0, 1/4)", {'{"N(0, 1) tokens": 1.0': '{"N(0, 1) tokens": 0.5'}),
    (
        ["13.19"],
        "rescaled and converted change places",
        {
            "rescale(model, optimizer, to_mean))": "optimizer.param_groups[0].update(MEAN))",
            "optimizer.param_groups[0].update(MEAN))": "rescale(model, optimizer, to_mean))",
        },
    ),
    (
        ["13.20"],
        "another lr",
        {"optim.AdamW(held.parameters(), **GIVEN)": 'optim.AdamW(held.parameters(), **GIVEN | {"lr": 1e-3})'},
    ),
    (["13.21"], "tokens only five times as large as the rest", {"kinds_of(1.0) -": "kinds_of(0.1) -"}),
]
