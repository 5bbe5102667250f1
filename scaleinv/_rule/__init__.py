"""From an update rule for one tensor to an optimizer for many tensors, and for ensembles.

Read ``base`` (types and the buffers of a rule), ``arguments`` (checks of what the caller passes), ``rule`` (the
decorator and ``Optimizer``), then ``numerics`` (powers and norms that are the same bits alone and in an ensemble).
"""

from scaleinv._rule.base import Buffer, Hyperparameters, Pair, Scalar, zeros, zeros_if
from scaleinv._rule.numerics import norm, power
from scaleinv._rule.rule import Optimizer, apply_updates, rule

__all__ = [
    "Buffer", "Hyperparameters", "Optimizer", "Pair", "Scalar", "apply_updates", "norm", "power", "rule",
    "zeros", "zeros_if",
]  # fmt: skip
