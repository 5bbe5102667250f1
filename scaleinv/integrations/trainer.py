"""A callback for the Trainer of transformers."""

from collections.abc import Collection
from typing import Any

from scaleinv.integrations._watch import Watch

__all__ = ["TrainerAudit"]

try:
    from transformers import TrainerCallback
except ImportError:
    TrainerCallback = object


class TrainerAudit(TrainerCallback):
    """Audits a training before its first two optimizer steps, and each ``every``-th: ``trainer.add_callback(...)``.

    Gradients are whole then: accumulated over all batches of the step, unscaled and clipped.  The numbers go to
    ``trainer.log``, as "audit/..."; faults and warnings, each once, to ``warnings``.

    Args:
        trainer: the ``transformers.Trainer``.
        every: audit when so many steps were taken, or a multiple.
        stop: "fault" or "warning" to end the training after a step before which one of these is found.
        columns: which of the columns of ``Audit.flat`` to log, of at most 20 parameters or blocks each.
        options: for ``audit``, such as ``mute``.

    Attributes:
        watch.audits: step → ``Audit``, the latest 100.

    Raises:
        ImportError: without transformers.
        TypeError, ValueError: if ``every`` is not a whole number from 1, or ``stop`` or ``columns`` is not known.

    >>> trainer.add_callback(TrainerAudit(trainer, every=500, stop="fault"))  # doctest: +SKIP
    """

    def __init__(
        self,
        trainer: Any,
        *,
        every: int = 1000,
        stop: str | None = None,
        columns: Collection[str] = ("measured", "rms"),
        **options: Any,
    ) -> None:
        if TrainerCallback is object:
            raise ImportError("TrainerAudit needs transformers: pip install transformers")
        self.trainer, self.watch = trainer, Watch(every=every, stop=stop, columns=columns, options=options)
        self._stops = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.watch.start()
        self._stops = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.watch.due(state.global_step):
            known = {"max_norm": args.max_grad_norm or None, "steps": state.max_steps if state.max_steps > 0 else None}
            model, optimizer, speaks = kwargs["model"], kwargs["optimizer"], state.is_world_process_zero
            numbers, self._stops = self.watch.look(state.global_step, model, optimizer, speaks=speaks, **known)
            if numbers:
                self.trainer.log(numbers)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop |= self._stops
