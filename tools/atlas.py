"""Measure units and symmetries of every optimizer of several packages, and store them in scaleinv/atlas/atlas.json.

    python tools/atlas.py                     # all of them
    python tools/atlas.py MADGRAD Kate        # these, printed and not stored

``scaleinv.infer_units`` and ``symmetries_of`` do the same for all of them; what some need beyond their defaults, and
how some have to be called, is listed below.
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
from scaleinv._infer import measured_decay

ATLAS = Path(__file__).parent.parent / "scaleinv" / "atlas" / "atlas.json"

PACKAGES = {
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


# Optimizers that are called in another way, as factories that infer_units can call.


def factory_like(cls):
    """Give a factory the name and the signature of the class whose instances it makes."""

    def decorate(factory):
        factory.__signature__ = inspect.signature(cls)
        factory.__name__ = cls.__name__
        return factory

    return decorate


def with_muon_groups(cls):
    """Put matrices into a group with use_muon=True, the other parameters into one with False."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        groups = [{"params": [p for p in params if (p.ndim > 1) is muon], "use_muon": muon} for muon in (True, False)]
        return cls([group for group in groups if group["params"]], **hyperparameters)

    return factory


def with_closure(cls):
    """Require the closure that ``step`` declares optional."""

    class Optimizer(cls):
        def step(self, closure):
            return super().step(closure)

    Optimizer.__name__ = cls.__name__
    return Optimizer


def with_gradients(cls):
    """Set gradients before the first step; the closure that ``step`` calls computes them again."""

    @factory_like(cls)
    def factory(params, **hyperparameters):
        for p in params:
            p.grad = torch.zeros_like(p)
        return cls(params, **hyperparameters)

    return factory


def with_fused_backward(cls):
    """Make ``fused_backward(loss, lr)`` the step."""

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
    """Wrap SGD in an optimizer that wraps another."""

    def factory(params, lr=0.1, **hyperparameters):
        return cls(torch.optim.SGD(params, lr=lr), **hyperparameters)

    factory.__name__ = cls.__name__
    return factory


def with_process_group(make):
    """Run what ``make`` returns in a process group of one process."""

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


# (module, name) → hyperparameters other than the defaults, and the factory that calls it.
HYPERPARAMETERS = {
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
FACTORIES = {
    **{("pytorch_optimizer", name): with_muon_groups for name in ("AdaGO", "AdaMuon", "Muon", "MuonClip", "NorMuon")},
    **{("pytorch_optimizer", name): with_closure for name in ("EmoFact", "EmoLynx", "EmoNavi")},
    **{("pytorch_optimizer", name): with_fused_backward for name in ("LOMO", "AdaLOMO")},
    ("pytorch_optimizer", "BSAM"): with_gradients,
    ("torch_optimizer", "Lookahead"): around_sgd,
    ("pytorch_optimizer", "DistributedMuon"): with_process_group(with_muon_groups),
    ("pytorch_optimizer", "DeMo"): with_process_group(lambda cls: cls),
}


def all_optimizers():
    """(module, name) of every optimizer of the packages, without those that a package re-exports from torch."""
    keys = [("torch.optim", cls.__name__) for cls in scaleinv.UNITS]
    from pytorch_optimizer.optimizer import OPTIMIZERS

    keys += [("pytorch_optimizer", cls.__name__) for cls in OPTIMIZERS.values()]
    for module in list(PACKAGES)[2:]:
        names = vars(importlib.import_module(module)).items()
        keys += [(module, name) for name, cls in names if is_optimizer(cls)]
    keys = [key for key in keys if not key[1].endswith(("Reference", "Paper", "Closure"))]
    in_torch = set(vars(torch.optim))
    classes = {key: class_of(*key) for key in keys}
    return [
        key
        for key, cls in classes.items()
        if key[0] == "torch.optim" or not (cls.__module__.startswith("torch.optim") and key[1] in in_torch)
    ]


def is_optimizer(cls):
    return isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer


def class_of(module, name):
    return getattr(importlib.import_module(module), name)


def measure(module, name):
    """One line of the atlas: what was measured, or why it could not be, as plain numbers and strings."""
    cls = class_of(module, name)
    hyperparameters = HYPERPARAMETERS.get((module, name), {})
    line = {"module": module, "name": name, "given": hyperparameters, "symmetry": {}}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            factory = FACTORIES[module, name](cls) if (module, name) in FACTORIES else cls
            line["symmetry"] = symmetry(factory, hyperparameters)
            result = scaleinv.infer_units(factory, hyperparameters)
        except Exception as error:
            return line | {"floats": [], "verdict": "not run", "reason": f"{type(error).__name__}: {error}"}
    return line | {
        "floats": list(result.hyperparameters),
        "verdict": result.verdict,
        "residual": float(f"{result.residual:.1e}"),
        "degree": None if result.degree is None else str(result.degree),
        "lr": exponents(result.hyperparameters.get("lr") or result.nearby.get("lr")),
        "units": {key: str(unit) for key, unit in result.entries() if unit is not None},
        "nearby": {key: str(unit) for key, unit in result.nearby.items()},
        "undetermined": list(result.undetermined),
        "inconsistent": {key: float(f"{residual:.1e}") for key, residual in result.inconsistent.items()},
        "not_for": {kind: float(f"{residual:.1e}") for kind, residual in result.not_for.items()},
        "suspect": result.suspect,
        "decay": result.decay,
        "fixed_decay": fixed_decay(factory, hyperparameters),
        "reason": result.reason,
    }


def fixed_decay(factory, hyperparameters):
    """How weight_decay acts with the flag fixed_decay, None without one."""
    names = inspect.signature(factory).parameters
    flags = {name: True for name in ("weight_decouple", "fixed_decay") if name in names}
    if "fixed_decay" not in flags:
        return None
    try:
        return measured_decay(factory, hyperparameters | flags)
    except ValueError:  # it does not run with them
        return ""


def symmetry(factory, hyperparameters):
    """The result of ``symmetries_of``, or why it could not run."""
    try:
        result = scaleinv.symmetries_of(factory, hyperparameters).as_dict()
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {error}"}
    shares = {
        kind: {part: float(f"{share:.1e}") for part, share in result[kind].items()} for kind in ("scaled", "rotated")
    }
    return {"scales": result["scales"], "rotations": result["rotations"], **shares}


def exponents(unit):
    return None if unit is None else [str(unit.loss), str(unit.weight)]


def main(names):
    torch.set_num_threads(1)
    keys = [key for key in all_optimizers() if not names or key[1] in names]
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        lines = list(tqdm(pool.map(measure, *zip(*keys)), total=len(keys), disable=None))
    if names:
        print(json.dumps(lines, ensure_ascii=False, indent=1))
        return
    versions = {module: version(distribution) for module, distribution in PACKAGES.items()}
    ATLAS.write_text(json.dumps({"versions": versions, "optimizers": lines}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
