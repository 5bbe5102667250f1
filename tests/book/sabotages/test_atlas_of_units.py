"""The claims that a sabotage makes fail, what it means, and text of the notebook → its replacement."""

from tests.book.sabotage import (  # noqa: F401
    test_a_sabotage_does_not_change_a_claim_itself,
    test_a_sabotage_fails_its_claims,
    test_every_claim_has_a_sabotage,
)

SABOTAGES = [
    (["7.1 units measured"], "lr alone", {"isinstance(u, Unit)]": 'isinstance(u, Unit) and name == "lr"]'}),
    (["7.1 of these"], "every unit is held to that of lr", {"(u, table[name])": '(u, table["lr"])'}),
    (["7.2 consistent"], "counted the other way round", {'v == "bitwise"': 'v != "bitwise"'}),
    (["7.2 without units"], "those that have units", {'if v == "inconsistent")': 'if v == "bitwise")'}),
    (["7.3 optimizers"], "a part of the atlas", {"frame = atlas()\n": "frame = atlas().head(100)\n"}),
    (["7.3 not run"], "the inconsistent ones", {'counts.get("not run", 0)': 'counts.get("inconsistent", 0)'}),
    (["7.3 share"], "the inconsistent ones", {'frame.verdict != "inc': 'frame.verdict == "inc'}),
    (
        ["7.4 lr in W", "7.4 lr in L", "7.4 lr a pure number"],
        "other units",
        {"(frame.L == loss)": "(frame.L == loss + 5)"},
    ),
    (["7.4 lr in another unit"], "the first of the atlas only", {'dropna(subset="L")': 'dropna(subset="L").head(12)'}),
    (
        ["7.5 step / lr at a gradient of 1", "7.5 step / lr at a gradient of 1e-7"],
        "another lr",
        {"p, lr=1.0, eps=eps": "p, lr=0.5, eps=eps"},
    ),
    (["7.5 the same"], "an eps as large as the gradient", {"laprop(0.0, 1e-7)": "laprop(1e-7, 1e-7)"}),
    (["7.5 optimizers"], "any optimizer's file", {'"base/optimizer.py:26"': '"optimizer.py"'}),
    (["7.6 AdaGO"], "the loss as it was", {"adago, c * G": "adago, G"}),
    (["7.6 lr in L"], "another unit", {"members(1, 0)": "members(0, 0)"}),
    (["7.7 AdamG"], "the loss as it was", {"AdamG, c * G": "AdamG, G"}),
    (["7.7 exponent"], "the exponent of W", {'["p"].loss': '["p"].weight'}),
    (["7.8"], "a loss four times as large", {"make, c * g": "make, c * c * g"}),
    (["7.9"], "a gradient as well", {"torch.zeros(3), w": "w.clone(), w"}),
    (["7.10 EmoFact"], "another lr", {"p, lr=0.5, weight": "p, lr=0.4, weight"}),
    (["7.10 MADGRAD"], "an eps that is not lr", {"for e in (1e-6, 0.0)": "for e in (1e-9, 0.0)"}),
    (["7.10 Ranger"], "downhill instead", {"after > before": "after < before"}),
]
