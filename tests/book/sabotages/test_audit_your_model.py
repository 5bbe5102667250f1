"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["9.1"], "an eps that sets the step", {"**GIVEN)\npredicted": "**GIVEN, eps=1.0)\npredicted"}),
    (
        ["9.2 tied", "9.2 tensors", "9.3 loss above never faulty: faulty"],
        "no fault planted",
        {'{"faulty": (1.0, None), "mended": (1.0, tokens)}': '{"faulty": (0.02, None), "mended": (1.0, tokens)}'},
    ),
    (
        ["9.2 place", "9.3 loss above never faulty: mended"],
        "lr kept",
        {"changes.init_times(50)": "changes.init_times(1)"},
    ),
    (["9.4 SGD", "9.5 loss"], "the mean as it was", {'"faulty": (64.0, MEAN)': '"faulty": (1.0, MEAN)'}),
    (["9.4 place", "9.5 mended"], "lr kept", {"changes.sum_over(64)": "changes.sum_over(1)"}),
    (["9.6 Adam", "9.7 loss"], "the loss as it was", {'"faulty": (PIXELS, ADAM)': '"faulty": (1.0, ADAM)'}),
    (["9.6 place", "9.7 mended"], "eps kept", {"changes.loss_times(PIXELS)": "changes.loss_times(1)"}),
    (
        ["9.8"],
        "asked for vowels without stress",
        {'held_out=True, on="cpu"))\nshare': 'held_out=True, stress=False, on="cpu"))\nshare'},
    ),
    (["9.9 head", "9.10 loss"], "stored plainly", {'stored=case != "never faulty"': "stored=False"}),
    (["9.9 place", "9.10 mended"], "lr kept", {'head.scale if case == "mended" else 1.0': "1.0"}),
    (
        ["9.11 in", "9.13 loss above never faulty: faulty", "9.13 in bfloat16"],
        "in float32",
        {"model = model.to(torch.bfloat16)": "model = model.to(torch.float32)"},
    ),
    (
        ["9.11 place", "9.13 loss above never faulty: mended"],
        "mended by nothing",
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
    (["9.12 stored × 1024: place"], "in float32", {'tuned("faulty")\nbefore': 'tuned("mended")\nbefore'}),
    (["9.14"], "of another network", {"same = audit(model, optimizer)": "same = found['never faulty'] and report"}),
    (
        ["9.15 divided by 64: columns"],
        "stored numbers divided",
        {"model = faint(factor)": "model = faint(1.0); model[-1].weight.data /= factor; model"},
    ),
    (["9.15 divided by 64: last"], "not divided", {"out: out / factor": "out: out"}),
    (["9.16 tokens"], "a usual start", {"small = language(2e-4,": "small = language(0.02,"}),
    (["9.16 loss"], "not converted", {"changes.init_times(0.01)": "changes.init_times(1)"}),
    (["9.17"], "beside the mended run", {'first[case] / first["never faulty"]': 'first[case] / first["mended"]'}),
]
