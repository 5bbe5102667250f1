"""What another width does to one parameter."""

from dataclasses import dataclass

from scaleinv._width.settings import Powers


@dataclass(frozen=True)
class Row:
    """What the width does to one parameter.

    Attributes:
        name: of the parameter.
        kind: "input", "hidden", "output", "vector" or "fixed".
        base_shape, shape: at the two widths.
        powers: of n, for its settings.
        group: the number of its group in ``Width.groups``.

    >>> import torch, scaleinv
    >>> wide, narrow = (torch.nn.Linear(d, 4, bias=False) for d in (64, 16))
    >>> (row,) = scaleinv.width(wide, narrow, torch.optim.SGD, {"lr": 0.5}).rows
    >>> row.kind, row.powers.lr, row.powers.reason
    ('output', -1.0, 'ΔW·x adds up over n times the inputs')
    """

    name: str
    kind: str
    base_shape: tuple[int, ...]
    shape: tuple[int, ...]
    powers: Powers
    group: int
