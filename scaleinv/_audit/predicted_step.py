"""How large the next step is by the law of the optimizer, which stands in ``known_optimizers``."""

import math

from scaleinv._audit.training import Trained
from scaleinv.known_optimizers import PredictedStep, StepContext


def predicted_step(trained: Trained) -> PredictedStep:
    """RMS of the next step without weight decay, and the law; NaN, and why, where there is none."""
    law = trained.known.step_law
    if law is None:
        return PredictedStep(math.nan, f"no law is known for {type(trained.optimizer).__name__}'s steps")
    context = StepContext(
        shape=tuple(trained.parameter.shape),
        dtype=trained.parameter.dtype,
        step=trained.steps,
        rms=trained.rms,
        gradient_rms=trained.gradient_rms * trained.clip,
    )
    return law(trained.group, context)
