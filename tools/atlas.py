"""Measure the units of every optimizer of some collections, and store what was found in scaleinv/atlas.json.

    python tools/atlas.py                     # all of them
    python tools/atlas.py MADGRAD Kate        # these, printed and not stored

What an optimizer is given besides its defaults, and how it wants to be called, stands below: the rest is the same
``scaleinv.infer_units`` for all.
"""

import contextlib
import importlib
import inspect
import io
import json
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

import scaleinv

ATLAS = Path(__file__).parent.parent / "scaleinv" / "atlas" / "atlas.json"

COLLECTIONS = {
    "torch.optim": "torch",
    "pytorch_optimizer": "pytorch_optimizer",
    "torch_optimizer": "torch-optimizer",
    "prodigyopt": "prodigyopt",
    "schedulefree": "schedulefree",
    "lion_pytorch": "lion-pytorch",
    "adan_pytorch": "adan-pytorch",
    "came_pytorch": "came-pytorch",
    "sophia_opt": "sophia-opt",
}  # module → distribution


# How an optimizer wants to be called, as a factory that infer_units can call.


def factory_like(cls):
    """Give a factory the name and the defaults of the class that it makes instances of."""

    def decorate(factory):
        factory.__signature__ = inspect.signature(cls)
        factory.__name__ = cls.__name__
        return factory

    return decorate


def with_muon_groups(cls):
    """Matrices in a group with use_muon=True, the others in one with False."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        groups = [{"params": [p for p in params if (p.ndim > 1) is muon], "use_muon": muon} for muon in (True, False)]
        return cls([group for group in groups if group["params"]], **hyperparameters)

    return factory


def with_closure(cls):
    """``step`` always gets the closure that it could do without."""

    class Optimizer(cls):
        def step(self, closure):
            return super().step(closure)

    Optimizer.__name__ = cls.__name__
    return Optimizer


def with_gradients(cls):
    """Gradients are there before the first step, and the closure that ``step`` calls makes them again."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        for p in params:
            p.grad = torch.zeros_like(p)
        return cls(params, **hyperparameters)

    return factory


def with_fused_backward(cls):
    """An optimizer whose step is ``fused_backward(loss, lr)``."""

    @factory_like(cls)
    def factory(model, lr=1e-3, **hyperparameters):
        inner = cls(model, lr=lr, **hyperparameters)

        def step(closure):
            loss = closure()
            for p in model.parameters():
                p.grad = None
            inner.fused_backward(loss, lr)

        inner.step = step
        return inner

    return factory


def around_sgd(cls):
    """A wrapper of another optimizer, around SGD."""

    def factory(params, lr=0.1, **hyperparameters):
        return cls(torch.optim.SGD(params, lr=lr), **hyperparameters)

    factory.__name__ = cls.__name__
    return factory


def with_process_group(make):
    """In a process group of one process."""

    def wrapped(cls):
        inner = make(cls)

        @factory_like(cls)
        def factory(params, **hyperparameters):
            if not torch.distributed.is_initialized():
                store = torch.distributed.HashStore()
                torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
            return inner(params, **hyperparameters)

        return factory

    return wrapped


# (module, name) → what it is given besides its defaults, and how it is called.
GIVEN = {
    ("pytorch_optimizer", "AdaGC"): {"warmup_steps": 4},
    ("came_pytorch", "CAME"): {"lr": 1e-3},
    ("pytorch_optimizer", "ASGD"): {"maximize": True},
    ("pytorch_optimizer", "BSAM"): {"num_data": 10},
    ("pytorch_optimizer", "Magma"): {"lr": 1e-3, "weight_decay": 0.01, "eps": 1e-8},
    ("pytorch_optimizer", "PID"): {"momentum": 0.9},
    ("pytorch_optimizer", "QHM"): {"momentum": 0.9, "nu": 0.7},
    ("pytorch_optimizer", "Ranger21"): {"num_iterations": 200},
    ("pytorch_optimizer", "SaRA"): {"lr": 1e-3, "threshold": 1.0},
    ("pytorch_optimizer", "ScheduleFreeAdamW"): {"warmup_steps": 5},
    ("pytorch_optimizer", "ScheduleFreeSGD"): {"warmup_steps": 5},
    ("pytorch_optimizer", "SophiaH"): {"p": 10.0, "update_period": 1},
    ("torch_optimizer", "Lookahead"): {"lr": 0.1, "alpha": 0.5},
}
CALLED = {
    **{("pytorch_optimizer", name): with_muon_groups for name in ("AdaGO", "AdaMuon", "Muon", "MuonClip", "NorMuon")},
    **{("pytorch_optimizer", name): with_closure for name in ("EmoFact", "EmoLynx", "EmoNavi")},
    **{("pytorch_optimizer", name): with_fused_backward for name in ("LOMO", "AdaLOMO")},
    ("pytorch_optimizer", "BSAM"): with_gradients,
    ("torch_optimizer", "Lookahead"): around_sgd,
    ("pytorch_optimizer", "DistributedMuon"): with_process_group(with_muon_groups),
    ("pytorch_optimizer", "DeMo"): with_process_group(lambda cls: cls),
}


def optimizers():
    """(module, name) of every optimizer of the collections, those of torch that another passes on left out."""
    found = [("torch.optim", cls.__name__) for cls in scaleinv.UNITS]
    from pytorch_optimizer.optimizer import OPTIMIZERS

    found += [("pytorch_optimizer", cls.__name__) for cls in OPTIMIZERS.values()]
    for module in list(COLLECTIONS)[2:]:
        names = vars(importlib.import_module(module)).items()
        found += [(module, name) for name, cls in names if _is_optimizer(cls)]
    found = [key for key in found if not key[1].endswith(("Reference", "Paper", "Closure"))]
    passed_on = {name for name in vars(torch.optim)}
    classes = {key: _class(*key) for key in found}
    return [
        key
        for key, cls in classes.items()
        if key[0] == "torch.optim" or not (cls.__module__.startswith("torch.optim") and key[1] in passed_on)
    ]


def _is_optimizer(cls):
    return isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer


def _class(module, name):
    return getattr(importlib.import_module(module), name)


def measured(module, name):
    """One line of the atlas: what ``infer_units`` says, or why it could not run, as plain numbers and strings."""
    cls = _class(module, name)
    given = GIVEN.get((module, name), {})
    line = {"module": module, "name": name, "given": given}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = scaleinv.infer_units(CALLED.get((module, name), lambda cls: cls)(cls), given)
        except Exception as error:
            return line | {"floats": [], "verdict": "not run", "reason": f"{type(error).__name__}: {error}"}
    return line | {
        "floats": list(found.hyperparameters),
        "verdict": found.verdict,
        "residual": float(f"{found.residual:.1e}"),
        "degree": None if found.degree is None else str(found.degree),
        "lr": exponents(found.hyperparameters.get("lr") or found.nearby.get("lr")),
        "units": {key: str(unit) for key, unit in found.entries() if unit is not None},
        "nearby": {key: str(unit) for key, unit in found.nearby.items()},
        "undetermined": list(found.undetermined),
        "inconsistent": {key: float(f"{residual:.1e}") for key, residual in found.inconsistent.items()},
        "suspect": found.suspect,
        "reason": found.reason,
    }


def exponents(unit):
    return None if unit is None else [str(unit.loss), str(unit.weight)]


def main(names):
    torch.set_num_threads(1)
    keys = [key for key in optimizers() if not names or key[1] in names]
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        lines = list(tqdm(pool.map(measured, *zip(*keys)), total=len(keys), disable=None))
    if names:
        print(json.dumps(lines, ensure_ascii=False, indent=1))
        return
    versions = {module: version(distribution) for module, distribution in COLLECTIONS.items()}
    ATLAS.write_text(json.dumps({"versions": versions, "optimizers": lines}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
