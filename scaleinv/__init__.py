"""What a learning rate means: units of hyperparameters, derived, measured and applied.

>>> import torch, scaleinv
>>> print(scaleinv.units_of(torch.optim.Adam).hyperparameters["lr"])
W

Names resolve when they are first used, so that ``import scaleinv`` takes no longer than ``import torch``.
"""

from importlib import import_module

__version__ = "0.2.0.dev0"

_HOMES = {  # public name -> the module it lives in
    "UNITS": "known_optimizers",
    "Audit": "_audit",
    "Change": "changes",
    "InferredUnits": "_infer",
    "Recorder": "recorder",
    "Unit": "units",
    "Units": "units",
    "audit": "_audit",
    "convert": "_convert",
    "effective_parameters": "reparam",
    "fold_parameters": "reparam",
    "infer_units": "_infer",
    "relative_change": "measure",
    "relative_distance": "measure",
    "rescale": "reparam",
    "scale_parameters": "reparam",
    "sweep": "_sweep",
    "ulp_distance": "measure",
    "units_of": "known_optimizers",
}
_MODULES = (
    "atlas", "book", "changes", "curves", "known_optimizers", "laws", "measure", "optimizers", "recorder", "reparam",
    "units",
)  # fmt: skip

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"scaleinv.{name}")
    if name in _HOMES:
        value = getattr(import_module(f"scaleinv.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'scaleinv' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return [*globals(), *__all__]
