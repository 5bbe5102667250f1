"""The packages whose optimizers the atlas measures, and how they are loaded."""

import importlib
import importlib.util
import sys
from types import ModuleType

import torch
from atlas_calls import HYPERPARAMETERS

import scaleinv

PACKAGES = {
    "torch.optim": "torch",
    "pytorch_optimizer": "pytorch_optimizer",
    "torch_optimizer": "torch-optimizer",
    "timm.optim": "timm",
    "heavyball": "heavyball",
    "optimi": "torch-optimi",
    "bitsandbytes.optim": "bitsandbytes",
    "torchao.optim": "torchao",
    "adv_optm": "adv-optm",
    "transformers": "transformers",
    "composer.optim": "mosaicml",
    "schedulefree": "schedulefree",
    "prodigyopt": "prodigyopt",
    "prodigyplus": "prodigy-plus-schedule-free",
    "dadaptation": "dadaptation",
    "parameterfree": "parameterfree",
    "muon": "muon-optimizer",
    "gram_newton_schulz": "gram-newton-schulz",
    "kron_torch": "kron-torch",
    "galore_torch": "galore-torch",
    "q_galore_torch": "q-galore-torch",
    "adam_mini": "adam-mini",
    "lomo_optim": "lomo-optim",
    "came_pytorch": "came-pytorch",
    "SM3": "torch-SM3",
    "lion_pytorch": "lion-pytorch",
    "adan_pytorch": "adan-pytorch",
    "adam_atan2_pytorch": "adam-atan2-pytorch",
    "adopt": "torch-adopt",
    "sophia_opt": "sophia-opt",
    "grokadamw": "grokadamw",
    "madgrad": "madgrad",
    "sgd_sai": "sgd-sai",
    "fsgdm": "fsgdm",
    "adamp": "adamp",
    "adabound": "adabound",
    "adamod": "adamod",
}  # module → distribution

# These are not in the environment of the project, but measured elsewhere: bitsandbytes has 125 MB, and transformers and
# peft load it and torchao wherever they are installed, with warnings; the last two load bitsandbytes.
# gram_newton_schulz needs the kernels of a GPU.
ELSEWHERE = ("bitsandbytes.optim", "torchao.optim", "galore_torch", "q_galore_torch", "gram_newton_schulz")

# Where the optimizers of a module really are.
INSIDE = {"transformers": "transformers.optimization", "composer.optim": "composer.optim.decoupled_weight_decay"}
# Packages whose other parts need what does not install beside this torch, such as torchvision: only the modules of
# their optimizers are loaded, without running the packages' own __init__.
BARE = ("timm", "timm.models", "composer", "composer.optim", "composer.utils")

# What takes minutes each: variants of SOAP and PSGD.
SLOW = ("HeavySOAP", "HeavyKLSOAP", "HeavyKLShampoo", "HeavySOAPNAdam", "HeavySOAPAdEMAMix", "HeavySOLP", "SOLP")
SLOW += ("LATHER", "PSGDPRO", "QSGD", "PSGDLRA")
# What is not an optimizer of its own: base classes, wrappers, and what does the same as another.
LEFT_OUT = {
    "heavyball": ("SOAPBase", "PSGDBase", "SplitOpt", "SAMWrapper", *SLOW),
    "torchao.optim": ("_AdamW", "CPUOffloadOptimizer"),
    "transformers": ("LayerWiseDummyOptimizer",),
    "prodigyplus": ("CoreOptimiser",),
}
ENDINGS_LEFT_OUT = ("Reference", "Paper", "Closure", "32bit")


def is_installed(module):
    return importlib.util.find_spec(module.split(".")[0]) is not None


def optimizers_of(module):
    """The names of all optimizers of a package, without those that it re-exports from torch; and variants of some."""
    if module == "torch.optim":
        return [cls.__name__ for cls in scaleinv.UNITS]
    if module == "pytorch_optimizer":
        found = [cls.__name__ for cls in load(f"{module}.optimizer").OPTIMIZERS.values()]
    else:
        found = [name for name, cls in vars(load(module)).items() if is_optimizer(cls)]
    variants = [name for package, name in HYPERPARAMETERS if package == module and "(" in name]
    return [name for name in found if belongs(module, name)] + variants


def belongs(module, name):
    if name.endswith(ENDINGS_LEFT_OUT) or name.startswith("Paged") or name in LEFT_OUT.get(module, ()):
        return False
    cls = class_of(module, name)
    from_torch = cls.__module__.startswith("torch.optim") and name in vars(torch.optim)
    alias = name != cls.__name__ and is_optimizer(vars(load(module)).get(cls.__name__))
    return not (from_torch or alias)


def is_optimizer(cls):
    return isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer


def class_of(module, name):
    """The class, of which "Name(flag)" is a variant."""
    return getattr(load(module), name.split("(")[0])


def load(module):
    """The module that has the optimizers."""
    for package in BARE:
        if module.split(".")[0] == package.split(".")[0] and package not in sys.modules:
            sys.modules[package] = without_init(package)
    return importlib.import_module(INSIDE.get(module, module))


def without_init(package):
    spec = importlib.util.find_spec(package)
    bare = ModuleType(package)
    bare.__spec__, bare.__path__ = spec, list(spec.submodule_search_locations)
    bare.group_parameters = None  # of timm.models, which timm.optim imports
    return bare
