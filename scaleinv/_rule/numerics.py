"""Powers and norms whose bits do not depend on how many members an ensemble has."""

import torch
from torch import Tensor

from scaleinv._rule.base import Scalar


def power(base: Scalar, exponent: Scalar) -> Tensor:
    """base ** exponent in float64, entry by entry in Python, as ``torch.optim`` does: the last bits of torch.pow depend
    on how long a tensor is."""
    numbers = (torch.as_tensor(x, dtype=torch.float64, device="cpu") for x in (base, exponent))
    bases, exponents = torch.broadcast_tensors(*numbers)
    powers = [b**e for b, e in zip(bases.flatten().tolist(), exponents.flatten().tolist(), strict=True)]
    return torch.tensor(powers, dtype=torch.float64, device="cpu").reshape(bases.shape)


def norm(x: Tensor) -> Tensor:
    """The Euclidean norm, summed in pairs: its bits do not depend on how many members are stacked, as a sum's would."""
    x = x.flatten().square()
    while len(x) > 1:
        x = torch.nn.functional.pad(x, (0, len(x) % 2))
        x = x[0::2] + x[1::2]
    return x.sum().sqrt()
