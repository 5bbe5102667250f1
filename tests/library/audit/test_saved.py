"""Saved models and optimizers, from Python and from the command line."""

import pytest
import torch
from torch import nn, optim

from scaleinv import audit, scale_parameters
from scaleinv._audit.saved import audit_saved
from scaleinv._cli import main
from scaleinv.book import models
from tests.library.audit.shared import MAKE, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def saved(tmp_path, model, optimizer):
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    return ["audit", str(tmp_path / "model.pt"), str(tmp_path / "optimizer.pt"), "--optimizer"]


def loaded(tmp_path, cls):
    return audit_saved(*(torch.load(tmp_path / f"{name}.pt", mmap=True) for name in ("model", "optimizer")), cls)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Adafactor", "RMSprop"])
def test_what_is_saved_is_audited_as_what_is_not(name, named, tmp_path):
    model = scale_parameters(models.convnet(), {"4.weight": 8.0})
    made = MAKE[name](model.named_parameters() if named else model.parameters())
    trained(model, made)
    made.zero_grad()
    saved(tmp_path, model, made)
    frames = [
        result.frame().set_index("parameter").sort_index()
        for result in (audit(model, made), loaded(tmp_path, type(made)))
    ]
    assert [c for c in frames[0] if not frames[0][c].equals(frames[1][c])] == ["layer"]


def test_groups_are_matched_by_shape_or_by_name(tmp_path):
    model = models.mlp(64, depth=2)
    weights, biases = ([(n, p) for n, p in model.named_parameters() if p.ndim == d] for d in (2, 1))
    for pairs in (weights, biases), (weights[::-1], biases[::-1]):
        optimizer = optim.AdamW([{"params": pairs[0], "lr": 0.1}, {"params": pairs[1], "lr": 0.2}])
        trained(model, optimizer)
        optimizer.zero_grad()
        saved(tmp_path, model, optimizer)
        assert loaded(tmp_path, optim.AdamW).flat() == audit(model, optimizer).flat()
    optimizer = optim.AdamW([{"params": [p for _, p in pairs], "lr": 0.1} for pairs in (weights, biases)])
    trained(model, optimizer)
    saved(tmp_path, model, optimizer)
    optimizer.zero_grad()
    assert loaded(tmp_path, optim.AdamW).flat() == audit(model, optimizer).flat()


def test_tied_and_frozen_ones_are_found_again(tmp_path):
    model = models.gpt(16, 1)
    model.head.weight = model.token.weight
    model.position.weight.requires_grad_(False)
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad])
    trained(model, optimizer)
    optimizer.zero_grad()
    saved(tmp_path, model, optimizer)
    frames = [result.frame() for result in (audit(model, optimizer), loaded(tmp_path, optim.AdamW))]
    assert [c for c in frames[0] if not frames[0][c].equals(frames[1][c])] == ["layer"]
    assert frames[1].loc[0, "names"] == ("token.weight", "head.weight") and frames[1].loc[1, "status"] == "frozen"


def test_what_is_in_doubt_is_not_guessed(tmp_path):
    model = models.mlp(64, depth=3)
    model[1].requires_grad_(False)
    inner = [*model[3].parameters(), *model[7].parameters()]  # model[5] has the same shapes as model[3]
    for optimizer in (optim.AdamW(inner), optim.SGD([{"params": [p]} for p in inner], 0.1), optim.SGD(inner, 0.1)):
        saved(tmp_path, *trained(model, optimizer))
        with pytest.raises(
            ValueError, match="fit the 8 tensors of the model in several ways: '.*could be exchanged.*named_parameters"
        ):
            loaded(tmp_path, type(optimizer))
    saved(tmp_path, model, trained(model, optim.AdamW(model[7].parameters()))[1])
    assert [row.status for row in loaded(tmp_path, optim.AdamW).rows] == ["frozen"] * 6 + ["trained"] * 2


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    model = models.mlp()
    words = saved(tmp_path, *trained(model, optim.AdamW(model.parameters())))
    assert main([*words, "torch.optim.AdamW"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "1.weight" in out and "lr" in out and max(map(len, out.splitlines())) <= 80
    assert main([*words, "AdamW"]) == 0
    assert capsys.readouterr().out == out


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    model, other = models.mlp(), models.mlp(7)
    words = saved(tmp_path, *trained(model, optim.AdamW(model.parameters())))
    (tmp_path / "text.pt").write_text("no tensors")
    torch.save(model, tmp_path / "module.pt")
    torch.save(other.state_dict(), tmp_path / "other.pt")
    _, first, second, flag = words
    cases = [
        ("no such", ["audit", first, str(tmp_path / "none.pt"), flag, "AdamW"]),
        ("cannot be loaded as tensors and plain data", ["audit", str(tmp_path / "text.pt"), second, flag, "AdamW"]),
        ("cannot be loaded as tensors and plain data", ["audit", str(tmp_path / "module.pt"), second, flag, "AdamW"]),
        ("is not a model's state_dict", ["audit", second, first, flag, "AdamW"]),
        ("is not an optimizer's state_dict", ["audit", first, first, flag, "AdamW"]),
        ("do not fit the 4 tensors", ["audit", str(tmp_path / "other.pt"), second, flag, "AdamW"]),
        ("is not understood", [*words, "AdamW", "--lr", "1"]),
        ("has to be package.module.Name", [*words, "torch.optim.None_"]),
    ]
    for text, command in cases:
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("scaleinv audit: ") and err.count("\n") == 1 and len(err) < 500
        assert text in err.lower() or text in err


class Required(optim.SGD):
    """Takes lr as the paper names it, and without a default."""

    def __init__(self, params, lr, *, power):
        super().__init__(params, lr)
        for group in self.param_groups:
            group.setdefault("power", power)


def test_what_a_class_requires_is_in_the_saved_groups(tmp_path):
    model = models.mlp(8)
    optimizer = Required(model.parameters(), 0.3, power=2)
    saved(tmp_path, *trained(model, optimizer))
    result = audit_saved(model.state_dict(), optimizer.state_dict(), Required)
    assert {row.lr for row in result.rows} == {0.3} and {row.optimizer for row in result.rows} == {"Required"}
    plain = optim.SGD(model.parameters(), 0.3)
    with pytest.raises(ValueError, match="Required does not take these parameter groups .*power.*the class that was"):
        audit_saved(model.state_dict(), plain.state_dict(), Required)


def test_a_name_that_the_model_does_not_have_is_named():
    model, other = models.mlp(8), nn.Linear(3, 3)
    optimizer = optim.SGD(model.named_parameters(), 0.1)
    with pytest.raises(ValueError, match="parameter '1.weight' is not in the model"):
        audit_saved(other.state_dict(), optimizer.state_dict(), optim.SGD)
