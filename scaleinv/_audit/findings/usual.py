"""Which gradients are usual, and which are zero but for rounding."""

from statistics import median

from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row


def usual_gradients(audit: Measurements) -> dict[bool, float]:
    """The median gradient scale of vectors (True) and of matrices (False); 0 where there is none."""
    scales: dict[bool, list[float]] = {True: [], False: []}
    for row in audit.trained:
        if _scale(row) > 0:
            scales[len(row.shape) < 2].append(_scale(row))
    return {is_vector: median(values) if values else 0.0 for is_vector, values in scales.items()}


def is_rounding(row: Row, usual: dict[bool, float]) -> bool:
    """Whether a gradient is zero in exact arithmetic, as that of a key bias (softmax cancels it) and of a bias before a
    normalisation.  What is left of it is rounding: about 1e-5 of a usual one in float32, so a thousandth is the limit.
    """
    return _scale(row) < 1e-3 * usual[len(row.shape) < 2]


def _scale(row: Row) -> float:
    """By the optimizer's state where it has one, else by the gradient."""
    return row.gradient_scale if row.gradient_scale >= 0 else row.gradient_rms
