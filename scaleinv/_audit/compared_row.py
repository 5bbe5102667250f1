"""One parameter in two audits."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ComparedRow:
    """One parameter in two audits.  Ratios are after to before, NaN where one of them is not known.

    Attributes:
        parameter, shape: as before; as after where it is new.
        change: "same", "changed", "new" (only in the audit after) or "gone" (only in the one before).
        before, after: relative change of a step, RMS(Δw)/RMS(w).
        step: their ratio.
        rms, lr, gradient: ratios of RMS(w), of lr and of the gradient's RMS.
        note: what else has changed, as "float32 → bfloat16".

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(4, 3)
    >>> audits = [scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=lr)) for lr in (1e-3, 2e-3)]
    >>> weight = scaleinv.compare(*audits).rows[0]
    >>> weight.parameter, weight.change, weight.step, weight.rms
    ('weight', 'changed', 2.0, 1.0)
    """

    parameter: str
    shape: tuple[int, ...]
    change: str
    before: float = math.nan
    after: float = math.nan
    step: float = math.nan
    rms: float = math.nan
    lr: float = math.nan
    gradient: float = math.nan
    note: str = ""
