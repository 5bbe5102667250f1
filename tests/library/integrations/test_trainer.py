"""The callback for the Trainer of transformers, in real trainings."""

import warnings

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

from scaleinv import audit, compare, compare_gradients  # noqa: E402 (the package may be missing)
from scaleinv.integrations import TrainerAudit  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


class Model(nn.Module):
    """Four layers, and a loss as Trainer wants it."""

    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
        self.factor = factor

    def forward(self, x, labels):
        return {"loss": self.factor * (self.layers(x) - labels).square().mean()}


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        x = torch.randn(8, generator=torch.Generator().manual_seed(index))
        return {"x": x, "labels": x.flip(0)}


def trainer_of(folder, model=None, **options):
    arguments = {
        "output_dir": str(folder), "max_steps": 7, "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True,
        "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "learning_rate": 1e-3,
    } | options  # fmt: skip
    return transformers.Trainer(model or Model(), transformers.TrainingArguments(**arguments), train_dataset=Data())


def trained(trainer, **options):
    callback = TrainerAudit(trainer, **options)
    trainer.add_callback(callback)
    trainer.train()
    return callback


def test_it_audits_the_first_two_steps_and_each_so_many(tmp_path):
    trainer = trainer_of(tmp_path)
    callback = trained(trainer, every=3)
    assert list(callback.watch.audits) == [0, 1, 3, 6]
    logged = [entry for entry in trainer.state.log_history if "audit/measured/layers.0.weight" in entry]
    assert [entry["step"] for entry in logged] == [0, 1, 3, 6] and all(len(entry) <= 60 for entry in logged)
    for entry, result in zip(logged, callback.watch.audits.values()):
        assert entry["audit/measured/layers.0.weight"] == result.rows[0].measured > 0
        assert not any(name.startswith("audit/lr/") for name in entry)
    assert [result.rows[0].step for result in callback.watch.audits.values()] == [0, 1, 3, 6]


@pytest.mark.parametrize("accumulated", [1, 4])
def test_gradients_are_whole_and_the_step_is_the_one_that_is_taken(tmp_path, accumulated):
    model = Model()
    trainer = trainer_of(tmp_path, model, gradient_accumulation_steps=accumulated, max_grad_norm=0.05, weight_decay=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    seen = []

    class Look(transformers.TrainerCallback):
        def on_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == 0:
                seen.extend((p.detach() - b).square().mean().sqrt().item() for p, b in zip(model.parameters(), before))
                seen.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())

    trainer.add_callback(Look())
    result = trained(trainer, every=3).watch.audits[0]
    assert [row.change for row in result.rows] == pytest.approx(seen[:-1], rel=1e-4)
    assert result.gradient_norm == pytest.approx(seen[-1], rel=1e-5) and result.max_norm == 0.05 and result.clipped


def test_the_training_is_the_same_bit_for_bit(tmp_path):
    models = [Model(), Model()]
    for model, watched in zip(models, (True, False)):
        trainer = trainer_of(tmp_path, model)
        trained(trainer, every=1) if watched else trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters()))


def faulty():
    model = Model()
    with torch.no_grad():
        model.layers[1].weight[0, 0] = torch.nan
    return model


@pytest.mark.parametrize("stop, steps", [(None, 7), ("fault", 1), ("warning", 1)])
def test_faults_are_warned_of_once_and_may_stop_the_training(tmp_path, stop, steps):
    trainer = trainer_of(tmp_path, faulty())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(trainer, every=1, stop=stop)
    assert trainer.state.global_step == steps
    told = [str(each.message) for each in caught if "layers.1.weight contains NaN" in str(each.message)]
    assert len(told) == 1 and told[0].startswith("step 0: fault: ")


def test_a_healthy_training_is_not_stopped(tmp_path):
    trainer = trainer_of(tmp_path)
    trained(trainer, every=1, stop="fault")
    assert trainer.state.global_step == 7


def test_where_an_audit_fails_the_training_goes_on(tmp_path):
    trainer = trainer_of(tmp_path)
    with pytest.warns(UserWarning, match="step 0 is not audited: mute="):
        trained(trainer, every=5, mute=3)
    assert trainer.state.global_step == 7


def test_a_second_run_and_a_resumed_one_begin_anew(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=4, save_strategy="steps", save_steps=4)
    trained(trainer, every=100)
    resumed = trainer_of(tmp_path, max_steps=8)
    callback = TrainerAudit(resumed, every=7)
    resumed.add_callback(callback)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert list(callback.watch.audits) == [4, 5, 7]


def test_of_a_transformer_it_logs_few_numbers(tmp_path):
    config = transformers.GPT2Config(n_layer=12, n_embd=16, n_head=2, vocab_size=32, n_positions=16)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)

    class Text(torch.utils.data.Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            ids = torch.randint(32, (8,), generator=torch.Generator().manual_seed(index))
            return {"input_ids": ids, "labels": ids}

    trainer = trainer_of(tmp_path, model, max_steps=2)
    trainer.train_dataset = Text()
    callback = trained(trainer)
    entries = [entry for entry in trainer.state.log_history if "audit/findings" in entry]
    assert len(entries) == 2 and all(len(entry) <= 60 for entry in entries)
    assert "audit/measured/transformer.h.0–11.attn.c_attn.weight" in entries[0]
    assert all(result.rows[0].optimizer == "AdamW" for result in callback.watch.audits.values())
    assert compare(callback.watch.audits[0], callback.watch.audits[1]).rows
    assert len(audit(model, trainer.optimizer).rows) == 148


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"every": 2.5}, {"stop": "remark"}, {"columns": ["x"]}, {"columns": "rms"}]
)
def test_wrong_options_are_refused(tmp_path, options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        TrainerAudit(trainer_of(tmp_path), **options)


class Counting(Model):
    """Its loss is a sum over the number of items that Trainer counts, where Trainer does."""

    accepts_loss_kwargs = True

    def forward(self, x, labels, mask, num_items_in_batch=None):
        squares = ((self.layers(x) - labels).square().mean(dim=1) * mask).sum()
        return {"loss": squares / (mask.sum() if num_items_in_batch is None else num_items_in_batch)}


def test_its_steps_accumulate_as_the_whole_batch_or_as_a_mean_of_means(tmp_path):
    model = Counting()
    mask = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    trainer = trainer_of(tmp_path, model)

    def step(pieces, items):
        def run():
            trainer.current_gradient_accumulation_steps = pieces
            for rows in torch.arange(8).chunk(pieces):
                batch = {"x": x[rows], "labels": x.flip(1)[rows], "mask": mask[rows]}
                trainer.training_step(model, batch, num_items_in_batch=items)

        return run

    whole = step(1, mask.sum())
    assert compare_gradients(whole, step(4, mask.sum()), model).kind == "equal"
    assert compare_gradients(whole, step(4, None), model).kind == "unequal"
    assert compare_gradients(whole, step(4, mask.sum() / 4), model).factor == 4
