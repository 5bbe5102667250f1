"""Record how large each parameter, its gradient and its actual update are at the steps of a training run."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scaleinv._checks import check_count
from scaleinv._recording import Snapshot, Vector, plot_recording
from scaleinv._reparam import parameter_slots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Recorder"]


class Recorder:
    """Records the RMS of each parameter, gradient and update at the steps of ``optimizer`` inside a ``with`` block.

    ::

        with Recorder(model, optimizer) as recorder:
            ...  # train as ever
        recorder.frame()
        recorder.plot()

    The update is the actual one, the parameter after the step minus before it, weight decay and all.  The parameters
    are those of the model that the optimizer holds, as it sees them: where ``scale_parameters`` scaled them, w' = k·w
    under the name that w had.  Model, optimizer and random state are left as they are; after the block, even if it
    raised, nothing of the recorder stays in them.

    A step that calls ``super().step()`` is one step, the outer one.  A step that raised is left out.  Of a wrapper
    that has no hooks of its own, such as Accelerate's and Lightning's, the optimizer inside is recorded: its steps,
    not the calls that only accumulate gradients or that a ``GradScaler`` skips.

    While it records it keeps one copy of the parameters; for an optimizer whose class and base class both define
    ``step``, so that a step may run within a step, one copy for each.  The recorded numbers, some 20 bytes a parameter
    and step, stay on the device until ``frame`` fetches them all at once.  Steps between those that ``every`` names
    cost nothing.

    Args:
        model: the ``nn.Module`` whose parameters to record.
        optimizer: the ``torch.optim.Optimizer`` that trains it; it may hold other parameters too, which are not
            recorded.  Groups may be added and hyperparameters changed while it records.
        every: record the first of each so many steps: 10 records the steps 1, 11, 21, ….
        keep: how many recorded steps to keep, the latest; None for all.

    Raises:
        TypeError: if ``model`` is not a module, ``optimizer`` not an optimizer, ``every`` or ``keep`` not a whole
            number, or a parameter is a DTensor.
        ValueError: if the optimizer holds none of the model's parameters, or ``every`` or ``keep`` is below 1.
        RuntimeError: on entering it while it records.

    >>> import torch
    >>> from scaleinv.recorder import Recorder
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
    >>> with Recorder(model, optimizer) as recorder:
    ...     model(torch.ones(1, 2)).sum().backward()
    ...     optimizer.step()
    >>> print(recorder.frame().drop(columns="parameter_rms").round(3).to_string(index=False))
     step parameter  gradient_rms  update_rms   lr
        1    weight           1.0        0.25 0.25
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, every: int = 1, keep: int | None = 10_000
    ) -> None:
        self._names = {slot.parameter: slot.names[0] for slot in parameter_slots(model).values()}
        self._every = check_count("every", every)
        self._keep = None if keep is None else check_count("keep", keep)
        self._optimizer = _with_hooks(optimizer)
        self._layout = _layout_of(self._optimizer, self._names)
        if not self._layout.parameters:
            raise ValueError(
                f"optimizer={type(optimizer).__name__} holds none of the {len(self._names)} parameters of "
                f"model={type(model).__name__}; make it from model.parameters()"
            )
        sharded = [name for name, p in zip(self._layout.names, self._layout.parameters, strict=True) if _is_sharded(p)]
        if sharded:
            raise TypeError(
                f"model has {sharded[0]} as a DTensor, of which each process has a part; Recorder takes none"
            )
        self._most_nested = _most_nested_steps(self._optimizer)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._count = 0  # steps, recorded or not
        self._records: list[_Record] = []
        self._open: list[_Step] = []  # steps whose end has not come: they run, each within the one before, or raised
        self._snapshots: list[Snapshot] = []  # copies of the parameters that no open step uses

    def __enter__(self) -> "Recorder":
        if self._hooks:
            raise RuntimeError("this Recorder is recording already; leave its with block first, or make another")
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before),
            self._optimizer.register_step_post_hook(self._after),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._open, self._snapshots = [], [], []

    def frame(self) -> pd.DataFrame:
        """What was recorded so far, one row for each step and parameter.

        Returns:
            A ``pandas.DataFrame`` with the columns

            - step: from 1; a step that raised is left out,
            - parameter: its name,
            - parameter_rms: before the step, unit W,
            - gradient_rms: before the step, or after the first call of its closure, unit L·W⁻¹; NaN without one,
            - update_rms: of the parameter after the step minus before, unit W,
            - lr: of its group; NaN for an optimizer that has none.
        """
        names = [name for record in self._records for name in record.layout.names]
        values = {column: np.full(len(names), np.nan) for column in _COLUMNS}
        for places, numbers in _fetch(self._records):
            for column, rows, part in places:
                values[column][rows] = numbers[part]
        if names:
            sizes = np.concatenate([record.layout.sizes for record in self._records])
            for column in _COLUMNS[:3]:
                values[column] /= sizes
            values["lr"] = np.concatenate([record.lrs() for record in self._records])
        counts = [len(record.layout.names) for record in self._records]
        steps = np.repeat(np.array([record.number for record in self._records], dtype=int), counts)
        return pd.DataFrame({"step": steps, "parameter": names, **values})

    def plot(self) -> "Figure":
        """Draw how far each step moved each parameter: layers × steps, coloured by RMS(Δw)/RMS(w), and the median.

        The same colour is the same relative step in every such picture.  Blank: no step, or a parameter that is zero.

        Returns:
            A ``matplotlib`` figure: shown in a notebook, saved by ``.savefig(path)``.

        Raises:
            ImportError: without matplotlib.
            ValueError: if no step was recorded in which a parameter that is not zero moved.

        >>> import torch
        >>> from scaleinv.recorder import Recorder
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
        >>> with Recorder(model, optimizer) as recorder:
        ...     model(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        >>> [axes.get_ylabel() for axes in recorder.plot().axes][:2]
        ['change a step', 'parameters']
        """
        return plot_recording(self.frame())

    def _current_layout(self) -> "_Layout":
        """The parameters that are recorded now, with their groups."""
        if not self._layout.fits(self._optimizer):
            self._layout, self._snapshots = _layout_of(self._optimizer, self._names), []
        return self._layout

    def _snapshot(self, layout: "_Layout") -> Snapshot:
        """Room for a copy that no open step uses."""
        while self._snapshots:
            snapshot = self._snapshots.pop()
            if snapshot.parameters is layout.parameters and snapshot.fits():
                return snapshot
        return Snapshot(layout.parameters)

    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Open a step; torch calls it with the arguments of ``step``, and takes others if it returns them.

        A step within a step opens one too.  Whether the step before it still runs or has raised shows only when its
        end comes, or does not: until then both are kept.
        """
        if len(self._open) >= self._most_nested:  # more cannot run at once: the first has raised
            self._give_back(self._open.pop(0))
        step = _Step(kwargs, self._count + 1)
        self._open.append(step)
        if self._count % self._every:
            return None
        layout = self._current_layout()
        step.begin(layout, self._snapshot(layout), self._optimizer.param_groups)

        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            step.add_gradients()
        elif "closure" in kwargs:
            kwargs["closure"] = _Watched(closure, step)  # of this call of step only, and the same dict for _after
        else:
            return (args[0], _Watched(closure, step), *args[2:]), kwargs
        return None

    def _after(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Close the step that these arguments opened, and drop those within it."""
        if not self._open:
            return
        depth = next((i for i, step in enumerate(self._open) if step.kwargs is kwargs), len(self._open) - 1)
        step, *inner = self._open[depth:]
        del self._open[depth:]
        while self._records and self._records[-1].number >= step.number:
            self._records.pop()
        self._count = step.number
        if (record := step.end()) is not None:
            self._records.append(record)
        for each in (step, *inner):
            self._give_back(each)
        if self._keep is not None and not self._open:
            del self._records[: -self._keep]

    def _give_back(self, step: "_Step") -> None:
        if step.snapshot is not None:
            self._snapshots.append(step.snapshot)
        step.release()


def _with_hooks(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer itself; of a wrapper without hooks of its own, the one inside."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        own, its = (vars(each).get("_optimizer_step_pre_hooks") for each in (optimizer, inner))
        if own is not None and own is not its:
            break
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
    if "_optimizer_step_pre_hooks" not in vars(optimizer):
        raise TypeError(
            f"optimizer={type(optimizer).__name__} has no hooks, since it does not call Optimizer.__init__, and no "
            "optimizer inside as .optimizer; pass the one that takes the steps"
        )
    return optimizer


def _is_sharded(parameter: Tensor) -> bool:
    return hasattr(parameter, "placements")


def _most_nested_steps(optimizer: torch.optim.Optimizer) -> int:
    """How many ``step`` methods a call of ``step`` can go through by ``super()``, each of which calls the hooks."""
    classes = [cls for cls in type(optimizer).__mro__ if "step" in vars(cls) and cls is not torch.optim.Optimizer]
    return max(1, len({inspect.unwrap(vars(cls)["step"]) for cls in classes}))


_COLUMNS = ["parameter_rms", "gradient_rms", "update_rms", "lr"]


@dataclass(frozen=True)
class _Layout:
    """What is recorded of an optimizer, as long as its groups hold the same parameters.

    Attributes:
        held, ids: all parameters, by group, and their ids; they are kept, so that the ids are not those of others.
        parameters, names: those of them that are recorded.
        groups: the number of the group of each of these.
        sizes: the root of the number of entries of each, which makes a norm an RMS.
    """

    held: list[list[Any]]
    ids: list[list[int]]
    parameters: list[nn.Parameter]
    names: list[str]
    groups: np.ndarray
    sizes: np.ndarray

    def fits(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the groups still hold the same parameters, in the same order."""
        return self.ids == [[*map(id, group["params"])] for group in optimizer.param_groups]


def _layout_of(optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]) -> _Layout:
    held = [[*group["params"]] for group in optimizer.param_groups]
    recorded = [(p, number) for number, group in enumerate(held) for p in group if p in names]
    parameters = [p for p, _ in recorded]
    sizes = np.sqrt([float(max(p.numel(), 1)) for p in parameters])
    groups = np.array([number for _, number in recorded], dtype=int)
    ids = [[*map(id, group)] for group in held]
    return _Layout(held, ids, parameters, [names[p] for p in parameters], groups, sizes)


@dataclass(frozen=True)
class _Record:
    """What was recorded at one step.

    Attributes:
        number: of the step, from 1.
        layout: the parameters.
        group_lrs: lr of each group.
        vectors: (column, norms on their device).
    """

    number: int
    layout: _Layout
    group_lrs: list[float | Tensor]
    vectors: list[tuple[str, Vector]] = field(default_factory=list)

    def lrs(self) -> np.ndarray:
        """lr of each parameter."""
        return np.array([float(lr) for lr in self.group_lrs])[self.layout.groups]

    def add(self, column: str, vectors: Sequence[Vector]) -> None:
        self.vectors.extend((column, vector) for vector in vectors)


class _Step:
    """A step that has begun, and what is recorded of it, if it is.

    Attributes:
        kwargs: the dict with which torch calls both hooks of this step.
        number: of the step, from 1.
        snapshot: the parameters as they were before it; None where it is not recorded.
    """

    def __init__(self, kwargs: dict[str, Any], number: int) -> None:
        self.kwargs, self.number = kwargs, number
        self.snapshot: Snapshot | None = None
        self._record: _Record | None = None
        self._has_gradients = False

    def begin(self, layout: _Layout, snapshot: Snapshot, groups: Sequence[Mapping[str, Any]]) -> None:
        self.snapshot = snapshot
        self._record = _Record(self.number, layout, [_kept(group.get("lr", np.nan)) for group in groups])
        self._record.add("parameter_rms", snapshot.copy())

    def add_gradients(self) -> None:
        """The gradients as they are at the first call."""
        if not self._has_gradients and self.snapshot is not None and self._record is not None:
            self._record.add("gradient_rms", self.snapshot.gradients())
        self._has_gradients = True

    def end(self) -> _Record | None:
        """What was recorded, with what the parameters have changed by."""
        if self.snapshot is not None and self._record is not None:
            self._record.add("update_rms", self.snapshot.changes())
        return self._record

    def release(self) -> None:
        """Let go of all that others may use."""
        self.kwargs, self.snapshot, self._record = {}, None, None


def _kept(lr: float | Tensor) -> float | Tensor:
    """lr as it is now; a copy of a tensor on a GPU, for which nobody waits."""
    if not isinstance(lr, Tensor):
        return lr
    return float(lr) if lr.device.type == "cpu" else lr.detach().clone()


class _Watched:
    """A closure after whose first call a step records the gradients."""

    def __init__(self, closure: Callable[..., Any], step: _Step) -> None:
        self.closure, self.step = closure, step

    def __call__(self, *args: Any) -> Any:
        loss = self.closure(*args)
        self.step.add_gradients()
        return loss


_Place = tuple[str, np.ndarray, slice]


def _fetch(records: Sequence[_Record]) -> list[tuple[list[_Place], np.ndarray]]:
    """For each device, where its numbers belong as (column, rows, slice of them), and the numbers, fetched at once."""
    places: dict[torch.device, list[_Place]] = {}
    vectors: dict[torch.device, list[Tensor]] = {}
    ends: dict[torch.device, int] = {}
    start = 0
    for record in records:
        for column, (rows, norms) in record.vectors:
            first = ends.get(norms.device, 0)
            ends[norms.device] = end = first + len(rows)
            places.setdefault(norms.device, []).append((column, rows + start, slice(first, end)))
            vectors.setdefault(norms.device, []).append(norms)
        start += len(record.layout.names)
    return [(places[device], torch.cat(vectors[device]).cpu().numpy()) for device in places]
