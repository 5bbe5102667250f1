"""Record, at every step of a training run, how large each parameter, its gradient and its actual update are."""

import sys

import numpy as np
import pandas as pd
import torch

from scaleinv._norms import entries_of, norms_of
from scaleinv._reparam import parameter_slots


class Recorder:
    """Records the RMS of each tensor at every step of ``optimizer``, from ``with`` to its end.

    ::

        with Recorder(model, optimizer) as recorder:
            ...  # train as ever
        recorder.frame()

    The update is the actual one, the parameter after the step minus before it, weight decay and all.  The parameters
    are those of the model that the optimizer holds, as it sees them: where ``scale_parameters`` scaled them, w' = k·w
    under the name that w had.  Model, optimizer and random state are left as they are; on exit, by an exception too,
    nothing of the recorder stays in them.

    While it records it keeps one copy of the parameters.  The recorded numbers, float64 (float32 on MPS), stay on the
    device until ``frame`` fetches them all at once.

    Args:
        model: the ``nn.Module`` whose parameters to record.
        optimizer: the ``torch.optim.Optimizer`` that trains it, and perhaps others, which are not recorded.  Groups
            may be added and hyperparameters changed on the way.

    Raises:
        TypeError: for what is no module or no optimizer.
        ValueError: for an optimizer that holds none of the model's parameters.
        RuntimeError: on entering it while it records.
    """

    def __init__(self, model, optimizer):
        self._names = {slot.parameter: slot.names[0] for slot in parameter_slots(model).values()}
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer")
        self._optimizer = optimizer
        if not self._held():
            raise ValueError(
                f"optimizer={type(optimizer).__name__} holds none of the {len(self._names)} parameters of "
                f"model={type(model).__name__}; make it from model.parameters()"
            )
        self._hooks, self._copies, self._steps = [], {}, []
        self._step = self._caller = None

    def __enter__(self):
        if self._hooks:
            raise RuntimeError("this Recorder is recording already; leave its with block first, or make another")
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before),
            self._optimizer.register_step_post_hook(self._after),
        ]
        return self

    def __exit__(self, *exception):
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._copies = [], {}
        self._step = self._caller = None

    def frame(self):
        """What was recorded so far, one row for each step and parameter.

        Returns:
            A ``pandas.DataFrame`` with the columns

            - step: from 1; a step that raised is left out,
            - parameter: its name,
            - parameter_rms: before the step, unit W,
            - gradient_rms: as the step found it, or as a closure's first call left it, unit L·W⁻¹; NaN without one,
            - update_rms: of the parameter after the step minus before, unit W,
            - lr: of its group; NaN for an optimizer that has none.
        """
        names = [name for step in self._steps for name in step.names]
        values = {column: np.full(len(names), np.nan) for column in _COLUMNS}
        values["lr"][:] = [lr for step in self._steps for lr in step.lrs]
        for places, fetched in _fetch(self._steps):
            for column, rows, part in places:
                values[column][rows] = fetched[part]
        sizes = np.sqrt([max(size, 1) for step in self._steps for size in step.sizes])
        for column in _COLUMNS[:3]:
            values[column] /= sizes
        counts = [len(step.names) for step in self._steps]
        return pd.DataFrame({"step": np.repeat(np.arange(1, len(counts) + 1), counts), "parameter": names, **values})

    def _held(self):
        return [(p, group) for group in self._optimizer.param_groups for p in group["params"] if p in self._names]

    def _before(self, optimizer, args, kwargs):
        # A subclass whose step calls super().step() gets the hooks twice, one pair within the other. The outer pair
        # records. Both of its hooks are called by one frame; a step that raised leaves its frame, but not running.
        if self._caller is not None and _is_running(self._caller):
            return None
        self._caller = sys._getframe(1)
        held = self._held()
        parameters = [p for p, _ in held]
        self._step = step = _Step(parameters, [self._names[p] for p in parameters])
        step.add_lrs([group.get("lr", np.nan) for _, group in held])
        step.add_norms("parameter_rms", parameters)
        self._copies.update({p: torch.empty_like(p) for p in parameters if p not in self._copies})
        with torch.no_grad():
            torch._foreach_copy_([self._copies[p] for p in parameters], parameters)

        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            step.add_gradients()
            return None

        def watched(*arguments):
            loss = closure(*arguments)
            step.add_gradients()
            return loss

        if "closure" in kwargs:
            return args, kwargs | {"closure": watched}
        return (args[0], watched, *args[2:]), kwargs

    def _after(self, optimizer, args, kwargs):
        if sys._getframe(1) is not self._caller:
            return
        step = self._step
        updates = [self._copies[p] for p in step.parameters]
        with torch.no_grad():
            torch._foreach_sub_(updates, step.parameters)
        step.add_norms("update_rms", updates)
        step.parameters = None
        self._steps.append(step)
        self._step = self._caller = None


def _is_running(frame):
    running = sys._getframe(2)
    while running is not None and running is not frame:
        running = running.f_back
    return running is not None


_COLUMNS = ["parameter_rms", "gradient_rms", "update_rms", "lr"]


class _Step:
    """What was recorded at one step: host data in order of the parameters, and vectors on their devices."""

    def __init__(self, parameters, names):
        self.parameters, self.names = parameters, names
        self.sizes = [p.numel() for p in parameters]
        self.lrs, self.vectors, self.has_gradients = [], [], False

    def add_lrs(self, lrs):
        tensors = {row: lr.detach() for row, lr in enumerate(lrs) if isinstance(lr, torch.Tensor)}
        self.lrs = [np.nan if row in tensors else lr for row, lr in enumerate(lrs)]
        for rows in _alike(tensors):
            self.vectors.append(("lr", rows, torch.cat([tensors[row].reshape(1) for row in rows])))

    def add_gradients(self):
        if not self.has_gradients:
            self.add_norms("gradient_rms", [entries_of(p.grad) for p in self.parameters])
        self.has_gradients = True

    def add_norms(self, column, tensors):
        """‖t‖ for each that is not None."""
        tensors = {row: t.detach() for row, t in enumerate(tensors) if t is not None}
        for rows in _alike(tensors):
            self.vectors.append((column, rows, norms_of([tensors[row] for row in rows])))


def _alike(tensors):
    """The keys of a dict of tensors, in lists of one device and dtype."""
    lists = {}
    for key, tensor in tensors.items():
        lists.setdefault((tensor.device, tensor.dtype), []).append(key)
    return lists.values()


def _fetch(steps):
    """For each device, where its numbers belong as (column, rows, slice), and the numbers, fetched at once."""
    devices, start = {}, 0
    for step in steps:
        for column, rows, vector in step.vectors:
            places, vectors, end = devices.setdefault(vector.device, ([], [], [0]))
            places.append((column, np.array(rows) + start, slice(end[0], end[0] + len(rows))))
            vectors.append(vector)
            end[0] += len(rows)
        start += len(step.names)
    return [(places, torch.cat(vectors).cpu().numpy()) for places, vectors, _ in devices.values()]
