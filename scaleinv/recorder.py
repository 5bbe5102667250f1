"""Record how large each parameter, its gradient and its actual update are at every step of a training run."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scaleinv._norms import norms_of, stored_entries
from scaleinv._reparam import parameter_slots

__all__ = ["Recorder"]


class Recorder:
    """Records the RMS of each parameter, gradient and update at every step of ``optimizer`` inside a ``with`` block.

    ::

        with Recorder(model, optimizer) as recorder:
            ...  # train as ever
        recorder.frame()

    The update is the actual one, the parameter after the step minus before it, weight decay and all.  The parameters
    are those of the model that the optimizer holds, as it sees them: where ``scale_parameters`` scaled them, w' = k·w
    under the name that w had.  Model, optimizer and random state are left as they are; after the block, even if it
    raised, nothing of the recorder stays in them.

    A step that calls ``super().step()`` is one step, the outer one.  A step that raised is left out.

    While it records it keeps one copy of the parameters; for an optimizer whose class and base class both define
    ``step``, so that a step may run within a step, one copy for each.  The recorded numbers, float64 (float32 on MPS),
    stay on the device until ``frame`` fetches them all at once.

    Args:
        model: the ``nn.Module`` whose parameters to record.
        optimizer: the ``torch.optim.Optimizer`` that trains it; it may hold other parameters too, which are not
            recorded.  Groups may be added and hyperparameters changed while it records.

    Raises:
        TypeError: if ``model`` is not a module or ``optimizer`` not an optimizer.
        ValueError: if the optimizer holds none of the model's parameters.
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

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._names = {slot.parameter: slot.names[0] for slot in parameter_slots(model).values()}
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
        self._optimizer = optimizer
        if not self._recorded_parameters():
            raise ValueError(
                f"optimizer={type(optimizer).__name__} holds none of the {len(self._names)} parameters of "
                f"model={type(model).__name__}; make it from model.parameters()"
            )
        self._most_nested = _most_nested_steps(optimizer)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._steps: list[_Step] = []
        self._open: list[_Step] = []  # steps whose end has not come: they run, each within the one before, or raised
        self._copies: list[dict[nn.Parameter, Tensor]] = []  # copies of the parameters that no open step uses

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
        self._hooks, self._open, self._copies = [], [], []

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
        names = [name for step in self._steps for name in step.names]
        values = {column: np.full(len(names), np.nan) for column in _COLUMNS}
        values["lr"][:] = [lr for step in self._steps for lr in step.lrs]
        for places, numbers in _fetch(self._steps):
            for column, rows, part in places:
                values[column][rows] = numbers[part]
        sizes = np.sqrt([max(size, 1) for step in self._steps for size in step.sizes])
        for column in _COLUMNS[:3]:
            values[column] /= sizes
        counts = [len(step.names) for step in self._steps]
        return pd.DataFrame({"step": np.repeat(np.arange(1, len(counts) + 1), counts), "parameter": names, **values})

    def _recorded_parameters(self) -> list[tuple[nn.Parameter, dict[str, Any]]]:
        """The model's parameters that the optimizer holds now, each with its group."""
        return [(p, group) for group in self._optimizer.param_groups for p in group["params"] if p in self._names]

    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Open a step; torch calls it with the arguments of ``step``, and takes others if it returns them.

        A step within a step opens one too.  Whether the step before it still runs or has raised shows only when its
        end comes, or does not: until then both are kept.
        """
        if len(self._open) >= self._most_nested:  # more cannot run at once: the first has raised
            self._copies.append(self._open.pop(0).copies)
        parameters, groups = map(list, zip(*self._recorded_parameters(), strict=True))
        step = _Step(parameters, [self._names[p] for p in parameters], kwargs, len(self._steps))
        self._open.append(step)
        step.add_lrs([group.get("lr", np.nan) for group in groups])
        step.add_norms("parameter_rms", parameters)
        step.copy_parameters(self._copies.pop() if self._copies else {})

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
        del self._steps[step.position :]
        step.add_updates()
        self._steps.append(step)
        self._copies += [each.copies for each in (step, *inner)]
        step.release()


def _most_nested_steps(optimizer: torch.optim.Optimizer) -> int:
    """How many ``step`` methods a call of ``step`` can go through by ``super()``, each of which calls the hooks."""
    classes = [cls for cls in type(optimizer).__mro__ if "step" in vars(cls) and cls is not torch.optim.Optimizer]
    return max(1, len({inspect.unwrap(vars(cls)["step"]) for cls in classes}))


_COLUMNS = ["parameter_rms", "gradient_rms", "update_rms", "lr"]


class _Step:
    """What was recorded at one step: host data in order of the parameters, and vectors on their devices.

    Attributes:
        kwargs: the dict with which torch calls both hooks of this step.
        position: how many steps were recorded before it.
        copies: the parameters as they were before it; after it, the memory of these copies.
        vectors: (column, rows, norms) for parameters of one device and dtype each.
    """

    def __init__(self, parameters: list[nn.Parameter], names: list[str], kwargs: dict[str, Any], position: int) -> None:
        self.parameters, self.names = parameters, names
        self.kwargs, self.position = kwargs, position
        self.sizes = [p.numel() for p in parameters]
        self.copies: dict[nn.Parameter, Tensor] = {}
        self.lrs: list[float] = []
        self.vectors: list[tuple[str, list[int], Tensor]] = []
        self.has_gradients = False

    @torch.no_grad()
    def copy_parameters(self, copies: dict[nn.Parameter, Tensor]) -> None:
        """Fill these copies, to which new parameters are added."""
        copies.update({p: torch.empty_like(p) for p in self.parameters if p not in copies})
        torch._foreach_copy_([copies[p] for p in self.parameters], [*self.parameters])
        self.copies = copies

    def add_lrs(self, lrs: list[float | Tensor]) -> None:
        self.lrs = [np.nan if isinstance(lr, Tensor) else lr for lr in lrs]
        tensors = {row: lr.detach() for row, lr in enumerate(lrs) if isinstance(lr, Tensor)}
        for rows in _alike(tensors):
            self.vectors.append(("lr", rows, torch.cat([tensors[row].reshape(1) for row in rows])))

    def add_gradients(self) -> None:
        """The gradients as they are at the first call."""
        if not self.has_gradients:
            self.add_norms(
                "gradient_rms", [None if p.grad is None else stored_entries(p.grad) for p in self.parameters]
            )
        self.has_gradients = True

    @torch.no_grad()
    def add_updates(self) -> None:
        """What the parameters have changed by, computed in the memory of their copies."""
        updates = [self.copies[p] for p in self.parameters]
        torch._foreach_sub_(updates, [*self.parameters])
        self.add_norms("update_rms", updates)

    def add_norms(self, column: str, tensors: Sequence[Tensor | None]) -> None:
        """‖t‖ for each that is not None."""
        present = {row: t.detach() for row, t in enumerate(tensors) if t is not None}
        for rows in _alike(present):
            self.vectors.append((column, rows, norms_of([present[row] for row in rows])))

    def release(self) -> None:
        """Let go of everything but the recorded numbers."""
        self.parameters, self.kwargs, self.copies = [], {}, {}


class _Watched:
    """A closure after whose first call a step records the gradients."""

    def __init__(self, closure: Callable[..., Any], step: _Step) -> None:
        self.closure, self.step = closure, step

    def __call__(self, *args: Any) -> Any:
        loss = self.closure(*args)
        self.step.add_gradients()
        return loss


def _alike(tensors: Mapping[int, Tensor]) -> list[list[int]]:
    """The keys of tensors, in lists of one device and dtype."""
    keys: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for key, tensor in tensors.items():
        keys.setdefault((tensor.device, tensor.dtype), []).append(key)
    return list(keys.values())


_Place = tuple[str, np.ndarray, slice]


def _fetch(steps: Sequence[_Step]) -> list[tuple[list[_Place], np.ndarray]]:
    """For each device, where its numbers belong as (column, rows, slice of them), and the numbers, fetched at once."""
    places: dict[torch.device, list[_Place]] = {}
    vectors: dict[torch.device, list[Tensor]] = {}
    ends: dict[torch.device, int] = {}
    start = 0
    for step in steps:
        for column, rows, vector in step.vectors:
            first = ends.get(vector.device, 0)
            ends[vector.device] = end = first + len(rows)
            places.setdefault(vector.device, []).append((column, np.array(rows) + start, slice(first, end)))
            vectors.setdefault(vector.device, []).append(vector)
        start += len(step.names)
    return [(places[device], torch.cat(vectors[device]).cpu().numpy()) for device in places]
