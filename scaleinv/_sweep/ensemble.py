"""Many trainings as one: the members of an ensemble, stacked along a leading axis, on shared batches."""

import inspect
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.func import functional_call, grad, vmap
from torch.utils import _pytree as pytree

from scaleinv._sweep.columns import Columns
from scaleinv._sweep.replay import Recording, traced


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
        masked: whether some are smaller.
        identity: a string that no other training has.
    """

    model: Callable
    optimizer: Callable
    batches: Callable
    loss: Callable
    every: int
    fixed: dict
    largest: dict
    masked: bool
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
    """The loss curves of a job's members, (members, points of the curve); in float64 for a model of float64."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # a worker among others, each of which is to have a core
    key = job.training.identity, job.size
    if getattr(_thread, "key", None) != key:
        _thread.ensemble = _thread.key = None  # frees the memory of the last one
        _thread.ensemble, _thread.key = Ensemble(job), key
    return _thread.ensemble.train(job)


_thread = threading.local()  # a thread's own ensemble, in whose memory it trains one job after another
_graphs = {}  # the last traced step, for all threads
_alone = threading.RLock()  # tracing and the default random generator are for one thread at a time


class Ensemble:
    """The memory of ``job.size`` members and the recorded step, for all jobs of this training and size.

    Attributes:
        nbytes: of that memory, and once more of what a job starts from.
    """

    def __init__(self, job):
        self.training = job.training
        self.module = model_of(self.training, job.seed, self.training.largest)
        self.shapes = {name: p.shape for name, p in self.module.named_parameters()}
        self.seed, self.batches = job.seed, batches_of(self.training, job.seed)
        memory = self._start(job)
        self.optimizer, w = memory.pop("optimizer"), memory["w"]
        total = torch.zeros(job.size, dtype=torch.promote_types(w.dtype, torch.float32))
        memory |= {"batch": self.batches[0], "total": total}
        memory |= {"h": self.optimizer.hyperparameters, "at": self.optimizer.at(1)}
        self.memory = memory = pytree.tree_map_only(torch.Tensor, lambda x: _own(x, w.device), memory)
        changed = _tensors([memory["w"], memory["state"], memory["total"]])
        fixed = [x for x in _tensors(memory["h"]) if not x.ndim]
        key = self.training.identity, job.size
        with _alone:
            if key not in _graphs:
                _graphs.clear()
                _graphs[key] = traced(self._step, memory)
            self.record = Recording(_graphs[key], (memory,), overwritten=changed, fixed=fixed)
        start = sum(x.nbytes for x in _tensors([memory["w"], memory["state"], memory["own"]]))
        self.nbytes = self.record.nbytes + sum(x.nbytes for x in _tensors(memory)) + start
        new = self.record.outputs
        pairs = zip(_tensors({name: memory[name] for name in new}), _tensors(new), strict=True)
        self.moved = [(here, x) for here, x in pairs if here.data_ptr() != x.data_ptr()]

    def train(self, job):
        """The loss curves of the job's members."""
        if job.seed != self.seed:
            self.seed, self.batches = job.seed, batches_of(self.training, job.seed)
        memory, start, curve = self.memory, self._start(job), []
        optimizer = start.pop("optimizer")
        start["h"] = optimizer.hyperparameters
        _copy(_tensors(start), _tensors({name: memory[name] for name in start}))
        memory["total"].zero_()
        batch, at = _tensors(memory["batch"]), _tensors(memory["at"])
        for t, (x, y) in enumerate(self.batches, start=1):
            _copy((x, y), batch)
            _copy(_tensors(optimizer.at(t)), at)
            self.record()
            for here, new in [(here, new.clone()) for here, new in self.moved]:  # two may have changed places
                here.copy_(new)
            if t % self.training.every == 0:
                curve.append(memory["total"] / self.training.every)
                memory["total"].zero_()
        return torch.stack(curve, dim=1)[: len(job.points)].cpu().numpy()

    def _step(self, memory):
        """One step of all members, from tensors to tensors."""

        def loss(w, own, x, y):
            shown = w / own["k"] if "k" in own else w
            shown = shown * own["mask"] if "mask" in own else shown
            with Columns():
                value = self.training.loss(functional_call(self.module, self._tensors(shown), (x,)), y)
            return own["c"] * value if "c" in own else value, value

        w, (x, y) = memory["w"], memory["batch"]
        grads, values = vmap(grad(loss, has_aux=True), in_dims=(0, 0, None, None))(w, memory["own"], x, y)
        with Columns():
            h = memory["h"] | memory["at"]
            updates, state = self.optimizer.step(h, self._named(grads), memory["state"], self._named(w))
        parts = [update.reshape(len(update), -1) for update in updates.values()]
        update = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        w = (w + update).to(w.dtype)
        if "mask" in memory["own"]:
            w = torch.where(memory["own"]["mask"] > 0, w, 0.0)  # 0/0 where there is nothing, with eps = 0
        return {"w": w, "state": state, "total": memory["total"] + values}

    def _named(self, stacked):
        """What the optimizer sees of a stack of flat parameters: one tensor where it can, which takes fewer calls."""
        return {"all": stacked} if self.optimizer.coordinatewise else vmap(self._tensors)(stacked)

    def _tensors(self, flat):
        return separated(flat, self.shapes)

    def _start(self, job):
        """The optimizer, the parameters, its state and each member's own numbers, as they are before the first step."""
        points = [self.training.fixed | point for point in job.points]
        points += [points[-1]] * (job.size - len(points))
        optimizer = self.training.optimizer(**arguments_of(self.training.optimizer, points, job.points[0]))
        device = self.batches[0][0].device
        keywords = [tuple(point[name] for name in self.training.largest) for point in points]
        models = {values: self._parameters(job.seed, values) for values in dict.fromkeys(keywords)}
        w = self._stacked(models, keywords, device)
        own = {
            name: torch.tensor([p[name] for p in points], dtype=torch.float64).to(w)
            for name in ("k", "c")
            if name in points[0]
        }
        if self.training.masked:
            ones = {values: pytree.tree_map(torch.ones_like, model) for values, model in models.items()}
            own["mask"] = self._stacked(ones, keywords, device)
        if "k" in own:
            w *= own["k"][:, None]
        params = {"all": w} if optimizer.coordinatewise else vmap(self._tensors)(w)
        state = {buffer: x for buffer, x in optimizer.init(params).items() if buffer != "step"}
        return {"optimizer": optimizer, "w": w, "state": state, "own": own}

    def _stacked(self, models, keywords, device):
        """One after another, so that nothing is there twice."""
        flat = {values: embedded(tensors, self.shapes) for values, tensors in models.items()}
        first = next(iter(flat.values()))
        stack = torch.empty(len(keywords), len(first), dtype=first.dtype, device=device)
        for row, values in zip(stack, keywords):
            row.copy_(flat[values])
        return stack

    def _parameters(self, seed, values):
        model = model_of(self.training, seed, dict(zip(self.training.largest, values)))
        return {name: p.detach() for name, p in model.named_parameters()}


def hyperparameters_of(optimizer):
    """name → default, of an optimizer's arguments; and of the entries of a pair, such as "betas[0]"."""
    defaults = {name: p.default for name, p in inspect.signature(optimizer).parameters.items()}
    pairs = {name: default for name, default in defaults.items() if isinstance(default, tuple)}
    return defaults | {f"{name}[{i}]": x for name, pair in pairs.items() for i, x in enumerate(pair)}


def arguments_of(optimizer, points, own):
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
    """Tensors, each in the first corner of zeros of its shape; flat, one after another."""
    parts = []
    for name, shape in shapes.items():
        parts.append(tensors[name].new_zeros(shape))
        parts[-1][tuple(slice(n) for n in tensors[name].shape)] = tensors[name]
    return torch.cat([part.flatten() for part in parts])


def separated(flat, shapes):
    """The tensors of these shapes of which a flat one is made up."""
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts)}


def model_of(training, seed, keywords):
    """A model as it starts; the random state stays what it was."""
    with _alone, torch.random.fork_rng(devices=[]):
        return training.model(seed=seed, **keywords)


def batches_of(training, seed):
    """The batches of a seed, on the device on which they train: their own, but for one that has no float64."""
    with _alone, torch.random.fork_rng(devices=[]):
        batches = list(training.batches(seed=seed))
    if not batches or not all(_is_pair(batch) for batch in batches):
        raise ValueError(
            f"batches(seed={seed}) gave {len(batches)} batches, which are not all a pair of tensors (inputs, targets); "
            "give at least one, and nothing else"
        )
    return [tuple(x.cpu() if x.device.type == "mps" else x for x in batch) for batch in batches]


def _is_pair(batch):
    return isinstance(batch, tuple | list) and len(batch) == 2 and all(map(torch.is_tensor, batch))


def _tensors(tree):
    return [x for x in pytree.tree_leaves(tree) if torch.is_tensor(x)]


def _copy(tensors, memory):
    for new, here in zip(tensors, memory, strict=True):
        here.copy_(new)


def _own(tensor, device):
    """A copy in memory of its own, where each entry has its place."""
    return tensor.to(device).clone(memory_format=torch.contiguous_format)
