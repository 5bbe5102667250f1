"""The callback for Lightning, in real trainings."""

import warnings

import pytest
import torch
from torch import nn

lightning = pytest.importorskip("lightning.pytorch")

from scaleinv.integrations import LightningAudit  # noqa: E402 (the package may be missing)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*(num_workers|logger|GPU|TPU|litlogger|log_every_n_steps|ModelCheckpoint).*"),
]


class Module(lightning.LightningModule):
    def __init__(self, make=lambda p: torch.optim.AdamW(p, 1e-3)):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
        self.make, self.seen = make, []

    def training_step(self, batch, index):
        return (self.layers(batch) - batch.flip(1)).square().mean()

    def configure_optimizers(self):
        return self.make(self.parameters())

    def optimizer_step(self, epoch, index, optimizer, closure):
        before = [p.detach().clone() for p in self.parameters()]
        super().optimizer_step(epoch, index, optimizer, closure)
        self.seen.append([(p.detach() - b).square().mean().sqrt().item() for p, b in zip(self.parameters(), before)])


class Logger(lightning.loggers.logger.Logger):
    name, version = "memory", 0

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, metrics))

    def log_hyperparams(self, *args, **kwargs):
        pass


def fitted(folder, module, callback=None, **options):
    logger = Logger()
    data = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    arguments = {
        "max_steps": 7, "accelerator": "cpu", "logger": logger, "enable_progress_bar": False, "devices": 1,
        "enable_model_summary": False, "enable_checkpointing": False, "callbacks": [callback] if callback else [],
        "default_root_dir": str(folder),
    } | options  # fmt: skip
    trainer = lightning.Trainer(**arguments)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
    return trainer, [(step, metrics) for step, metrics in logger.logged if "audit/findings" in metrics]


def test_it_audits_the_first_two_steps_and_each_so_many(tmp_path):
    callback = LightningAudit(every=3)
    _, logged = fitted(tmp_path, Module(), callback)
    assert [step for step, _ in logged] == list(callback.watch.audits) == [0, 1, 3, 6]
    for (_, metrics), result in zip(logged, callback.watch.audits.values()):
        assert metrics["audit/measured/layers.0.weight"] == result.rows[0].measured > 0 and len(metrics) <= 60


@pytest.mark.parametrize(
    "options", [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.05}, {"precision": "bf16-mixed"}]
)
@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p, 1e-3), lambda p: torch.optim.SGD(p, 0.1)])
def test_gradients_are_whole_and_the_step_is_the_one_that_is_taken(tmp_path, options, make):
    module, callback = Module(make), LightningAudit(every=3)
    fitted(tmp_path, module, callback, **options)
    for step, result in callback.watch.audits.items():
        assert [row.change for row in result.rows] == pytest.approx(module.seen[step], rel=1e-3), step
        assert result.clipped == ("gradient_clip_val" in options)


def test_gradients_that_a_scaler_has_scaled_are_known_as_they_are(tmp_path):
    plugins = [
        lightning.plugins.MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**scale))
        for scale in (4, 10)
    ]
    norms = []
    for plugin in plugins:
        module, callback = Module(lambda p: torch.optim.SGD(p, 0.1)), LightningAudit(every=3)
        fitted(tmp_path, module, callback, plugins=[plugin], accumulate_grad_batches=2)
        norms.append(callback.watch.audits[0].gradient_norm)
        for step, result in callback.watch.audits.items():
            assert [row.change for row in result.rows] == pytest.approx(module.seen[step], rel=1e-3), step
    assert norms[0] == pytest.approx(norms[1], rel=0.01)


def test_the_training_is_the_same_bit_for_bit(tmp_path):
    modules = [Module(), Module()]
    for module, callback in zip(modules, (LightningAudit(every=1), None)):
        fitted(tmp_path, module, callback)
    assert all(torch.equal(a, b) for a, b in zip(modules[0].parameters(), modules[1].parameters()))


@pytest.mark.parametrize("stop, steps", [(None, 7), ("fault", 1), ("warning", 1)])
def test_faults_are_warned_of_once_and_may_stop_the_training(tmp_path, stop, steps):
    module = Module()
    with torch.no_grad():
        module.layers[1].weight[0, 0] = torch.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer, _ = fitted(tmp_path, module, LightningAudit(every=1, stop=stop))
    assert trainer.global_step == steps
    told = [str(each.message) for each in caught if "layers.1.weight contains NaN" in str(each.message)]
    assert len(told) == 1 and told[0].startswith("step 0: fault: ")


def test_where_an_audit_fails_the_training_goes_on(tmp_path):
    with pytest.warns(UserWarning, match="step 0 is not audited: mute="):
        trainer, logged = fitted(tmp_path, Module(), LightningAudit(mute=3))
    assert trainer.global_step == 7 and not logged


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"every": 2.5}, {"stop": "remark"}, {"columns": ["x"]}, {"columns": "rms"}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        LightningAudit(**options)
