"""Checkpoints as people have them, in layouts built by hand."""

import argparse
import json
import shutil
import struct
import sys

import pytest
import torch
from torch import optim

from scaleinv import audit
from scaleinv._audit.saved.checkpoints import read_checkpoint
from scaleinv._audit.saved.files import Ignored, load_parts, load_plain, load_safetensors
from scaleinv._cli import main
from scaleinv.book import models
from tests.library.audit.shared import MAKE, trained

pytestmark = pytest.mark.usefixtures("one_thread")

CODE = """
from scaleinv.book import models
import torch

def make():
    return models.mlp(64, depth=3)

def make_all():
    model = make()
    return model, torch.optim.AdamW(model.parameters())
"""


@pytest.fixture
def training():
    """A model whose inner layers have one shape, and its optimizer after some steps."""
    model = models.mlp(64, depth=3)
    trained(model, optimizer := MAKE["AdamW"](model.parameters()))
    optimizer.zero_grad()
    return model, optimizer


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module of the user's that makes the model."""
    (tmp_path / "maker.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "maker", raising=False)
    return "maker:make"


@pytest.fixture
def audited(capsys):
    """``audited(path, ...)`` is the JSON document of the command, or its error."""

    def run(*words):
        status = main(["audit", *map(str, words), "--json"])
        out, err = capsys.readouterr()
        assert (out == "") == (status == 2)
        return json.loads(out) if status != 2 else err

    return run


def same(document, expected, columns=("parameter", "rms", "lr", "measured", "step", "decay", "below_eps")):
    """Whether a document has the numbers of an audit of the live training."""
    rows = json.loads(json.dumps(expected.as_dict()))["rows"]
    assert [[row[c] for c in columns] for row in document["rows"]] == [[row[c] for c in columns] for row in rows]
    return True


def write_safetensors(path, tensors):
    """As the package does: names sorted, those of larger types first."""
    types = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name].detach().contiguous()
        content = bytes(tensor.reshape(-1).view(torch.uint8).tolist())
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def trainer_folder(folder, model, optimizer):
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", model.state_dict())
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save({"last_epoch": 3}, folder / "scheduler.pt")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"not to be read")
    return folder


# Folders.


def test_a_folder_of_the_trainer_needs_the_order_of_the_model(training, tmp_path, code, audited):
    folder = trainer_folder(tmp_path / "checkpoint-3", *training)
    assert same(audited(folder, "--optimizer", "AdamW", "--model", code), audit(*training))
    assert same(audited(folder, "--model", "maker:make_all"), audit(*training))
    numbered = audited(folder, "--optimizer", "AdamW")  # in the order of the numbers in the names of a Sequential
    assert {row["parameter"]: row["rms"] for row in numbered["rows"]} == {
        row.parameter: row.rms for row in audit(*training).rows
    }


def test_a_model_in_shards(training, tmp_path, code, audited):
    folder = trainer_folder(tmp_path / "checkpoint-3", *training)
    state = training[0].state_dict()
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(state)}
    for file in set(files.values()):
        write_safetensors(folder / file, {name: state[name] for name in state if files[name] == file})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert same(audited(folder, "--optimizer", "AdamW", "--model", code), audit(*training))
    assert same(
        audited(index, folder / "optimizer.pt", "--optimizer", "AdamW", "--model", code), audit(*training)
    )  # fmt: skip
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in audited(folder, "--optimizer", "AdamW")
    index.write_text(json.dumps({"weight_map": {"a": "../model.pt"}}))
    assert "names '../model.pt', which is not in its folder" in audited(folder, "--optimizer", "AdamW")
    index.write_text("[1]")
    assert "is not an index of a model in shards" in audited(folder, "--optimizer", "AdamW")


def test_a_folder_without_a_model_or_an_optimizer_says_what_it_lacks(training, tmp_path, audited):
    folder = trainer_folder(tmp_path / "checkpoint-3", *training)
    (folder / "optimizer.pt").rename(folder / "optimizer.bin")  # as accelerate names it
    assert "rows" in audited(folder, "--optimizer", "AdamW")
    (folder / "optimizer.bin").unlink()
    assert "has no optimizer: none of optimizer.pt, optimizer.bin" in audited(folder, "--optimizer", "AdamW")
    (folder / "model.safetensors").unlink()
    assert "has no model: none of model.safetensors, " in audited(folder, "--optimizer", "AdamW")


# One file with all.


@pytest.mark.parametrize("names", [
    ("model", "optimizer"), ("model_state_dict", "optimizer_state_dict"), ("state_dict", "optimizer"),
    ("net", "optim"), ("weights", "opt_state"),
])  # fmt: skip
def test_one_file_has_both_under_whatever_names(names, training, tmp_path, audited):
    model, optimizer = training
    entries = dict(zip(names, (model.state_dict(), optimizer.state_dict())))
    others = {"epoch": 3, "loss": torch.tensor(0.5), "lr_scheduler": {"last_epoch": 3}, "rng": torch.get_rng_state()}
    torch.save(entries | others, tmp_path / "checkpoint.pt")
    assert same(audited(tmp_path / "checkpoint.pt", "--optimizer", "AdamW"), audit(model, optimizer))


def test_a_checkpoint_of_lightning(training, tmp_path, audited):
    """Its hyperparameters may be objects of any class, which are not loaded."""
    model, optimizer = training
    checkpoint = {
        "epoch": 0, "global_step": 3, "pytorch-lightning_version": "2.6.0", "state_dict": model.state_dict(),
        "loops": {}, "callbacks": {}, "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [],
        "hparams_name": "kwargs", "hyper_parameters": {"config": argparse.Namespace(width=64), "f": len},
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="it contains argparse.Namespace"):
        load_plain(tmp_path / "last.ckpt")
    assert isinstance(load_parts(tmp_path / "last.ckpt")["hyper_parameters"]["config"], Ignored)
    assert same(audited(tmp_path / "last.ckpt", "--optimizer", "AdamW"), audit(model, optimizer))
    checkpoint["optimizer_states"] *= 2
    torch.save(checkpoint, tmp_path / "last.ckpt")
    error = audited(tmp_path / "last.ckpt", "--optimizer", "AdamW")
    assert "1 classes for 2 saved optimizers" in error and "optimizer_states[1] (AdamW or Adam)" in error


def test_several_models_in_a_file_are_not_guessed(training, tmp_path, audited):
    model, optimizer = training
    entries = {"generator": model.state_dict(), "critic": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(entries, tmp_path / "gan.pt")
    assert "has several models, 'generator', 'critic'" in audited(tmp_path / "gan.pt", "--optimizer", "AdamW")
    torch.save(
        {"ema": model.state_dict(), "model": model.state_dict(), "opt": optimizer.state_dict()}, tmp_path / "a.pt"
    )
    assert "rows" in audited(tmp_path / "a.pt", "--optimizer", "AdamW")


def test_the_class_that_is_not_named_is_not_guessed(training, tmp_path, audited):
    model, optimizer = training
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    assert "--optimizer is missing; name the class that was saved. The state fits AdamW or Adam" in audited(
        tmp_path / "a.pt"
    )
    assert "'c.pt' is not understood" in audited("a.pt", "b.pt", "c.pt", "--optimizer", "AdamW")
    assert "no such file" in audited(tmp_path / "none.pt", "--optimizer", "AdamW").lower()


@pytest.mark.parametrize("function, words", [
    ("maker:nothing", "has no attribute 'nothing'; it has to be package.module:function"),
    ("nowhere:make", "No module named 'nowhere'"),
    ("maker", "it has to be package.module:function"),
    ("maker:CODE", "is not a function"),
])  # fmt: skip
def test_a_function_that_is_not_there(function, words, training, tmp_path, code, audited):
    (tmp_path / "maker.py").write_text(CODE + "\nCODE = 1\n")
    folder = trainer_folder(tmp_path / "checkpoint-3", *training)
    assert words in audited(folder, "--optimizer", "AdamW", "--model", function)


def test_names_in_place_of_numbers(training, tmp_path, audited):
    """As torch.distributed.checkpoint has them."""
    model, optimizer = training
    state = optimizer.state_dict()
    names = [name for name, _ in model.named_parameters()]
    state["state"] = {names[number]: each for number, each in state["state"].items()}
    state["param_groups"][0]["params"] = names
    torch.save({"model": model.state_dict(), "optim": state}, tmp_path / "a.pt")
    assert same(audited(tmp_path / "a.pt", "--optimizer", "AdamW"), audit(model, optimizer))


# Files of tensors.


def test_a_safetensors_file_has_the_tensors_by_name(tmp_path):
    tensors = {
        "b": torch.randn(3, 4), "a": torch.randn(5).bfloat16(), "c": torch.tensor([True, False, True]),
        "d": torch.arange(3), "e": torch.zeros(0, 2), "f": torch.tensor(2.0, dtype=torch.float64),
    }  # fmt: skip
    write_safetensors(tmp_path / "a.safetensors", tensors)
    loaded = load_safetensors(tmp_path / "a.safetensors")
    assert list(loaded) == sorted(tensors) and all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert {name: loaded[name].dtype for name in loaded} == {name: tensors[name].dtype for name in sorted(tensors)}


def header(**entry):
    return json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry}).encode()


@pytest.mark.parametrize("content", [
    b"",
    b"short",
    struct.pack("<Q", 2**60) + b"{}",
    struct.pack("<Q", 4) + b"nope",
    struct.pack("<Q", 2) + b"[]",
    *(struct.pack("<Q", len(each)) + each + bytes(8) for each in (
        header(dtype="F12"), header(shape=[3]), header(shape=[-2]), header(data_offsets=[4, 12]),
        header(data_offsets=[-8, 0]), header(data_offsets=[8, 0]), header(data_offsets=[0]), header(shape="ab"), b"[1]",
    )),
])  # fmt: skip
def test_what_is_not_a_safetensors_file_is_refused(content, tmp_path, audited):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a safetensors file: "):
        load_safetensors(path)
    torch.save(optim.SGD([torch.zeros(2)], 0.1).state_dict(), tmp_path / "optimizer.pt")
    assert "is it complete?" in audited(path, tmp_path / "optimizer.pt", "--optimizer", "SGD")


def test_a_file_of_the_old_format_is_read(training, tmp_path, audited):
    model, optimizer = training
    both = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(both, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(audited(tmp_path / "old.pt", "--optimizer", "AdamW"), audit(model, optimizer))


class Attack:
    """Unpickled, it copies a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return shutil.copyfile, (__file__, str(self.marker))


@pytest.mark.parametrize("where", ["hyper_parameters", "model", "optimizer"])
def test_code_beside_the_tensors_does_not_run(where, training, tmp_path, audited):
    """It is ignored where nothing is used, and refused where something is."""
    marker = tmp_path / "the code ran"
    model, optimizer = training
    entries = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict(), "hyper_parameters": {}}
    entries[where]["attack"] = [Attack(marker)]
    torch.save(entries, tmp_path / "a.pt")
    result = audited(tmp_path / "a.pt", "--optimizer", "AdamW")
    assert not marker.exists()
    assert "rows" in result if where == "hyper_parameters" else "it contains shutil.copyfile" in result
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert marker.exists()  # loaded without care, it does run


def test_lists_in_circles_and_deep_ones_are_read(training, tmp_path, audited):
    circle = []
    circle.append(circle)
    deep = []
    for _ in range(5000):
        deep = [deep]
    model, optimizer = training
    entries = {"model": model.state_dict(), "optimizer": optimizer.state_dict() | {"circle": circle}}
    torch.save(entries, tmp_path / "a.pt")
    assert "rows" in audited(tmp_path / "a.pt", "--optimizer", "AdamW")


def test_the_parts_of_a_checkpoint(training, tmp_path):
    model, optimizer = training
    torch.save({"model": model.state_dict(), "optimizers": [optimizer.state_dict()] * 2}, tmp_path / "a.pt")
    checkpoint = read_checkpoint([tmp_path / "a.pt"])
    assert list(checkpoint.model) == list(model.state_dict())
    assert list(checkpoint.optimizers) == ["optimizers[0]", "optimizers[1]"]
