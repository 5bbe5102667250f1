"""Saved models and optimizers, from Python and from the command line."""

import pytest
import torch
from torch import nn, optim

from scaleinv import audit, scale_parameters
from scaleinv._audit.saved import Outline, audit_saved, build_outline, fitting_classes
from scaleinv._cli import main
from scaleinv.book import models
from tests.library.audit.shared import MAKE, muon_and_adamw, trained

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


# A state of another class is refused.

WRONG = {
    "SGD": ["betas, eps", "momentum, dampening", "exp_avg, exp_avg_sq", "It fits AdamW or Adam;"],
    "RMSprop": ["betas", "momentum, alpha", "exp_avg"],
    "RAdam": ["amsgrad"],
    "NAdam": ["momentum_decay"],
    "Adagrad": ["lr_decay"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_of_another_class_is_refused(name, tmp_path, capsys):
    words = saved(tmp_path, *trained(model := models.mlp(), optim.AdamW(model.parameters())))
    assert main([*words, name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"this is not the state of {name}: " in err
    assert [part for part in WRONG[name] if part not in err] == []


@pytest.mark.parametrize("name", ["AdamW", "amsgrad", "SGD", "Nesterov", "RMSprop", "Adagrad", "Adafactor", "NAdam",
                                  "Adamax", "RAdam", "Rprop", "Adadelta", "ASGD", "Adam"])  # fmt: skip
def test_a_state_fits_its_own_class_and_few_others(name):
    model = models.mlp(8)
    optimizer = MAKE[name](model.parameters())
    trained(model, optimizer)
    fitting = fitting_classes(optimizer.state_dict())
    assert fitting[0] == type(optimizer).__name__
    assert set(fitting[1:]) <= {"Adam", "AdamW"} & {fitting[0], "Adam"}


def test_coupled_decay_is_not_audited_as_decoupled():
    """The groups of Adam and AdamW have the same names; a flag tells them apart."""
    model = models.mlp(8)
    coupled, decoupled = optim.Adam(model.parameters()), optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="not the state of AdamW: .*the flag decoupled_weight_decay=False.*fits Adam;"):
        audit_saved(model.state_dict(), coupled.state_dict(), optim.AdamW)
    units = [
        audit_saved(model.state_dict(), each.state_dict(), optim.Adam).rows[0].optimizer
        for each in (coupled, decoupled)
    ]
    assert units == ["Adam", "Adam"]


def test_what_schedulers_and_users_add_to_groups_is_no_objection():
    model = models.mlp(8)
    optimizer = optim.AdamW([{"params": model.parameters(), "name": "all", "lr_scale": 0.5}])
    optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=10)
    assert len(audit_saved(model.state_dict(), optimizer.state_dict(), optim.AdamW).trained) == 4
    old = optimizer.state_dict()
    del old["param_groups"][0]["decoupled_weight_decay"], old["param_groups"][0]["fused"]  # as older versions of torch
    assert len(audit_saved(model.state_dict(), old, optim.AdamW).trained) == 4


# Which state belongs to which parameter.


def stack(depth, names=None):
    """Layers of one shape, whose states can be told apart: layer i has a gradient of 2⁻ⁱ."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4, bias=False) for _ in range(depth)]
    return nn.Sequential(*layers) if names is None else nn.ModuleDict(dict(zip(names, layers)))


def stepped(model, optimizer):
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 2.0**-number)
    optimizer.step()
    optimizer.zero_grad()
    return model.state_dict(), optimizer.state_dict()


def by_name(state):
    """As in a safetensors file."""
    return {name: state[name] for name in sorted(state)}


def below_eps(result):
    return {row.parameter: row.below_eps for row in result.rows}


def test_numbered_layers_are_in_the_order_of_their_numbers():
    model = stack(12)
    optimizer = optim.AdamW(model.parameters(), eps=2.0**-2.5)  # larger than the gradients of layers 3 and later
    state, optimizer_state = stepped(model, optimizer)
    result = audit_saved(by_name(state), optimizer_state, optim.AdamW)
    assert below_eps(result) == below_eps(audit(model, optimizer)) and set(below_eps(result).values()) == {0, 1}


def test_a_finding_names_the_same_layer_as_that_of_the_live_training():
    """One matrix has a gradient far below eps, and so far below those of the others."""
    model = stack(12)
    optimizer = optim.AdamW(model.parameters())
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.randn_like(parameter) * (1e-10 if number == 2 else 1)
    optimizer.step()
    optimizer.zero_grad()
    for result in (
        audit(model, optimizer),
        audit_saved(by_name(model.state_dict()), optimizer.state_dict(), optim.AdamW),
    ):
        assert [each.parameters for each in result.findings if each.kind == "most_below_eps"] == [("2.weight",)]


def test_names_in_sorted_order_are_not_an_order():
    model = stack(3, ["query", "key", "value"])
    state, optimizer_state = stepped(model, optim.AdamW(model.parameters()))
    audit_saved(state, optimizer_state, optim.AdamW)
    with pytest.raises(ValueError, match="in several ways: 'key.weight' and 'query.weight' could be exchanged"):
        audit_saved(by_name(state), optimizer_state, optim.AdamW)
    named = stepped(model, optim.AdamW(model.named_parameters()))[1]
    assert len(audit_saved(by_name(state), named, optim.AdamW).trained) == 3
    outline = Outline(stack(3, ["query", "key", "value"]).to("meta"))
    result = audit_saved(by_name(state), optimizer_state, optim.AdamW, outline=outline)
    assert [(row.parameter, row.layer) for row in result.rows] == [
        ("query.weight", "Linear"), ("key.weight", "Linear"), ("value.weight", "Linear")
    ]  # fmt: skip


def test_a_file_of_state_dict_has_the_order_of_the_model(tmp_path):
    """Even where the names are in sorted order, if it is what state_dict() has returned."""
    model = stack(2, ["first", "second"])
    stepped(model, optimizer := optim.AdamW(model.parameters()))
    saved(tmp_path, model, optimizer)
    assert loaded(tmp_path, optim.AdamW).flat() == audit(model, optimizer).flat()
    torch.save(dict(model.state_dict()), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="the names are sorted, as in safetensors files, so the order is lost"):
        loaded(tmp_path, optim.AdamW)


def test_groups_may_be_in_any_order():
    """As those with a learning rate for each layer, the last first."""
    model = stack(4)
    groups = [{"params": layer.parameters(), "lr": 0.1 * 0.5**i} for i, layer in enumerate(reversed(model))]
    state, optimizer_state = stepped(model, optim.AdamW(groups))
    with pytest.raises(ValueError, match="in several ways: '0.weight' and '3.weight' could be exchanged"):
        audit_saved(state, optimizer_state, optim.AdamW)


def test_names_in_groups_may_be_sorted():
    """As in code that collects the names of the parameters to be decayed in a set, and sorts it."""
    model = nn.Sequential(*stack(12), nn.LayerNorm(4, bias=False))
    decayed = [p for p in model.parameters() if p.ndim == 2]
    groups = [{"params": decayed}, {"params": model[12].parameters(), "weight_decay": 0}]
    state, optimizer_state = stepped(model, optim.AdamW(groups))
    with pytest.raises(ValueError, match="in several ways: '.*' and '.*' could be exchanged"):
        audit_saved(state, optimizer_state, optim.AdamW)
    outline = Outline(model, (optim.AdamW(groups),))
    result = audit_saved(state, optimizer_state, optim.AdamW, outline=outline)
    assert below_eps(result) and [row.group for row in result.rows] == [0] * 12 + [1]


def test_a_split_by_decay_is_matched_by_shapes():
    """The optimizer has the parameters in another order than the model: matrices first."""
    model = models.gpt(16, 2)
    split = [[p for p in model.parameters() if (p.ndim == 2) == matrix] for matrix in (True, False)]
    optimizer = optim.AdamW([{"params": split[0], "weight_decay": 0.1}, {"params": split[1], "weight_decay": 0.0}])
    trained(model, optimizer)
    optimizer.zero_grad()
    result = audit_saved(model.state_dict(), optimizer.state_dict(), optim.AdamW)
    assert result.flat() == audit(model, optimizer).flat()


def test_names_with_another_shape_are_refused():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4))
    state = stepped(model, optim.AdamW(model.named_parameters()))[1]
    names = state["param_groups"][0]["param_names"]
    names[0], names[2] = names[2], names[0]
    with pytest.raises(ValueError, match=r"state of '1.weight' has the shape \(5, 3\), in the model it has \(4, 5\)"):
        audit_saved(model.state_dict(), state, optim.AdamW)


def test_two_optimizers_are_audited_together():
    model = models.gpt(16, 1)
    optimizers = muon_and_adamw(model)
    trained(model, optimizers)
    for each in optimizers:
        each.zero_grad()
    states, classes = [each.state_dict() for each in optimizers], [optim.Muon, optim.AdamW]
    result = audit_saved(model.state_dict(), states, classes, outline=Outline(model, tuple(optimizers)))
    assert result.flat() == audit(model, optimizers).flat()
    with pytest.raises(ValueError, match="2 optimizers"):
        audit_saved(model.state_dict(), states, optim.AdamW)
    with pytest.raises(ValueError, match="not the state of Muon"):
        audit_saved(model.state_dict(), states[::-1], classes)


def test_the_states_stay_as_they_are():
    model = models.mlp(8)
    state = stepped(model, optim.AdamW(model.parameters()))[1]
    before = repr(state)
    audit_saved(model.state_dict(), state, optim.AdamW, outline=Outline(model, (optim.AdamW(model.parameters()),)))
    assert repr(state) == before


# The outline of a model, from its code.


def test_an_outline_has_no_numbers_and_leaves_random_state_alone():
    before = torch.get_rng_state()
    assert build_outline(lambda: nn.Linear(3, 2), "f").model.weight.is_meta
    computing = build_outline(lambda: nn.Sequential(*(nn.Dropout(p.item()) for p in torch.linspace(0, 1, 3))), "f")
    assert [each.p for each in computing.model] == [0, 0.5, 1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("made, error, words", [
    (lambda: 1, TypeError, "f returns int; it has to return a module, or a module and its optimizers"),
    (lambda: (nn.Linear(2, 2), 1), TypeError, "f returns Linear, int"),
    (lambda: (), TypeError, "f returns nothing"),
    (lambda width: nn.Linear(width, 2), ValueError, "TypeError: .*width.*; it has to take no arguments"),
])  # fmt: skip
def test_what_is_no_outline_is_refused(made, error, words):
    with pytest.raises(error, match=words):
        build_outline(made, "f")


@pytest.mark.parametrize("outline, words", [
    (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5)), r"'1.weight' has the shape \(5, 4\), in the file it has "),
    (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)), "'2.weight' is not in the file, which has 0.we"),
    (nn.Linear(4, 4), "in the file several times, after '0.' and '1.'; build the whole model"),
])  # fmt: skip
def test_an_outline_of_another_model_is_refused(outline, words):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    state = optim.AdamW(model.parameters()).state_dict()
    with pytest.raises(ValueError, match=words):
        audit_saved(model.state_dict(), state, optim.AdamW, outline=Outline(outline))


def test_a_prefix_of_all_names_in_the_file_is_no_objection():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    result = audit_saved(state, optim.AdamW(model.parameters()).state_dict(), optim.AdamW, outline=Outline(model))
    assert [row.parameter for row in result.rows] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert {row.status for row in result.rows} == {"trained"}


# Damaged files.


def damaged(change):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model_state, state = stepped(model, optim.AdamW(model.parameters()))
    model_state = dict(model_state)
    change(model_state, state["param_groups"][0], state["state"][2])
    return model_state, state


@pytest.mark.parametrize("change, words", [
    (lambda m, g, s: s.pop("exp_avg_sq"), "state of parameter 2 does not have exp_avg_sq; is the file complete"),
    (lambda m, g, s: s.update(step="x"), "parameter 2 has step='x', not a number of steps"),
    (lambda m, g, s: s.update(step=torch.tensor(torch.nan)), "parameter 2 has step=a dense tensor"),
    (lambda m, g, s: s.update(step=-1), "parameter 2 has step=-1"),
    (lambda m, g, s: s.update(step=10**30), "parameter 2 has step=1000"),
    (lambda m, g, s: s.update(exp_avg=torch.zeros(3)), r"buffers of the shapes \(2, 3\) and \(3,\)"),
    (lambda m, g, s: s.update(exp_avg=[0.0]), r"exp_avg=\[0.0\], not a tensor"),
    (lambda m, g, s: s.update(exp_avg=torch.zeros(2, 3).to_sparse()), r"exp_avg=a sparse tensor of the shape \(2, 3\)"),
    (lambda m, g, s: s.update(exp_avg=torch.zeros(3), exp_avg_sq=torch.zeros(3)), "do not fit the 4 tensors"),
    (lambda m, g, s: g.update(lr="1e-3"), "lr='1e-3' in group 0 is not a value such as 0.001"),
    (lambda m, g, s: g.update(lr=torch.zeros(2)), r"lr=a dense tensor of the shape \(2,\) in group 0"),
    (lambda m, g, s: g.update(betas=(0.9,)), r"betas=\(0.9,\) in group 0 is not a value such as \(0.9, 0.999\)"),
    (lambda m, g, s: g.update(betas=0.9), "betas=0.9 in group 0"),
    (lambda m, g, s: g.update(amsgrad="no"), "amsgrad='no' in group 0"),
    (lambda m, g, s: g.update(weight_decay=None), "weight_decay=None in group 0"),
    (lambda m, g, s: g.update(params=[0, 1, 2, 2]), "AdamW does not take these parameter groups|do not fit"),
    (lambda m, g, s: m.update({"0.bias": torch.zeros(3).to_sparse()}), "model: '0.bias' is a sparse tensor"),
    (lambda m, g, s: m.update({"0.bias": torch.zeros(3, device="meta")}), "model: '0.bias' is a meta tensor"),
])  # fmt: skip
def test_what_is_damaged_is_refused_with_its_place(change, words):
    model, state = damaged(change)
    with pytest.raises(ValueError, match=words):
        audit_saved(model, state, optim.AdamW)


@pytest.mark.parametrize("change", [
    lambda m, g, s: g.update(params=[0, 1, 2, None]), lambda m, g, s: g.update(param_names=["0.weight"]),
    lambda m, g, s: g.pop("params"), lambda m, g, s: g.update(params=4),
])  # fmt: skip
def test_what_has_no_groups_of_numbers_is_no_state(change):
    model, state = damaged(change)
    with pytest.raises(TypeError, match="is not an optimizer's state_dict"):
        audit_saved(model, state, optim.AdamW)


def test_the_change_is_the_damage():
    audit_saved(*damaged(lambda m, g, s: None), optim.AdamW)
