"""A callback for Lightning."""

from collections.abc import Collection
from typing import Any

from scaleinv.integrations._watch import Watch

__all__ = ["LightningAudit"]

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import Callback
    except ImportError:
        Callback = object


class LightningAudit(Callback):
    """Audits a training before its first two optimizer steps, and each ``every``-th: ``Trainer(callbacks=[...])``.

    Gradients are whole then: accumulated over all batches of the step and unscaled; ``gradient_clip_val`` is taken
    into account.  The numbers go to the trainer's loggers, as "audit/..."; faults and warnings, each once, to
    ``warnings``.

    Args:
        every: audit when so many steps were taken, or a multiple.
        stop: "fault" or "warning" to end the training after a step before which one of these is found.
        columns: which of the columns of ``Audit.flat`` to log, of at most 20 parameters or blocks each.
        options: for ``audit``, such as ``mute``.

    Attributes:
        watch.audits: step → ``Audit``, the latest 100.

    Raises:
        ImportError: without Lightning.
        TypeError, ValueError: if ``every`` is not a whole number from 1, or ``stop`` or ``columns`` is not known.

    >>> trainer = lightning.Trainer(callbacks=[LightningAudit(every=500, stop="fault")])  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        every: int = 1000,
        stop: str | None = None,
        columns: Collection[str] = ("measured", "rms"),
        **options: Any,
    ) -> None:
        if Callback is object:
            raise ImportError("LightningAudit needs Lightning: pip install lightning")
        self.watch = Watch(every=every, stop=stop, columns=columns, options=options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.watch.start()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        step = trainer.global_step
        if not self.watch.due(step):
            return
        clips_norm = str(getattr(trainer.gradient_clip_algorithm, "value", "norm")) == "norm"
        known = {
            "max_norm": trainer.gradient_clip_val if clips_norm and trainer.gradient_clip_val else None,
            "scaler": getattr(trainer.precision_plugin, "scaler", None),
            "steps": trainer.max_steps if trainer.max_steps > 0 else None,
        }
        optimizers = trainer.optimizers if len(trainer.optimizers) > 1 else optimizer
        numbers, stops = self.watch.look(step, pl_module, optimizers, speaks=trainer.is_global_zero, **known)
        for logger in trainer.loggers if numbers else []:
            logger.log_metrics(numbers, step=step)
        trainer.should_stop |= stops
