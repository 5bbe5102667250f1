"""The command line: measured units, converted settings, and the audit of a saved training.

Nothing of torch is imported before a command runs, so that ``--help`` and ``--version`` are quick.
"""

import argparse
import ast
import contextlib
import importlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scaleinv._version import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

    from scaleinv._infer import InferredUnits
    from scaleinv.changes import Change

DESCRIPTION = """\
Measure an optimizer's units, convert its settings after a change, or audit a saved training.

{prog} units torch.optim.AdamW --lr 1e-3 --betas 0.9,0.95
{prog} units mypackage.MyOptimizer --lr 1e-3 --nesterov
{prog} convert torch.optim.AdamW --lr 1e-3 --loss-times 8
{prog} convert torch.optim.AdamW --lr 1e-3 --lora-alpha 16,64
{prog} audit MODEL.pt OPTIMIZER.pt --optimizer torch.optim.AdamW

convert takes one of these changes:
  --loss-times 8        the loss is multiplied by 8
  --sum-over 512        the loss is summed over a batch of 512 instead of averaged
  --lora-alpha 16,64    LoRA's α changes from 16 to 64, at the same rank
  --gain 1/sqrt(512)    these weights now have a gain, of 1/√512 or of any number
  --init-times 10       the module is initialised ten times as large

audit reads files with model.state_dict() and optimizer.state_dict(): tensors and plain data only.

Hyperparameters are numbers, tuples with commas, strings, or flags. The others have the optimizer's defaults.
"""
USAGES = {
    "units": "{prog} units OPTIMIZER [--HYPERPARAMETER VALUE ...]",
    "convert": "{prog} convert OPTIMIZER [--HYPERPARAMETER VALUE ...] --CHANGE VALUE",
    "audit": "{prog} audit MODEL.pt OPTIMIZER.pt --optimizer OPTIMIZER [--infer]",
}
HELP = {
    "units": "measure an optimizer's units",
    "convert": "convert an optimizer's settings after a change",
    "audit": "audit a saved training",
}
CHANGES = {  # function of scaleinv.changes -> an example of its option
    "loss_times": "--loss-times 8",
    "sum_over": "--sum-over 512",
    "lora_alpha": "--lora-alpha 16,64",
    "gain": "--gain 1/sqrt(512)",
    "init_times": "--init-times 10",
}
OLD_NAMES = {"start_times": "init_times"}


def run(prog: str = "scaleinv") -> None:
    """Run the command in ``sys.argv`` and exit.

    Output is UTF-8, because units have superscripts.  Optimizers are found in the current folder too.
    """
    sys.path.append(os.getcwd())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(main(prog=prog))


def main(arguments: Sequence[str] | None = None, *, prog: str = "scaleinv") -> int:
    """Run a command and return its exit status.

    Args:
        arguments: the words after the program's name, by default those of ``sys.argv``.
        prog: what the program is called in usage, help and errors.

    Returns:
        0 after a report, whatever its verdict; 2 if the command is wrong.

    Raises:
        SystemExit: after ``--help`` and ``--version``, and for a missing argument or an unknown command.

    >>> from scaleinv._cli import main
    >>> main(["convert", "SGD", "--lr", "0.5", "--loss-times", "8"])  # doctest: +ELLIPSIS
    For all parameters: the loss is 8 times as large, and so are its gradients.
    ...
    0
    """
    parser = _parser(prog)
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what third-party code prints is not part of the report
            report = _report(options, rest)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"{prog} {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    from rich.console import Console

    Console().print(report)
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    layout: dict[str, Any] = {
        "description": DESCRIPTION.format(prog=prog),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    usages = {command: usage.format(prog=prog) for command, usage in USAGES.items()}
    parser = argparse.ArgumentParser(prog=prog, usage="\n       ".join(usages.values()), **layout)
    parser.add_argument("--version", action="version", version=f"scaleinv {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="{units,convert,audit}")
    commands = {
        command: subparsers.add_parser(command, help=text, prog=prog, usage=usages[command], **layout)
        for command, text in HELP.items()
    }
    for command in ("units", "convert"):
        text = "package.module.Name of a class, or of a function that makes an optimizer"
        commands[command].add_argument("optimizer", metavar="OPTIMIZER", help=text)
    audit = commands["audit"]
    audit.add_argument("model", metavar="MODEL.pt", help="a file with model.state_dict()")
    audit.add_argument("state", metavar="OPTIMIZER.pt", help="a file with optimizer.state_dict()")
    audit.add_argument("--optimizer", required=True, metavar="OPTIMIZER", help="package.module.Name of its class")
    audit.add_argument("--infer", action="store_true", help="measure the optimizer's units if they are not known")
    return parser


def _report(options: argparse.Namespace, rest: Sequence[str]) -> "RenderableType":
    reports = {"units": _units_report, "convert": _convert_report, "audit": _audit_report}
    return reports[options.command](options, rest)


def _units_report(options: argparse.Namespace, rest: Sequence[str]) -> "RenderableType":
    from scaleinv._infer import units_report

    return units_report(measure(options.optimizer, parse_hyperparameters(rest)))


def _convert_report(options: argparse.Namespace, rest: Sequence[str]) -> "RenderableType":
    from scaleinv._convert import convert_report
    from scaleinv.known_optimizers import UNITS

    hyperparameters, change = _split_change(parse_hyperparameters(rest))
    optimizer = import_optimizer(options.optimizer)
    known = optimizer if optimizer in UNITS else measure(options.optimizer, hyperparameters)
    return convert_report(known, hyperparameters, change)


def _split_change(options: dict[str, Any]) -> tuple[dict[str, Any], "Change"]:
    """The hyperparameters among the options, and the one change."""
    renamed = {OLD_NAMES.get(name, name): value for name, value in options.items()}
    names = [name for name in renamed if name in CHANGES]
    if len(names) != 1:
        raise ValueError(f"{len(names) or 'no'} changes are given; give one, as in {', '.join(CHANGES.values())}")
    return {name: value for name, value in renamed.items() if name not in names}, _change(names[0], renamed[names[0]])


def _change(name: str, value: Any) -> "Change":
    from scaleinv import changes

    numbers = [_number(entry) for entry in (value if isinstance(value, tuple) else (value,))]
    try:
        return getattr(changes, name)(*numbers)
    except TypeError as error:
        raise TypeError(f"{name}={value!r} is not such a change; give one as in {CHANGES[name]}") from error


def _number(value: Any) -> Any:
    """A number for "1/sqrt(512)" or "1/√512"; other values as they are."""
    root = re.fullmatch(r"1/(?:sqrt\(([1-9]\d*)\)|√([1-9]\d*))", str(value))
    return int(root[1] or root[2]) ** -0.5 if root else value


def _audit_report(options: argparse.Namespace, rest: Sequence[str]) -> "RenderableType":
    from scaleinv._audit import audit_saved

    if rest:
        raise ValueError(f"{' '.join(rest)!r} is not understood; give MODEL.pt OPTIMIZER.pt --optimizer OPTIMIZER")
    optimizer_class = import_optimizer(options.optimizer)
    if not isinstance(optimizer_class, type):
        raise TypeError(f"--optimizer {options.optimizer} is not a class; give one such as torch.optim.AdamW")
    model, state = (load_plain(path) for path in (options.model, options.state))
    return audit_saved(model, state, optimizer_class, units="infer" if options.infer else None)


def load_plain(path: str) -> Any:
    """Load a file of tensors and plain data.  Code in the file does not run, and a tensor is read when it is used.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds anything else.
    """
    import torch

    try:
        return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except OSError:
        raise
    except Exception as error:  # UnpicklingError, RuntimeError, ...
        other = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it contains {other[1]}" if other else textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ValueError(
            f"{path} cannot be loaded as tensors and plain data: {reason}; save state_dicts with torch.save"
        ) from error


def measure(path: str, hyperparameters: dict[str, Any]) -> "InferredUnits":
    """Measure the units of the optimizer that a path names.

    Args:
        path: ``package.module.Name``; ``Name`` alone is looked up in ``torch.optim``.
        hyperparameters: name → value.

    Raises:
        ImportError: if nothing of that name can be imported.
        TypeError: if it is not an optimizer.
        ValueError: if a value is missing or not finite, or the optimizer cannot be run with the values.
    """
    from scaleinv._hyperparameters import values_of
    from scaleinv._infer import infer_units

    factory = import_optimizer(path)
    for name, default in values_of(factory, {})[1].items():
        if hyperparameters.get(name) is True and isinstance(default, float):
            raise ValueError(f"--{name} has no value; give one, as in --{name} {default:g}")
    try:
        return infer_units(factory, hyperparameters)
    except ValueError as error:
        raise ValueError(_shortened(str(error).replace(f"factory={factory!r}", path), hyperparameters)) from error


def _shortened(message: str, hyperparameters: dict[str, Any]) -> str:
    """An error of ``infer_units``, which repeats all values and may have a reason for each kind of parameters."""
    values = ", ".join(f"{name}={value!r}" for name, value in hyperparameters.items()) or "its defaults"
    message = re.sub(r"\{'.*?\}: ", lambda _: f"{values}: ", message, count=1)
    advice = "pass what it needs as --name value, or name a function of yours that makes the optimizer"
    return f"{textwrap.shorten(message, 400, placeholder=' ...')}; {advice}"


def import_optimizer(path: str) -> Any:
    """Import the optimizer class, or the function that makes an optimizer, that a path names.

    Args:
        path: ``package.module.Name``; ``Name`` alone is looked up in ``torch.optim``.

    Raises:
        ImportError: if nothing of that name can be imported.
        TypeError: if it is not an optimizer.

    >>> from scaleinv._cli import import_optimizer
    >>> import_optimizer("AdamW") is import_optimizer("torch.optim.AdamW")
    True
    """
    module, _, name = path.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module or "torch.optim"), name)
    except Exception as error:  # whatever a user's module may raise
        raise ImportError(f"{path}: {type(error).__name__}: {error}; it has to be package.module.Name") from error
    if not callable(factory) or isinstance(factory, type) and not hasattr(factory, "step"):
        raise TypeError(f"{path} is not an optimizer: it has no step(); give one such as torch.optim.AdamW")
    return factory


def parse_hyperparameters(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--lr 1e-3 --betas=0.9,0.95 --nesterov`` as a dict.

    Hyphens in names become underscores, a name without a value is True, and a value that is not a Python literal is a
    string.

    Raises:
        ValueError: if a value follows no name.

    >>> from scaleinv._cli import parse_hyperparameters
    >>> parse_hyperparameters(["--lr", "1e-3", "--betas=0.9,0.95", "--nesterov"])
    {'lr': 0.001, 'betas': (0.9, 0.95), 'nesterov': True}
    """
    hyperparameters: dict[str, Any] = {}
    name = None
    for word in _split_at_equals(words):
        if word.startswith("--"):
            hyperparameters[name := word[2:].replace("-", "_")] = True
        elif name is None:
            raise ValueError(f"{word!r} follows no name; give --name value, and tuples with commas: --betas 0.9,0.95")
        else:
            hyperparameters[name], name = _literal(word), None
    return hyperparameters


def _split_at_equals(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from word.split("=", 1) if word.startswith("--") else [word]


def _literal(word: str) -> Any:
    for read in (ast.literal_eval, float):  # nan and inf are not literals
        with contextlib.suppress(SyntaxError, ValueError):
            return read(word)
    return word
