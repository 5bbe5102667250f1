"""Checkpoints that transformers, peft and Lightning write, audited as the live training; skipped without them."""

import json
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from scaleinv import audit
from scaleinv._cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

COLUMNS = "parameter", "layer", "shape", "rms", "lr", "group", "step", "measured", "decay", "below_eps", "equilibrium"


@pytest.fixture
def same_as_live(capsys):
    """Whether the command shows what ``audit`` shows of the live model and optimizer."""

    def compare(model, optimizer, *words, columns=COLUMNS):
        capsys.readouterr()  # what training printed
        status = main(["audit", *map(str, words), "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        live = json.loads(json.dumps(audit(model, optimizer, mute=[]).as_dict()))
        trained = [
            [{column: row[column] for column in columns} for row in each["rows"] if row["status"] == "trained"]
            for each in (json.loads(out), live)
        ]
        assert len(trained[0]) > 3 and trained[0] == trained[1]

    return compare


class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, number):
        words = torch.randint(0, 50, (12,), generator=torch.Generator().manual_seed(number))
        return {"input_ids": words, "labels": words}


def gpt2(layers):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=layers, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def by_trainer(model, folder, **options):
    """Train with the Trainer; its optimizer, and the folder of its last checkpoint."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments = transformers.TrainingArguments(
        str(folder), max_steps=2, save_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        weight_decay=0.01, lr_scheduler_type="constant", disable_tqdm=True, **options,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Texts())
    trainer.train()
    return getattr(trainer.optimizer, "optimizer", trainer.optimizer), folder / "checkpoint-2"


def test_a_checkpoint_of_the_trainer(tmp_path, same_as_live):
    """Ties, two groups, twelve equal layers and sorted names: the order comes from the folder's config.json."""
    model = gpt2(12)
    optimizer, folder = by_trainer(model, tmp_path)
    assert len(optimizer.param_groups) == 2
    same_as_live(model, optimizer, folder, "--optimizer", "AdamW")


def test_a_checkpoint_of_adafactor(tmp_path, same_as_live):
    model = gpt2(2)
    optimizer, folder = by_trainer(model, tmp_path, optim="adafactor")
    same_as_live(model, optimizer, folder, "--optimizer", "transformers.optimization.Adafactor")


def test_a_checkpoint_in_shards(tmp_path, same_as_live):
    model = gpt2(3)
    optimizer, folder = by_trainer(model, tmp_path)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    same_as_live(model, optimizer, folder, "--optimizer", "AdamW")


def test_a_checkpoint_of_an_adapter(tmp_path, same_as_live, monkeypatch):
    """Its file has the adapter alone, with shorter names."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    model = peft.get_peft_model(gpt2(2), config)
    optimizer, folder = by_trainer(model, tmp_path)
    code = ModuleType("adapter_code")
    code.make = lambda: peft.get_peft_model(gpt2(2), config)
    monkeypatch.setitem(sys.modules, "adapter_code", code)
    same_as_live(model, optimizer, folder, "--optimizer", "AdamW", "--model", "adapter_code:make")


def test_a_checkpoint_of_lightning(tmp_path, same_as_live):
    lightning = pytest.importorskip("lightning")

    class Net(lightning.LightningModule):
        def __init__(self, config):
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

        def training_step(self, batch, number):
            return (self.net(batch[0]) - 1).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=10)]

    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 4)), batch_size=4)
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = lightning.Trainer(max_steps=3, default_root_dir=tmp_path, accelerator="cpu", **quiet)
    model = Net(tmp_path)  # a path is a hyperparameter that is neither a tensor nor plain data
    trainer.fit(model, batches)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    optimizer = trainer.optimizers[0]
    optimizer.zero_grad()
    columns = [column for column in COLUMNS if column != "layer"]  # no code tells the classes of the layers
    same_as_live(model, optimizer, tmp_path / "last.ckpt", "--optimizer", "AdamW", columns=columns)


def test_a_file_of_safetensors(tmp_path):
    package = pytest.importorskip("safetensors.torch")
    from scaleinv._audit.saved.files import load_safetensors

    tensors = {"b": torch.randn(3, 4), "a": torch.randn(7).bfloat16(), "c": torch.arange(3), "d": torch.zeros(0, 2)}
    package.save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    loaded = load_safetensors(tmp_path / "a.safetensors")
    assert sorted(loaded) == sorted(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors) and loaded["a"].dtype == torch.bfloat16
