"""Many trainings as one: the members of an ensemble, stacked along a leading axis, on shared batches."""

import inspect
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import functional_call, grad, vmap
from torch.utils import _pytree as pytree

from scaleinv.columns import Columns
from scaleinv.replay import Recording, traced


@dataclass(frozen=True)
class Training:
    """What all members have in common.

    Attributes:
        model: function(seed=..., **keywords) → nn.Module.
        optimizer: a factory of ``scaleinv.optimizers``.
        batches: function(seed=...) → iterable of (inputs, targets).
        loss: function(outputs, targets) → the mean loss, 0-d.
        every: over how many steps a point of a loss curve is the mean.
        fixed: name → value, for what is the same in all members.
        largest: the keywords of the model in whose shapes all members' models find room.
        identity: a string that no other training has.
    """

    model: Callable
    optimizer: Callable
    batches: Callable
    loss: Callable
    every: int
    fixed: dict
    largest: dict
    identity: str


@dataclass(frozen=True)
class Job:
    """Members of one seed to train together: ``points``, for each a dict name → value of what is its own.  Their number
    is made up to ``size``, by copies of the last, so that all jobs of a training take the same operations."""

    training: Training
    seed: int
    points: tuple
    size: int


def losses(job):
    """The loss curves of a job's members, float32, (members, points of the curve)."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # a worker among others, each of which is to have a core
    key = job.training.identity, job.size
    if getattr(_thread, "key", None) != key:
        _thread.ensemble = _thread.key = None  # frees the memory of the last one
        with _tracing:
            _thread.ensemble, _thread.key = Ensemble(job), key
    return _thread.ensemble.train(job)


_thread = threading.local()  # a thread's own ensemble, in whose memory it trains one job after another
_tracing = threading.Lock()  # torch traces in one thread at a time


class Ensemble:
    """The memory of ``job.size`` members and the recorded step, for all jobs of this training and size.

    Attributes:
        nbytes: of that memory, and of the parameters once more, from which a job starts.
    """

    def __init__(self, job):
        self.training = job.training
        self.module = self.training.model(seed=job.seed, **self.training.largest)
        self.shapes = {name: p.shape for name, p in self.module.named_parameters()}
        self.seed, self.batches = job.seed, batches_of(self.training, job.seed)
        memory = self._start(job)
        self.optimizer = memory.pop("optimizer")
        x, y = self.batches[0]
        memory |= {"x": x, "y": y, "total": torch.zeros(job.size), "h": self.optimizer.at(1)}
        self.memory = memory = pytree.tree_map_only(torch.Tensor, lambda a: _own(a, x.device), memory)
        changed = pytree.tree_leaves((memory["w"], memory["state"], memory["total"]))
        self.record = Recording(traced(self._step, self.memory), (self.memory,), overwritten=changed)
        tensors = [x for x in pytree.tree_leaves(self.memory) if torch.is_tensor(x)]
        self.nbytes = self.record.nbytes + sum(x.nbytes for x in tensors) + memory["w"].nbytes
        results = ((self.memory[name], new) for name, new in self.record.outputs.items())
        self.moved = [
            (here, new) for pair in results for here, new in _pairs(*pair) if here.data_ptr() != new.data_ptr()
        ]

    def train(self, job):
        """The loss curves of the job's members."""
        if job.seed != self.seed:
            self.seed, self.batches = job.seed, batches_of(self.training, job.seed)
        memory, every = self.memory, self.training.every
        start = self._start(job)
        optimizer = start.pop("optimizer")
        for here, new in _pairs({name: memory[name] for name in start}, start):
            here.copy_(new)
        memory["total"].zero_()
        numbers, curve = pytree.tree_leaves(memory["h"]), []
        before = [None] * len(numbers)
        for t, (x, y) in enumerate(self.batches, start=1):
            memory["x"].copy_(x)
            memory["y"].copy_(y)
            now = pytree.tree_leaves(optimizer.at(t))
            for here, new, old in zip(numbers, now, before):
                if new is not old and torch.is_tensor(here):
                    here.copy_(new)
            before = now
            self.record()
            for here, new in self.moved:
                here.copy_(new)
            if t % every == 0:
                curve.append(memory["total"] / every)
                memory["total"].zero_()
        return torch.stack(curve, dim=1)[: len(job.points)].cpu().numpy()

    def _step(self, memory):
        """One step of all members, from tensors to tensors."""

        def loss(w, own, x, y):
            shown = w / own["k"] if "k" in own else w
            shown = shown * own["mask"] if "mask" in own else shown
            with Columns():
                value = self.training.loss(functional_call(self.module, self._tensors(shown), (x,)), y)
            return own.get("c", 1.0) * value, value

        w = memory["w"]
        grads, values = vmap(grad(loss, has_aux=True), in_dims=(0, 0, None, None))(
            w, memory["own"], memory["x"], memory["y"]
        )
        with Columns():
            updates, state = self.optimizer.step(memory["h"], self._named(grads), memory["state"], self._named(w))
        update = torch.cat([u.flatten(1) for u in updates.values()], dim=1) if len(updates) > 1 else updates["all"]
        return {"w": (w + update).to(w.dtype), "state": state, "total": memory["total"] + values}

    def _named(self, stacked):
        """What the optimizer sees of a stack of flat parameters: one tensor where it can, which takes fewer calls."""
        return {"all": stacked} if self.optimizer.coordinatewise else vmap(self._tensors)(stacked)

    def _tensors(self, flat):
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts)}

    def _start(self, job):
        """The optimizer, the parameters, its state and each member's own numbers, as they are before the first step."""
        points = [self.training.fixed | point for point in job.points]
        points += [points[-1]] * (job.size - len(points))
        optimizer = self.training.optimizer(**_hyperparameters(self.training.optimizer, points, job.points[0]))
        device = self.batches[0][0].device
        w, mask = (torch.stack(x).to(device) for x in zip(*self._models(job.seed, points)))
        own = {name: torch.tensor([p[name] for p in points]).to(w) for name in ("k", "c") if name in points[0]}
        if not mask.all():
            own["mask"] = mask.to(w.dtype)
        if "k" in own:
            w = w * own["k"][:, None]
        params = {"all": w} if optimizer.coordinatewise else vmap(self._tensors)(w)
        state = {buffer: x for buffer, x in optimizer.init(params).items() if buffer != "step"}
        return {"optimizer": optimizer, "w": w, "state": state, "own": own}

    def _models(self, seed, points):
        """For each point its model's parameters, flat, in the shapes of the largest; and where in these they lie."""
        made = {}
        for point in points:
            keywords = {name: point[name] for name in self.training.largest}
            key = tuple(keywords.values())
            if key not in made:
                model = self.training.model(seed=seed, **keywords)
                made[key] = embedded({n: p.detach() for n, p in model.named_parameters()}, self.shapes)
            yield made[key]


def hyperparameters_of(optimizer):
    """name → default, of an optimizer's arguments; and of the entries of a pair, such as "betas[0]"."""
    defaults = {name: p.default for name, p in inspect.signature(optimizer).parameters.items()}
    pairs = {name: default for name, default in defaults.items() if isinstance(default, tuple)}
    return defaults | {f"{name}[{i}]": x for name, pair in pairs.items() for i, x in enumerate(pair)}


def _hyperparameters(optimizer, points, own):
    """The optimizer's arguments for these members: a 1-d tensor where they differ (a name in ``own``), and for lr."""
    defaults = hyperparameters_of(optimizer)

    def value(name, default):
        if name in own or name == "lr":
            return torch.tensor([point.get(name, default) for point in points], dtype=torch.float64)
        return points[0].get(name, default)

    return {
        name: tuple(value(f"{name}[{i}]", x) for i, x in enumerate(points[0].get(name, default)))
        if isinstance(default, tuple)
        else value(name, default)
        for name, default in defaults.items()
        if "[" not in name
    }


def embedded(tensors, shapes):
    """Tensors in the first corner of zeros of these shapes, flat, one after another; and ones where they lie."""
    flat, mask = [], []
    for name, shape in shapes.items():
        x = tensors[name]
        corner = tuple(slice(n) for n in x.shape)
        for parts, values in ((flat, x), (mask, torch.ones_like(x))):
            parts.append(x.new_zeros(shape))
            parts[-1][corner] = values
    return torch.cat([x.flatten() for x in flat]), torch.cat([x.flatten() for x in mask])


def batches_of(training, seed):
    """The batches of a seed, on the device on which they train: their own, but for one that has no float64."""
    return [tuple(x.cpu() if x.device.type == "mps" else x for x in batch) for batch in training.batches(seed=seed)]


def _pairs(here, new):
    """The tensors of two dicts, tuples, … of the same form, side by side."""
    return [
        pair for pair in zip(pytree.tree_leaves(here), pytree.tree_leaves(new), strict=True) if torch.is_tensor(pair[0])
    ]


def _own(tensor, device):
    """A copy in memory of its own, where each entry has its place."""
    return tensor.to(device).clone(memory_format=torch.contiguous_format)
