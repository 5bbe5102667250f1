"""The parts of ``tools/device_check.py``: each prints its result as one line of JSON, the last line.

python tools/device_parts.py chapter 3_step_size
"""

import json
import os
import statistics
import sys
import time
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from scaleinv import audit, optimizers
from scaleinv._sweep.ensemble import Ensemble
from scaleinv._sweep.replay import traced
from scaleinv.book import claims, data, models

os.environ.setdefault("MPLBACKEND", "agg")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

STEPS, RUNS, CLOSE = 100, 3, 1e-4


def synchronize():
    """Wait until the device has done all that it was told to."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def seconds(function):
    """The median time of a call, after one to warm up, and what that one returned."""
    result, times = function(), []
    for _ in range(RUNS):
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


# Chapters


def cells_of(notebook):
    """The code cells of a chapter."""
    cells = json.loads((ROOT / "book" / f"{notebook}.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def claims_in(notebook):
    """How many checks the chapter's stored outputs show."""
    text = (ROOT / "book" / f"{notebook}.ipynb").read_text()
    outputs = [
        output for cell in json.loads(text)["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]
    ]
    lines = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    return sum(line.startswith("claim ") for line in lines)


def chapter(notebook):
    """Run a chapter on the device that the book chooses; neither a claim that fails nor a cell stops the others."""
    held, failures = 0, []
    check = claims.claim

    def counted(number, statement, *args, **kwargs):
        nonlocal held
        try:
            check(number, statement, *args, **kwargs)
            held += 1
        except claims.ClaimFailed as failure:
            failures.append(str(failure))

    claims.claim, claims._show = counted, lambda text, html: None
    namespace = {"__name__": "__main__"}
    for i, source in enumerate(cells_of(notebook), start=1):
        try:
            exec(compile(source, f"cell {i}", "exec"), namespace)
        except Exception as error:  # whatever a device does not do
            traceback.print_exc()
            failures.append(f"cell {i}: {type(error).__name__}: {error}"[:500])
    expected = claims_in(notebook)
    if held + sum(failure.startswith("claim") for failure in failures) < expected:
        failures.append(f"{expected} claims are stored, fewer were made")
    return {"device": str(data.device()), "claims": expected, "held": held, "failures": failures}


# The sweep


def members():
    """Of the sweeps: as many as a job of this device has."""
    return 4096 if torch.cuda.is_available() else 256


def final(losses):
    return np.asarray(losses)[:, -1]


def check_close(name, losses, expected):
    """Raise where final losses are not those of single runs, at learning rates at which these are not chaotic."""
    apart = np.abs(final(losses) / final(expected) - 1)
    if not apart.max() <= CLOSE:
        raise AssertionError(f"{name}: the final losses differ from those of single runs by {apart.max():.1e}")
    return float(apart.max())


def sweep_rates():
    """Trainings per second of a loop over torch.optim, and of sweeps with a live optimizer and with a rule."""
    import sweep as benchmark

    lrs = np.geomspace(1e-4, 1e-2, members())
    some = np.linspace(0, len(lrs) - 1, 5).astype(int)
    loop = partial(benchmark.looped, lrs[some], nn.ReLU, list(data.batches(STEPS, 64)))
    loop_time, expected = seconds(loop)
    rates, apart = {"loop": len(some) / loop_time}, {}
    for name, optimizer in {"torch.optim.Adam": torch.optim.Adam, "optimizers.adam": optimizers.adam}.items():
        taken, losses = seconds(partial(benchmark.swept, lrs, optimizer=optimizer))
        rates[name], apart[name] = len(lrs) / taken, check_close(name, losses[some], expected)
    return {"members": len(lrs), "trainings_per_second": rates, "apart_from_the_loop": apart}


def ensemble_of(optimizer):
    """A job of a sweep, and its ensemble."""
    import sweep as benchmark

    kept, lrs = benchmark.Kept(), np.geomspace(1e-4, 1e-2, members())
    with suppress(InterruptedError):
        benchmark.swept(lrs, optimizer=optimizer, executor=kept)
    return Ensemble(kept.job), kept.job


def tensors(tree):
    return [x for x in pytree.tree_leaves(tree) if torch.is_tensor(x)]


def with_graph(ensemble, job):
    """The ensemble's function ``train``, each step of which replays one graph, the live optimizer's step too."""
    record, moved, optimizers = ensemble.record, ensemble.moved, ensemble._optimizers(job)

    def step():
        record()
        for optimizer in optimizers:
            optimizer.step()
        for here, new in [(here, new.clone()) for here, new in moved]:
            here.copy_(new)

    def from_the_start(job):
        for x in tensors([[*optimizer.state.values()] for optimizer in optimizers]):
            x.zero_()
        return []

    replay = captured(step)
    ensemble.record, ensemble.moved, ensemble._optimizers = Replayed(replay, record.generator), [], from_the_start
    return ensemble.train


class Replayed:
    """In place of a recording."""

    def __init__(self, replay, generator):
        self.replay, self.generator = replay, generator

    def __call__(self):
        self.replay()


def captured(step):
    """A function that does what ``step`` does, as a CUDA graph; the function itself where there is no CUDA."""
    if not torch.cuda.is_available():
        step()  # makes the optimizers' state
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        step()
    return graph.replay


def graph_rates():
    """Trainings per second of a job as the sweep trains it, and with each step as one CUDA graph."""
    ensemble, job = ensemble_of(torch.optim.Adam)
    plain, expected = seconds(partial(ensemble.train, job))
    options = {"capturable": True, "fused": True} if torch.cuda.is_available() else {}
    ensemble, job = ensemble_of(partial(torch.optim.Adam, **options))
    replayed, losses = seconds(partial(with_graph(ensemble, job), job))
    size = len(job.points)
    return {
        "captured": torch.cuda.is_available(),
        "members": size,
        "trainings_per_second": {"as the sweep does it": size / plain, "each step one graph": size / replayed},
        "apart": check_close("each step one graph", losses[:size], expected[:size]),
    }


def compiled_rates():
    """Trainings per second of a job's steps with a rule, as the sweep takes them, and compiled by torch.compile."""
    ensemble, job = ensemble_of(optimizers.adam)
    graph = traced(ensemble._step, ensemble.memory)
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    compiled = torch.compile(lambda memory: graph((memory,)), dynamic=False, mode=mode)

    def steps(step):
        with torch.no_grad():
            for _ in range(STEPS):
                step()

    start = time.perf_counter()
    compiled(ensemble.memory)
    synchronize()
    first, size = time.perf_counter() - start, len(job.points)
    rates = {
        "as the sweep does it": size / seconds(partial(steps, ensemble.record))[0],
        "compiled": size / seconds(partial(steps, lambda: compiled(ensemble.memory)))[0],
    }
    return {"members": size, "trainings_per_second": rates, "seconds_to_compile": first}


# The audit


def audit_seconds(width=816, depth=12):
    """Seconds of an audit of a transformer of a hundred million parameters, with AdamW's state and gradients."""
    model = models.gpt(width=width, depth=depth, heads=12, length=1024).to(data.device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    generator = torch.Generator(data.device()).manual_seed(0)
    for p in model.parameters():
        p.grad = 1e-3 * torch.randn(p.shape, device=p.device, generator=generator)
    optimizer.step()
    found = {"parameters": sum(p.numel() for p in model.parameters())}
    for case in ("state and gradients", "state"):
        if case == "state":
            optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        taken, report = seconds(partial(audit, model, optimizer, max_norm=1.0))
        found[case] = {"seconds": taken, "tensors": len(report.frame())}
        if torch.cuda.is_available():
            found[case]["mib_besides"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return found


PARTS = {
    "chapter": chapter,
    "sweep": sweep_rates,
    "graphs": graph_rates,
    "compile": compiled_rates,
    "audit": audit_seconds,
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(PARTS[name](*arguments)), flush=True)
