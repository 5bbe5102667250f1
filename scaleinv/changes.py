"""What people change in a training, as a change of units: what to tell ``convert`` and ``rescale``.

>>> import torch
>>> from scaleinv import changes, convert
>>> convert(torch.optim.SGD, {"lr": 0.1}, changes.loss_times(8))
{'lr': 0.0125}
"""

from dataclasses import dataclass

from scaleinv._checks import check_scale


@dataclass(frozen=True)
class Change:
    """A change of units; ``scaleinv.changes`` makes them from what people change.

    Attributes:
        reason: why these factors, in words.
        weight: the factor of the stored parameters, for which the module's own code makes up.
        loss: the factor of the loss.
        of: which parameters it concerns, in words.
        exact: whether the training is the same one; else only its steps relative to the parameters are.
    """

    reason: str
    weight: float = 1.0
    loss: float = 1.0
    of: str = "all parameters"
    exact: bool = True


def check_change(change, weight, loss):
    """A change's factors of weight and loss; TypeError for none, ValueError where others are given besides."""
    if not isinstance(change, Change):
        raise TypeError(f"change={change!r} is not one of scaleinv.changes, such as changes.loss_times(8)")
    if (weight, loss) != (1, 1):
        raise ValueError(f"weight={weight!r}, loss={loss!r}: give these or change={change!r}, not both")
    return change.weight, change.loss


def loss_times(factor):
    """The loss is multiplied by ``factor``: by a loss weight, by a fixed loss scale, or since gradients are summed,
    over ``factor`` processes or accumulated pieces, instead of averaged."""
    factor = check_scale("factor", factor)
    return Change(f"the loss is {_times(factor)}, and its gradients with it", loss=factor)


def sum_over(size):
    """The loss is summed over a batch of ``size`` instead of averaged; ``loss_times(1 / size)`` is the way back."""
    size = check_scale("size", size)
    return Change(f"a sum over {size:g} is {size:g} times their mean", loss=size)


def gain(factor):
    """The module's own code now multiplies these parameters by ``factor``, as a layer with an equalised learning rate
    does by 1/√fan_in: stored 1/``factor`` times as large, they are the same function."""
    factor = check_scale("factor", factor)
    said = f"stored {_times(1 / factor)}, they are the same function with a gain of {factor:.4g}"
    return Change(said, 1 / factor, of="the parameters with the gain alone")


def lora_alpha(old, new):
    """LoRA's α goes from ``old`` to ``new``, the rank r stays: in y = W·x + (α/r)·B·A·x it is a gain of B.

    For a change of rank, or from α/r to rsLoRA's α/√r, give the old factor and the new one, as in
    ``lora_alpha(16 / 8, 16 / 8**0.5)``.
    """
    old, new = check_scale("old", old), check_scale("new", new)
    ratio = new / old
    said = f"α is {_times(ratio)}, so that B stored {_times(1 / ratio)} is the same function"
    return Change(said, 1 / ratio, of="lora_B alone")


def start_times(factor):
    """The module is initialised ``factor`` times as large: steps keep their size relative to the parameters.

    That is another start, not another unit: only where the module divides by ``factor`` again is it the same training.
    ``rescale`` refuses it.
    """
    factor = check_scale("factor", factor)
    said = f"parameters {_times(factor)} want steps {_times(factor)}, for the same change relative to them"
    return Change(said, factor, exact=False)


def _times(factor):
    return f"{factor:.4g} times as large" if factor != 1 else "as large as before"
