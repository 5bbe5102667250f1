"""How large the next step is by the law of the optimizer, which stands in ``known_optimizers``."""

import math

from scaleinv._audit.training import Trained
from scaleinv.known_optimizers import PredictedStep, StepContext

_WHERE = ", where there is a gradient"


def predicted_step(trained: Trained, without_gradient: float = 0.0, *, least_steps: int = 0) -> PredictedStep:
    """RMS of the next step without weight decay, and the law; NaN, and why, where there is none.

    Args:
        trained: a parameter with what trains it.
        without_gradient: the share of its coordinates that have had no gradient, as most rows of an embedding.  An
            optimizer that divides by the gradient's scale leaves them where they are; the law is for the others.
        least_steps: that many steps are supposed to have been taken.
    """
    law = trained.known.step_law
    if law is None:
        return PredictedStep(math.nan, f"no law is known for {type(trained.optimizer).__name__}'s steps")
    if trained.group.get("lr") is None:
        return PredictedStep(math.nan, "no lr is set")
    context = StepContext(
        shape=tuple(trained.parameter.shape),
        dtype=trained.parameter.dtype,
        step=max(trained.steps, least_steps),
        rms=trained.rms,
        gradient_rms=trained.gradient_rms * trained.clip,
    )
    step, words = law(trained.group, context)
    if not trained.known.gradient_scales or not without_gradient > 0.005:
        return PredictedStep(step, words)
    return PredictedStep(step * math.sqrt(1 - without_gradient), words + _WHERE)
