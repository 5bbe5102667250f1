"""Many trainings as one: the members of an ensemble, stacked along a leading axis, on shared batches."""

import multiprocessing
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from scaleinv._sweep.columns import Columns
from scaleinv._sweep.inspection import Models
from scaleinv._sweep.kinds import SCALES, Point, arguments_of, is_live
from scaleinv._sweep.live import Allocated, Factory, Optimizers, of_members, of_stacks
from scaleinv._sweep.packing import cornered, packed, unpacked
from scaleinv._sweep.replay import Recording, traced
from scaleinv._sweep.sources import ONE_AT_A_TIME, make_batches, make_model, tensors_of
from scaleinv.optimizers import Optimizer

ALIGNED = 64  # entries: in rows of a multiple of it no kernel meets an end of a tensor within a member
Memory = dict[str, Any]  # name -> a tree of tensors
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Training:
    """What all members have in common.

    Attributes:
        model: function(seed=..., **keywords) → nn.Module.
        optimizer: a factory of ``scaleinv.optimizers``, or of live optimizers.
        batches: function(seed=...) → iterable of (inputs, targets).
        loss_fn: function(outputs, targets) → the mean loss, 0-d.
        every: over how many steps a point of a loss curve is the mean.
        fixed: name → value, for what is the same in all members.
        models: what the members' models have in common.
        alone: whether each member has a live optimizer of its own.
        identity: a string that no other training has.
    """

    model: Callable[..., nn.Module]
    optimizer: Callable[..., Optimizer]
    batches: Callable[..., Any]
    loss_fn: Callable[[Any, Any], Tensor]
    every: int
    fixed: Mapping[str, Any]
    models: Models
    alone: bool = False
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Job:
    """Members of one seed to train together.

    All jobs of a training have one ``size``, so that they take the same operations: copies of the last member fill up
    a job that has fewer.

    Attributes:
        training: what the members have in common.
        seed: theirs.
        points: for each member, name → value of what is its own.
        size: the number of members, copies included.
    """

    training: Training
    seed: int
    points: tuple[Point, ...]
    size: int


def train_job(job: Job) -> NDArray[Any]:
    """The loss curves of a job's members, (members, points of the curve); in float64 for a model of float64."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # a worker among others: each is to have a core
    key = job.training.identity, job.size
    if getattr(_thread, "key", None) != key:
        _thread.ensemble = _thread.key = None  # frees the memory of the previous one
        _thread.ensemble, _thread.key = Ensemble(job), key
    return _thread.ensemble.train(job)


_thread = threading.local()  # a thread's own ensemble, in whose memory it trains one job after another
_graphs: dict[tuple[str, int], GraphModule] = {}  # the last traced step, for all threads


class Ensemble:
    """The memory of ``job.size`` members and the recorded step, for all jobs of this training and size.

    Attributes:
        memory: name → tensors that a step reads and writes.
        record: the step, as a recording; of a live optimizer up to the gradients.
    """

    def __init__(self, job: Job) -> None:
        self.training = job.training
        models = job.training.models
        self.module = make_model(job.training.model, job.seed, models.largest)
        self.room = {name: x.shape for name, x in tensors_of(self.module).items()}
        self.shapes = {name: self.room[name] for name in models.parts.trained}
        self.differ = any(name in job.points[0] for name in models.largest)
        self.live = Factory(job.training.optimizer) if is_live(job.training.optimizer) else None
        self.seed, self.batches = job.seed, make_batches(job.training.batches, job.seed)
        start, self.rule = self._start(job)
        self.memory = self._allocate(start, job.size)
        self.record = self._recording(job.size)
        results = {name: x for name, x in self.record.outputs.items() if name in self.memory}
        pairs = zip(_tensors({name: self.memory[name] for name in results}), _tensors(results), strict=True)
        self.moved = [(here, x) for here, x in pairs if here.data_ptr() != x.data_ptr()]

    def nbytes_for(self, job: Job) -> int:
        """The bytes that training a job takes besides the batches: memory, and what it starts from, comes and goes."""
        comes_anew = [self.memory[name] for name in ("w", "state", "own", "changed", "fixed")]
        from_start = _nbytes(comes_anew)
        with Allocated() as live:
            for optimizer in self._optimizers(job):
                optimizer.step()
        return self.record.nbytes + _nbytes(self.memory) + from_start + live.nbytes

    def train(self, job: Job) -> NDArray[Any]:
        """The loss curves of the job's members."""
        if job.seed != self.seed:
            self.seed, self.batches = job.seed, make_batches(job.training.batches, job.seed)
        memory, (start, rule), curve = self.memory, self._start(job), []
        for name, tree in start.items():
            _copy(_tensors(tree), _tensors(memory[name]))
        memory["total"].zero_()
        self.record.generator.manual_seed(job.seed)
        batch, at, optimizers = _tensors(memory["batch"]), _tensors(memory["at"]), self._optimizers(job)
        for t, pair in enumerate(self.batches, start=1):
            _copy(pair, batch)
            _copy(_tensors(_at(rule, t)), at)
            self.record()
            for optimizer in optimizers:
                optimizer.step()
            for here, new in [(here, new.clone()) for here, new in self.moved]:  # two may have changed places
                here.copy_(new)
            if t % self.training.every == 0:
                curve.append(memory["total"] / self.training.every)
                memory["total"].zero_()
        return torch.stack(curve, dim=1)[: len(job.points)].cpu().numpy()

    def _allocate(self, start: Memory, size: int) -> Memory:
        w = start["w"]
        memory = start | {
            "batch": self.batches[0],
            "total": torch.zeros(size, dtype=torch.promote_types(w.dtype, torch.float32), device=w.device),
            "at": _at(self.rule, 1),
        }
        return pytree.tree_map_only(torch.Tensor, lambda x: _own(x, w.device), memory)

    def _recording(self, size: int) -> Recording:
        memory = self.memory
        own = ["changed", "total"] if self.live else ["changed", "total", "w", "state"]
        changed = _tensors([memory[name] for name in own])
        fixed = [x for x in _tensors(memory["h"]) if not x.ndim]
        key = self.training.identity, size
        with ONE_AT_A_TIME:
            if key not in _graphs:
                _graphs.clear()
                _graphs[key] = self._traced()
            return Recording(
                _graphs[key], (memory,), overwritten=changed, fixed=fixed, drawn=self.training.models.parts.drawn
            )

    def _traced(self) -> GraphModule:
        """The step as a graph; errors here are not the model's own, for it has been tried by itself."""
        try:
            return traced(self._step, self.memory)
        except Exception as error:  # of whatever kind vmap and the tracer raise
            raise ValueError(
                f"model and loss_fn cannot be computed for many members at once ({error}); train in a loop"
            ) from error

    def _step(self, memory: Memory) -> Memory:
        """One step of all members, from tensors to tensors."""
        w, (x, y) = memory["w"], memory["batch"]
        in_dims = (0, 0, 0, 0 if self.differ else None, None, None)
        gradients = vmap(grad(self._loss, has_aux=True), in_dims, randomness="same")
        grads, (values, changed) = gradients(w, memory["own"], memory["changed"], memory["fixed"], x, y)
        results = {"total": memory["total"] + values, "changed": changed}
        if self.rule is None:
            return {"grad": grads, **results}
        with Columns():
            h = memory["h"] | memory["at"]
            updates, state = self.rule.step(h, self._named(grads), memory["state"], self._named(w))
        parts = [update.reshape(len(update), -1) for update in updates.values()]
        update = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        w = (w + update).to(w.dtype)
        if self.training.models.masked:
            w = torch.where(memory["own"]["mask"] > 0, w, 0.0)  # an update is 0/0 where there is nothing, with eps = 0
        return {"w": w, "state": state, **results}

    def _loss(  # noqa: PLR0913
        self, w: Tensor, own: Tensors, changed: Tensors, fixed: Tensors, x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        """What one member minimizes; its loss, and what a forward pass has changed."""
        scales = [(scale, own[name]) for name, scale in SCALES.items() if name in own]
        for scale, factor in scales:
            w = scale.read(w, factor)
        if self.training.models.masked:
            w = torch.where(own["mask"] > 0, w, 0.0)  # a live optimizer may leave NaN where there is nothing
        tensors = {**self._unpacked(w), **fixed, **{name: x.clone() for name, x in changed.items()}}
        with Columns():
            value = self.training.loss_fn(functional_call(self.module, tensors, (x,)), y)
        minimized = value
        for scale, factor in scales:
            minimized = scale.scale_loss(minimized, factor)
        return minimized, (value, {name: tensors[name] for name in changed})

    def _named(self, stack: Tensor) -> dict[str, Tensor]:
        """What the optimizer sees of a stack of flat parameters: one tensor where it can, which takes fewer calls."""
        return {"all": stack} if self.rule and self.rule.elementwise else vmap(self._unpacked)(stack)

    def _unpacked(self, flat: Tensor) -> dict[str, Tensor]:
        return unpacked(flat, self.shapes)

    def _start(self, job: Job) -> tuple[Memory, Optimizer | None]:
        """What a job starts from, by names in the memory, and its rule if it has one.

        These are the members' parameters ``w`` and ``own`` numbers, the tensors that a forward pass has ``changed`` and
        those that stay ``fixed``; of a rule its ``state`` and hyperparameters ``h``.
        """
        points, names = self._points(job), self.training.models.parts
        keywords = self._keywords(points)
        models = {values: self._made(job.seed, values) for values in dict.fromkeys(keywords)}
        w, own = self._stacked(models, keywords), {}
        if self.training.models.masked:  # 1 for what is a parameter and 0 for what is not
            ones = {values: pytree.tree_map(torch.ones_like, model) for values, model in models.items()}
            own["mask"] = self._stacked(ones, keywords)

        def stack(name: str) -> Tensor:
            inside = {values: cornered(model[name], self.room[name]) for values, model in models.items()}
            return torch.stack([inside[values] for values in keywords]).to(w.device)

        others = [name for name in self.room if name not in (*names.trained, *names.changed)]
        one = models[keywords[0]]
        start = {
            "w": w,
            "own": own,
            "changed": {name: stack(name) for name in names.changed},
            "fixed": {name: stack(name) if self.differ else one[name].to(w.device) for name in others},
            "state": {},
            "h": {},
        }
        for name, scale in SCALES.items():
            if name in points[0]:
                own[name] = torch.tensor([point[name] for point in points], dtype=torch.float64).to(w)
                scale.store(w, own[name])
        if self.live:
            return start, None
        rule = self.training.optimizer(**arguments_of(self.training.optimizer, points, job.points[0]))
        params = {"all": w} if rule.elementwise else vmap(self._unpacked)(w)
        state = {buffer: x for buffer, x in rule.init(params).items() if buffer != "step"}
        return start | {"state": state, "h": rule.hyperparameters}, rule

    def _points(self, job: Job) -> list[Point]:
        """For each member, copies included, name → value."""
        points = [{**self.training.fixed, **point} for point in job.points]
        return points + [points[-1]] * (job.size - len(points))

    def _optimizers(self, job: Job) -> Optimizers:
        """The live optimizers of the job, on the memory of its parameters and gradients."""
        if not self.live:
            return []
        points, factory = self._points(job), self.live
        w, grad = self.memory["w"], self.record.outputs["grad"]
        with ONE_AT_A_TIME:
            if not self.training.alone:
                return of_stacks(factory, points, w, grad)
            keywords = self._keywords(points)
            of = {values: self._made(job.seed, values) for values in dict.fromkeys(keywords)}
            shapes = [{name: of[values][name].shape for name in self.shapes} for values in keywords]
            return of_members(factory, points, w, grad, (self.shapes, shapes))

    def _stacked(
        self, models: Mapping[tuple[Any, ...], Mapping[str, Tensor]], keywords: Sequence[tuple[Any, ...]]
    ) -> Tensor:
        """One after another, so that nothing is there twice."""
        flat = {values: packed(tensors, self.shapes) for values, tensors in models.items()}
        first = next(iter(flat.values()))
        length = -(-len(first) // ALIGNED) * ALIGNED if self.live else len(first)
        stack = torch.zeros(len(keywords), length, dtype=first.dtype, device=self.batches[0][0].device)
        for row, values in zip(stack, keywords, strict=True):
            row[: len(first)].copy_(flat[values])
        return stack

    def _keywords(self, points: Sequence[Point]) -> list[tuple[Any, ...]]:
        """The values of the model's keywords, for each member."""
        return [tuple(point[name] for name in self.training.models.largest) for point in points]

    def _made(self, seed: int, values: tuple[Any, ...]) -> dict[str, Tensor]:
        """The tensors of a model with these values of the keywords."""
        keywords = dict(zip(self.training.models.largest, values, strict=True))
        model = make_model(self.training.model, seed, keywords)
        return {name: x.detach() for name, x in tensors_of(model).items()}


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(tree) if torch.is_tensor(x)]


def _nbytes(tree: Any) -> int:
    return sum(x.nbytes for x in _tensors(tree))


def _at(rule: Optimizer | None, t: int) -> Memory:
    """What a rule takes at the step t."""
    return rule.at(t) if rule else {}


def _copy(tensors: Iterable[Tensor], memory: Iterable[Tensor]) -> None:
    for new, here in zip(tensors, memory, strict=True):
        here.copy_(new, non_blocking=True)  # a GPU need not have it before the program goes on


def _own(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy in memory of its own, where each entry has its place."""
    return tensor.to(device).clone(memory_format=torch.contiguous_format)
