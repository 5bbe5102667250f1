"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

FEWER = {"range(1, 601)": "range(1, 301)", "if step > 300 and": "if step > 150 and"}  # steps, for time

SABOTAGES = [
    (
        ["11.1"],
        "the sharpness is that of twice the loss that is trained; one seed, fewer steps",
        {
            "sharpness(model, partial(loss, model), optimizer": "sharpness(model, lambda: 2 * loss(model), optimizer",
            "for seed in range(2)]": "for seed in range(1)]",
            "700, every=35 * (1 + seed))": "450, every=75)",
        },
    ),
    (
        ["11.2", "11.3"],
        "hyperparameters are not converted",
        {"**convert(cls, given, weight=k, loss=c)": "**given"},
    ),
    (
        ["11.4"],
        "curvatures a tenth smaller than their numbers say",
        {"w.grad = pure / lr": "w.grad = 0.9 * pure / lr"},
    ),
    (
        ["11.5 gradient descent"],
        "a tenth of the loss",
        {
            "start = 0.5 * sharpness(model, partial(half_square, model))": (
                "start = 0.5 * sharpness(model, lambda: 0.1 * half_square(model))"
            )
        },
    ),
    (
        ["11.5 lr at once", "11.5 Adam, at once"],
        "lr rises slowly both times",
        {'{"at once": 1,': '{"at once": 100,'},
    ),
    (
        ["11.5 with warm-up", "11.5 Adam, with warm-up"],
        "lr is at once what it becomes",
        {"lr * min(1, step / warm_up)": "lr"},
    ),
    (["11.6 swing"], "max_norm twice as large", {"clip_grad_norm_([w], 0.01)": "clip_grad_norm_([w], 0.02)"}),
    (
        ["11.6 not clipped", "11.6 clipped at", "11.6 clipped: lr"],
        "an lr below the threshold",
        {"lr=0.8), 400": "lr=0.08), 400"},
    ),
    (
        ["11.7", "11.8 normalised"],
        "a layer that does not divide by the norm",
        {"functional.linear(x, w / w.norm() * w.shape[0] ** 0.5)": "functional.linear(x, w)"},
    ),
    (
        ["11.8 not normalised"],
        "the other network is normalised too",
        {"plain := mlp(32)": "plain := normalised()"},
    ),
    (
        ["11.9 lr·λ_max"],
        "not the best lr but an eighth of it",
        {
            "optim.Adam(model.parameters(), lr=lr)\n    for": "optim.Adam(model.parameters(), lr=lr / 8)\n    for",
            "for seed in range(4)] for g": "for seed in range(1)] for g",
        },
    ),
    (
        ["11.9 λ_max·RMS(w)"],
        "the largest start counts too",
        {"middle[middle.index <= 8]": "middle[middle.index <= 16]"},
    ),
    (
        ["11.10 fall", "11.10 the best of"],
        "each norm with another one's steepest direction and dual",
        {
            "-g.sign(), g.abs().sum()": "-U @ Vt, σ.sum()",
            "-U @ Vt, σ.sum()": "-g / g.norm(), g.norm()",
        },
    ),
    (
        ["11.10 Adam", "11.10 Muon"],
        "the step for another gradient",
        {"p.grad = g.clone()": "p.grad = g.flip(0)"},
    ),
    (
        ["11.11 share of the threshold"],
        "batches of 2 throughout",
        {"torch.randint(100, (size,)": "torch.randint(100, (2,)"} | FEWER,
    ),
    (
        ["11.11 batch 2", "11.11 Adam"],
        "all digits in each step",
        {"rows = torch.randint(100, (size,), generator=drawn)": "rows = slice(None)"} | FEWER,
    ),
    (
        ["11.12 share"],
        "a hundredth of the loss",
        {"return functional.cross_entropy": "return 0.01 * functional.cross_entropy"},
    ),
    (
        ["11.12 after"],
        "labels of other digits",
        {"cross_entropy(model(x), labels[:100])": "cross_entropy(model(x), labels[100:200])"},
    ),
    (["11.13"], "one β₂ for both", {"betas=(0.9, β2)": "betas=(0.9, 0.99)", "steps=700": "steps=350"}),
    (["11.14 1"], "β₁ = 0.9", {"(0.95, 0.999)})": "(0.9, 0.999)})"}),
    (["11.14 2"], "momentum 0.8", {'heavy, dampened = {"momentum": 0.9}': 'heavy, dampened = {"momentum": 0.8}'}),
    (["11.14 3"], "the root of the sum", {"loss=lambda model: n * half": "loss=lambda model: n**0.5 * half"}),
]
