"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["9.1"], "an eps that sets the step", {"**GIVEN)\npredicted": "**GIVEN, eps=1.0)\npredicted"}),
    (
        ["9.2 N(0,1) tokens", "9.2 tensors", "9.3 tied, lr 3e-4: loss"],
        "tokens only five times as large as the rest",
        {'{"faulty": (1.0, 1)': '{"faulty": (0.1, 1)'},
    ),
    (["9.2 place", "9.3 tied, lr 3e-4: share"], "settings kept", {"changes.init_times(k)": "changes.init_times(1)"}),
    (
        ["9.3 tied, each", "9.3 tied, large lr", "9.3 tied: loss"],
        "fixed at the start",
        {"LRS = 1e-3, 3e-3, 1e-2\n": 'LRS = 1e-3, 1e-2\nLANGUAGE["fixed"] = LANGUAGE["never faulty"]\n'},
    ),
    (
        ["9.3 untied: loss below never faulty: fixed", "9.3 untied: loss below never faulty: faulty"],
        "tied again",
        {"grid_of(False, (given_lr, *LRS))": "grid_of(True, LRS)"},
    ),
    (["9.4 SGD", "9.5 loss"], "the mean as it was", {'"faulty": (64.0, MEAN)': '"faulty": (1.0, MEAN)'}),
    (["9.4 place", "9.5 fixed"], "lr kept", {"changes.sum_over(64)": "changes.sum_over(1)"}),
    (
        ["9.6 Adam", "9.7 loss above never faulty: faulty", "9.7 loss beside never faulty: summed"],
        "the loss as it was, and the sum divided",
        {'"faulty": (PIXELS, ADAM)': '"faulty": (1.0, ADAM)', '"summed": (64.0, ADAM)': '"summed": (PIXELS, ADAM)'},
    ),
    (["9.6 place", "9.7 fixed"], "eps kept", {"changes.loss_times(PIXELS)": "changes.loss_times(1)"}),
    (
        ["9.7 clipped to 1/8", "9.7 clipped: severity"],
        "SGD in Adam's place",
        {'"Adam": (optim.Adam, ADAM)}': '"Adam": (optim.SGD, MEAN)}'},
    ),
    (
        ["9.8"],
        "asked for vowels without stress",
        {'held_out=True, on="cpu"))\nshare': 'held_out=True, stress=False, on="cpu"))\nshare'},
    ),
    (["9.9 head", "9.10 loss"], "stored plainly", {'stored=case != "never faulty"': "stored=False"}),
    (["9.9 place", "9.10 fixed"], "lr kept", {'head.scale if case == "fixed" else 1.0': "1.0"}),
    (
        ["9.11 in", "9.13 loss above never faulty: faulty", "9.13 in bfloat16"],
        "in float32",
        {"model = model.to(torch.bfloat16)": "model = model.to(torch.float32)"},
    ),
    (
        ["9.11 place", "9.13 loss beside never faulty: fixed"],
        "parameters in bfloat16 all the same",
        {"model.forward = cast(model.forward)": "model = model.to(torch.bfloat16)"},
    ),
    (
        ["9.12 stored × 1024: predicted"],
        "settings kept",
        {
            "rescale(model, optimizer, weight=dict.fromkeys(names, 1024.0))": (
                "__import__('scaleinv').scale_parameters(model, dict.fromkeys(names, 1024.0))"
            )
        },
    ),
    (["9.12 stored × 1024: place"], "in float32", {'tuned("faulty")\nbefore': 'tuned("fixed")\nbefore'}),
    (
        ["9.14"],
        "the checkpoint saved in float32",
        {
            'torch.save(model.state_dict(), f"{folder}/MODEL.pt")': (
                'torch.save({n: p.float() for n, p in model.state_dict().items()}, f"{folder}/MODEL.pt")'
            )
        },
    ),
    (
        ["9.15 divided by 64: columns"],
        "stored numbers divided",
        {"model = faint(factor)": "model = faint(1.0); model[-1].weight.data /= factor; model"},
    ),
    (["9.15 divided by 64: last"], "not divided", {"out: out / factor": "out: out"}),
    (["9.16 tokens"], "a usual start", {"small = language(2e-4,": "small = language(0.02,"}),
    (["9.16 loss"], "not converted", {"spoken(2e-4, 0.01, 1e-3": "spoken(2e-4, 1, 1e-3"}),
    (["9.18 healthy"], "an alarm in each", {"zoo.healthy(), zoo": "zoo.healthy().assign(alarms=1), zoo"}),
    (
        ["9.18 mistakes"],
        "half of them not tried",
        {"mistakes.found.mean()": "mistakes.found[::2].sum() / len(mistakes)"},
    ),
    (["9.17"], "tokens from N(0, 1/4)", {'{"N(0, 1) tokens": 1.0': '{"N(0, 1) tokens": 0.5'}),
    (
        ["9.19"],
        "rescaled and converted change places",
        {
            "rescale(model, optimizer, to_mean))": "optimizer.param_groups[0].update(MEAN))",
            "optimizer.param_groups[0].update(MEAN))": "rescale(model, optimizer, to_mean))",
        },
    ),
    (
        ["9.20"],
        "another lr",
        {"optim.AdamW(held.parameters(), **GIVEN)": 'optim.AdamW(held.parameters(), **GIVEN | {"lr": 1e-3})'},
    ),
    (["9.21"], "tokens only five times as large as the rest", {"kinds_of(1.0) -": "kinds_of(0.1) -"}),
]
