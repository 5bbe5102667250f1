"""The units of an optimizer, its settings after a change, and an audit of a training, from the command line.

python -m scaleinv units torch.optim.AdamW --lr 1e-3 --betas 0.9,0.95
python -m scaleinv units mypackage.MyOptimizer --lr 1e-3 --nesterov
python -m scaleinv convert torch.optim.AdamW --lr 1e-3 --loss-times 8
python -m scaleinv convert torch.optim.AdamW --lr 1e-3 --lora-alpha 16,64
python -m scaleinv audit MODEL.pt OPTIMIZER.pt --optimizer torch.optim.AdamW

convert takes one of these changes:
  --loss-times 8        the loss is multiplied by 8
  --sum-over 512        the loss is summed over a batch of 512 instead of averaged
  --lora-alpha 16,64    LoRA's α goes from 16 to 64, at the same rank
  --gain 1/sqrt(512)    these weights now carry a gain, of 1/√512 or of any number
  --start-times 10      the module is initialised ten times as large

audit reads files with model.state_dict() and optimizer.state_dict(), tensors and plain data only.

Hyperparameters are numbers, tuples with commas, strings, or flags; those not given have the optimizer's defaults.
"""

import argparse
import ast
import contextlib
import importlib
import re
import sys
import textwrap

import torch
from rich.console import Console

from scaleinv import changes
from scaleinv._convert import convert_report
from scaleinv._infer import infer_units
from scaleinv._infer import units_report
from scaleinv._version import __version__
from scaleinv._audit import audit_saved
from scaleinv.known_optimizers import UNITS
from scaleinv._hyperparameters import values_of

CHANGES = {  # what makes the change, and an example of its value
    "loss_times": (changes.loss_times, "8"),
    "sum_over": (changes.sum_over, "512"),
    "lora_alpha": (changes.lora_alpha, "16,64"),
    "gain": (changes.gain, "1/sqrt(512)"),
    "start_times": (changes.start_times, "10"),
}


def main(arguments=None):
    """Run a command, and return its exit status: 0 for a report, whatever its verdict, 2 where the command is wrong.

    ``arguments`` are the words after ``python -m scaleinv``, by default those of ``sys.argv``.  SystemExit is raised
    where argparse does: after ``--help``, and for a missing argument or an unknown command.
    """
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    prog = "python -m scaleinv"
    usages = {
        "units": f"{prog} units OPTIMIZER [--HYPERPARAMETER VALUE ...]",
        "convert": f"{prog} convert OPTIMIZER [--HYPERPARAMETER VALUE ...] --CHANGE VALUE",
        "audit": f"{prog} audit MODEL.pt OPTIMIZER.pt --optimizer OPTIMIZER [--infer]",
    }
    all_of_them = "\n       ".join(usages.values())
    parser = argparse.ArgumentParser(prog=prog, usage=all_of_them, description=__doc__, **layout)
    parser.add_argument("--version", action="version", version=f"scaleinv {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{units,convert,audit}")
    described = {name: {"prog": prog, "usage": usage, "description": __doc__} for name, usage in usages.items()}
    for name, does in (("units", "an optimizer's units, measured"), ("convert", "its settings after a change")):
        command = commands.add_parser(name, help=does, **described[name], **layout)
        command.add_argument("optimizer", metavar="OPTIMIZER", help="package.module.Name of a class, or of a function")
    saved = commands.add_parser("audit", help="a saved training, audited", **described["audit"], **layout)
    saved.add_argument("model", metavar="MODEL.pt", help="a file with model.state_dict()")
    saved.add_argument("state", metavar="OPTIMIZER.pt", help="a file with optimizer.state_dict()")
    saved.add_argument("--optimizer", required=True, metavar="OPTIMIZER", help="package.module.Name of its class")
    saved.add_argument("--infer", action="store_true", help="measure the units of an optimizer that are not known")
    given, rest = parser.parse_known_args(arguments)
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a third party prints is no part of the report
            report = {"units": _units, "convert": _converted, "audit": _audited}[given.command](given, rest)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"{parser.prog} {given.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    Console().print(report)
    return 0


def _units(given, rest):
    return units_report(measured(given.optimizer, hyperparameters_of(rest)))


def _converted(given, rest):
    hyperparameters = hyperparameters_of(rest)
    named = {name: hyperparameters.pop(name) for name in list(hyperparameters) if name in CHANGES}
    options = {name: f"--{name.replace('_', '-')} {example}" for name, (_, example) in CHANGES.items()}
    if len(named) != 1:
        raise ValueError(f"{len(named) or 'no'} changes are given; give one, as in {', '.join(options.values())}")
    [(name, value)] = named.items()
    values = [_number(x) for x in (value if isinstance(value, tuple) else (value,))]
    try:
        change = CHANGES[name][0](*values)
    except TypeError as error:
        raise TypeError(f"{name}={value!r} is no such change; give one as in {options[name]}") from error
    optimizer = imported(given.optimizer)
    known = optimizer if optimizer in UNITS else measured(given.optimizer, hyperparameters)
    return convert_report(known, hyperparameters, change)


def _number(value):
    """"1/sqrt(512)" or "1/√512" as a number; another value as it is."""
    root = re.fullmatch(r"1/(?:sqrt\(([1-9]\d*)\)|√([1-9]\d*))", str(value))
    return int(root[1] or root[2]) ** -0.5 if root else value


def _audited(given, rest):
    if rest:
        raise ValueError(f"{' '.join(rest)!r} is not understood; give MODEL.pt OPTIMIZER.pt --optimizer OPTIMIZER")
    optimizer_class = imported(given.optimizer)
    if not isinstance(optimizer_class, type):
        raise TypeError(f"--optimizer {given.optimizer} is no class; give one such as torch.optim.AdamW")
    files = (loaded(path) for path in (given.model, given.state))
    return audit_saved(*files, optimizer_class, units="infer" if given.infer else None)


def loaded(path):
    """What ``torch.save`` saved in a file, tensors and plain data only, as far as it is looked at.  ValueError for
    another file."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except OSError:
        raise
    except Exception as error:  # UnpicklingError, RuntimeError, ...
        said = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(f"{path}: cannot be loaded as tensors and plain data ({said}); save state_dicts") from error


def measured(path, hyperparameters):
    """``infer_units`` of what ``package.module.Name`` names; ``Name`` alone is one of torch.optim's.

    Raises:
        ImportError, TypeError: where nothing of that name can be imported, or what can be is no optimizer.
        ValueError: for values that are missing, not finite, or such that the optimizer cannot be run with them.
    """
    factory = imported(path)
    for name, default in values_of(factory, {})[1].items():
        if hyperparameters.get(name) is True and isinstance(default, float):
            raise ValueError(f"--{name} has no value; give one, as in --{name} {default:g}")
    try:
        return infer_units(factory, hyperparameters)
    except ValueError as error:  # it repeats all values, and may have a reason for each kind of parameters
        given = ", ".join(f"{name}={value!r}" for name, value in hyperparameters.items()) or "its defaults"
        said = re.sub(r"\{'.*?\}: ", lambda _: f"{given}: ", str(error).replace(f"factory={factory!r}", path), count=1)
        way_out = "give what it takes as --name value, or name a function of yours that makes the optimizer"
        raise ValueError(f"{textwrap.shorten(said, 400, placeholder=' ...')}; {way_out}") from error


def imported(path):
    """What ``package.module.Name`` names: an optimizer class or a function; ``Name`` alone is one of torch.optim's.

    Raises ImportError or TypeError where nothing of that name can be imported, or what can be is no optimizer.
    """
    module, _, name = path.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module or "torch.optim"), name)
    except Exception as error:  # whatever a module of the user's may raise
        raise ImportError(f"{path}: {type(error).__name__}: {error}; it has to be package.module.Name") from error
    if not callable(factory) or isinstance(factory, type) and not hasattr(factory, "step"):
        raise TypeError(f"{path} is no optimizer: it has no step(); give one such as torch.optim.AdamW")
    return factory


def hyperparameters_of(words):
    """``--lr 1e-3 --betas=0.9,0.95 --nesterov`` as a dict: hyphens in names count as underscores, a name without a
    value is True, and a value that is no Python literal a string.  ValueError for a value that follows no name."""
    hyperparameters, name = {}, None
    for word in [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]:
        if word.startswith("--"):
            hyperparameters[name := word[2:].replace("-", "_")] = True
        elif name is None:
            raise ValueError(f"{word!r} follows no name; give --name value, and tuples with commas: --betas 0.9,0.95")
        else:
            hyperparameters[name], name = _literal(word), None
    return hyperparameters


def _literal(word):
    for read in (ast.literal_eval, float):  # nan and inf are no literals
        with contextlib.suppress(SyntaxError, ValueError):
            return read(word)
    return word


def run():
    """The console script: ``main``, with superscripts wherever the output goes."""
    sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main())
