"""The training of chapter 12: a transformer of 10.8 million parameters on the code of Python's standard library.

``tools/real_run.py`` runs it once and stores what it records; ``stored`` reads that.  The parts of the training are
here, so that a notebook can take its first steps again.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.resources import files

import numpy as np
import torch
import xarray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm

from scaleinv.book.data import sources
from scaleinv.book.models import GPT, gpt

__all__ = [
    "Settings", "Step", "Text", "about", "clip", "dataset", "network", "optimizer_and_schedule", "stored", "take_step",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Everything that one decides before the run.

    Attributes:
        width, depth, heads, length: of the network; length in characters.
        size: of a batch, in sequences; half of it is a half batch.
        steps, warmup: how many, and over how many of them lr rises.
        lr: at its highest, unit W; the cosine ends at a tenth of it.
        betas, eps, weight_decay: AdamW's; only matrices decay.
        max_norm: of the gradient, unit L·W⁻¹.
        seed: of the network and of the batches.

    >>> from scaleinv.book.real_run import Settings
    >>> Settings().multiplier(99), round(Settings().multiplier(1999), 3)
    (1.0, 0.1)
    """

    width: int = 384
    depth: int = 6
    heads: int = 6
    length: int = 64
    size: int = 8
    steps: int = 2000
    warmup: int = 100
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 1.0
    max_norm: float = 1.0
    seed: int = 0

    def multiplier(self, step: int) -> float:
        """What lr is multiplied by at a step, counted from 0: up to 1 along a line, down to 0.1 along a cosine.

        >>> from scaleinv.book.real_run import Settings
        >>> Settings().multiplier(0), Settings().multiplier(99)
        (0.01, 1.0)
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step + 1 - self.warmup) / (self.steps - self.warmup)
        return 0.55 + 0.45 * math.cos(math.pi * min(done, 1.0))

    @property
    def tokens(self) -> int:
        """How many characters a step predicts.

        >>> from scaleinv.book.real_run import Settings
        >>> Settings().tokens
        512
        """
        return self.size * self.length


class Text:
    """The text, and the batches that each step draws from it; the last twentieth is held out.

    Args:
        settings: of the run.
        characters: codes below 128; by default ``scaleinv.book.data.sources()``.

    >>> import torch
    >>> from scaleinv.book.real_run import Settings, Text
    >>> text = Text(Settings(), torch.arange(4000) % 128)
    >>> text.batch(0).shape, torch.equal(text.batch(7), text.batch(7))
    (torch.Size([8, 65]), True)
    """

    def __init__(self, settings: Settings, characters: Tensor | None = None) -> None:
        self.settings = settings
        self.characters = sources() if characters is None else characters
        self.training = len(self.characters) * 19 // 20

    def batch(self, step: int) -> Tensor:
        """The batch of a step, of shape (size, length + 1): it depends on the seed and the step alone.

        >>> import torch
        >>> from scaleinv.book.real_run import Settings, Text
        >>> text = Text(Settings(), torch.arange(4000) % 128)
        >>> torch.equal(text.batch(7), text.batch(7)), torch.equal(text.batch(7), text.batch(8))
        (True, False)
        """
        return self._drawn(step, 0, self.training)

    def held_out(self, count: int = 8) -> list[Tensor]:
        """The same batches each time, from the part of the text that no step sees.

        >>> import torch
        >>> from scaleinv.book.real_run import Settings, Text
        >>> [batch.shape for batch in Text(Settings(), torch.arange(4000) % 128).held_out(1)]
        [torch.Size([8, 65])]
        """
        return [self._drawn(-1 - i, self.training, len(self.characters)) for i in range(count)]

    def unused(self) -> Tensor:
        """The codes that the training part of the text never uses.

        >>> import torch
        >>> from scaleinv.book.real_run import Settings, Text
        >>> Text(Settings(), torch.arange(4000) % 126).unused()
        tensor([126, 127])
        """
        counts = torch.bincount(self.characters[: self.training], minlength=128)
        return (counts == 0).nonzero().flatten()

    def pairs_loss(self) -> float:
        """The loss, on the part that is held out, of a table of which character follows which in the training part.

        >>> import torch
        >>> from scaleinv.book.real_run import Settings, Text
        >>> round(Text(Settings(), torch.arange(400_000) % 128).pairs_loss(), 2)
        0.0
        """
        pairs = self.characters[:-1] * 128 + self.characters[1:]
        counts = torch.bincount(pairs[: self.training], minlength=128**2).reshape(128, 128) + 0.01
        follows = counts / counts.sum(dim=1, keepdim=True)
        return -follows.flatten()[pairs[self.training :]].log().mean().item()

    def sha256(self) -> str:
        """A digest of the text, which differs from one version of Python to another.

        >>> import torch
        >>> from scaleinv.book.real_run import Settings, Text
        >>> Text(Settings(), torch.zeros(4000, dtype=torch.long)).sha256()[:8]
        'fc19b199'
        """
        return hashlib.sha256(self.characters.to(torch.uint8).numpy().tobytes()).hexdigest()

    def _drawn(self, key: int, low: int, high: int) -> Tensor:
        random = np.random.default_rng([self.settings.seed, key % 2**32])
        starts = random.integers(low, high - self.settings.length - 1, size=(self.settings.size, 1))
        return self.characters[torch.from_numpy(starts) + torch.arange(self.settings.length + 1)]


def network(settings: Settings) -> GPT:
    """The transformer, at its start.

    >>> from scaleinv.book.real_run import Settings, network
    >>> sum(p.numel() for p in network(Settings(width=8, depth=1, heads=2)).parameters())
    3448
    """
    return gpt(settings.width, settings.depth, heads=settings.heads, length=settings.length, seed=settings.seed)


def optimizer_and_schedule(
    model: nn.Module, settings: Settings
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW, under which matrices decay and vectors do not, with warm-up and a cosine.

    >>> from scaleinv.book.real_run import Settings, network, optimizer_and_schedule
    >>> model = network(Settings(width=8, depth=1, heads=2))
    >>> optimizer, schedule = optimizer_and_schedule(model, Settings())
    >>> [(group["weight_decay"], group["lr"]) for group in optimizer.param_groups]
    [(1.0, 2e-05), (0.0, 2e-05)]
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim == 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, settings.multiplier)


@dataclass(frozen=True)
class Step:
    """What a step was.

    Attributes:
        loss: before the step, not multiplied by a loss factor; unit L.
        norm: of the whole gradient before clipping, unit L·W⁻¹.
        factor: by which clipping multiplied the gradient.
        first: of each parameter, the gradient of the first half of the batch, not clipped.

    >>> from scaleinv.book.real_run import Step
    >>> Step(loss=2.5, norm=4.0, factor=0.25, first=[]).factor
    0.25
    """

    loss: float
    norm: float
    factor: float
    first: list[Tensor]


def take_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, characters: Tensor, max_norm: float, *, loss: float = 1.0
) -> Step:
    """One step on a batch, whose two halves are differentiated one after the other.

    Args:
        model: from characters to logits.
        optimizer: of its parameters.
        characters: (size, length + 1).
        max_norm: to which the gradient is clipped, in the unit of the gradient.
        loss: a factor of the loss.

    >>> import torch
    >>> from scaleinv.book.real_run import Settings, network, optimizer_and_schedule, take_step
    >>> model = network(Settings(width=8, depth=1, heads=2))
    >>> optimizer, _ = optimizer_and_schedule(model, Settings())
    >>> round(take_step(model, optimizer, torch.zeros(4, 9, dtype=torch.long), 1.0).loss, 1)
    4.8
    """
    optimizer.zero_grad()
    parameters = list(model.parameters())
    losses: list[float] = []
    gradients: list[Tensor] = []
    for half in characters.chunk(2):
        error = cross_entropy(model(half[:, :-1]), half[:, 1:])
        (loss / 2 * error).backward()
        losses.append(error.item())
        gradients = gradients or [2 * p.grad for p in parameters if p.grad is not None]
    norm, factor = clip(parameters, max_norm)
    optimizer.step()
    return Step(sum(losses) / 2, norm, factor, gradients)


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> tuple[float, float]:
    """Multiply the gradients by max_norm/norm where their norm exceeds max_norm.

    ``torch.nn.utils.clip_grad_norm_`` divides by norm + 1e-6, a constant in the gradient's unit that nobody converts.

    Returns:
        The norm before, and the factor.

    >>> import torch
    >>> from scaleinv.book.real_run import clip
    >>> p = torch.nn.Parameter(torch.zeros(2))
    >>> p.grad = torch.tensor([3.0, 4.0])
    >>> clip([p], 1.0), p.grad
    ((5.0, 0.2), tensor([0.6000, 0.8000]))
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = get_total_norm(gradients).item()
    factor = min(1.0, max_norm / norm) if norm > 0 else 1.0
    if factor < 1:
        for g in gradients:
            g.mul_(factor)
    return norm, factor


def stored() -> xarray.Dataset:
    """What the run recorded, as ``tools/real_run.py`` stored it.

    Returns:
        A dataset with a variable for each recorded quantity, over ``step`` (each), ``recorded`` (the steps at which
        tensors were looked at), ``parameter`` and ``snapshot``; its attributes hold the settings, the versions and the
        digest of the text.

    >>> from scaleinv.book.real_run import stored
    >>> stored().sizes["step"]
    2000
    """
    with (files("scaleinv.book") / "real_run.npz").open("rb") as file, np.load(file) as arrays:
        return dataset(dict(arrays))


def dataset(arrays: dict[str, np.ndarray]) -> xarray.Dataset:
    """Read arrays that were stored under the names of their dimensions and of the quantity.

    >>> import numpy as np
    >>> from scaleinv.book.real_run import dataset
    >>> dataset({"step: loss": np.array([2.0, 1.0]), "about": np.array('{"lr": 0.1}')}).loss.dims
    ('step',)
    """
    attributes = json.loads(str(arrays.pop("about")))
    variables = {}
    for key, array in arrays.items():
        dims, name = key.split(": ")
        variables[name] = (dims.split(), array)
    return xarray.Dataset(variables, attrs=attributes)


def about(settings: Settings, text: Text, device: torch.device) -> dict[str, object]:
    """What is stored beside the numbers, so that one knows what made them.

    >>> import torch
    >>> from scaleinv.book.real_run import Settings, Text, about
    >>> about(Settings(), Text(Settings(), torch.arange(4000) % 128), torch.device("cpu"))["characters"]
    4000
    """
    return {
        **asdict(settings),
        "characters": len(text.characters),
        "sha256": text.sha256(),
        "unused": text.unused().tolist(),
        "device": device.type,
        "torch": torch.__version__,
    }
