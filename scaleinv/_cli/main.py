"""Words become a command, and its outcome a report and an exit status."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from scaleinv._cli.outcome import Outcome
from scaleinv._version import __version__

DESCRIPTION = """\
Measure an optimizer's units or symmetries, convert its settings after a change or to another width, audit a saved
training, or compare two gradients.

{prog} units torch.optim.AdamW --lr 1e-3 --betas 0.9,0.95
{prog} units mypackage.MyOptimizer --lr 1e-3 --nesterov --expect lr=W --expect eps=L/W
{prog} symmetry torch.optim.Muon --expect scales=tensor --expect rotations=rows,columns
{prog} convert torch.optim.AdamW --lr 1e-3 --loss-times 8
{prog} convert torch.optim.AdamW --lr 1e-3 --lora-alpha 16,64
{prog} width mypackage:make_model --base 64 --width 512 --optimizer torch.optim.AdamW --lr 1e-3
{prog} width mypackage:make_training --check 64,128,256 --fail
{prog} audit MODEL.pt OPTIMIZER.pt --optimizer torch.optim.AdamW
{prog} audit checkpoint-500 --optimizer torch.optim.AdamW --model mypackage:make_model
{prog} gradients A.pt B.pt --optimizer torch.optim.AdamW

convert takes one of these changes:
  --loss-times 8        the loss is multiplied by 8
  --sum-over 512        the loss is summed over a batch of 512 instead of averaged
  --lora-alpha 16,64    LoRA's α changes from 16 to 64, at the same rank
  --gain 1/sqrt(512)    these weights now have a gain, of 1/√512 or of any number
  --init-times 10       the module is initialised ten times as large
  --decay-independent   the new optimizer takes weight_decay·w a step, in place of lr·weight_decay·w
  --decay-times-lr      the other way
or, not exactly, another optimizer whose steps are as large under noise, with the same lr·weight_decay:
  --to torch.optim.Muon --shape 512,2048 --to-momentum 0.95

Hyperparameters are numbers, tuples with commas, strings, or flags. The others have the optimizer's defaults.

width calls a function of the width. For settings it returns the model; --lr and others are those at the base. For
--check it returns the model, its optimizer, and a function that returns the loss on one batch.

audit reads a file with model.state_dict() and one with optimizer.state_dict(), one file with both (Lightning's .ckpt,
or your own), or a folder of the Trainer: tensors and plain data only. Findings that are meant are muted with --mute,
or in the project's pyproject.toml, by kind, size and names of parameters:
  [tool.scaleinv]
  mute = ["much_decay:*.bias", "moves_unlike_the_rest<20"]
  fail-on = "fault"

gradients reads two files, each of a dict from names to the gradients of one step, or from loss terms to such dicts:
  torch.save({{name: p.grad for name, p in model.named_parameters()}}, "A.pt")
or package:function in place of a file, for a function that runs a step and returns the model or such a dict.
"""
USAGES = {
    "units": "{prog} units OPTIMIZER [--HYPERPARAMETER VALUE ...] [--expect NAME=UNIT ...]",
    "symmetry": "{prog} symmetry OPTIMIZER [--HYPERPARAMETER VALUE ...] [--expect NAME=VALUE ...] [--json]",
    "convert": "{prog} convert OPTIMIZER [--HYPERPARAMETER VALUE ...] --CHANGE VALUE",
    "width": "{prog} width PACKAGE:FUNCTION (--base N --width N --optimizer OPTIMIZER [--HYPERPARAMETER VALUE ...] | "
    "--check N,N,N) [OPTION ...]",
    "audit": "{prog} audit (MODEL.pt OPTIMIZER.pt | CHECKPOINT) --optimizer OPTIMIZER [OPTION ...]",
    "gradients": "{prog} gradients A.pt B.pt [OPTION ...]",
}
HELP = {
    "units": "measure an optimizer's units",
    "symmetry": "measure which factors of the gradient its update does not see, and which rotations it follows",
    "convert": "convert an optimizer's settings after a change",
    "width": "settings of each layer at another width, and a check whether they hold",
    "audit": "audit a saved training",
    "gradients": "compare two saved gradients",
}


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
        0 after a report; 1 after that of an audit with a finding that ``--fail-on`` names, of other gradients with
        ``--fail``, or of a measurement that is not what ``--expect`` says; 2 if the command is wrong.

    Raises:
        SystemExit: after ``--help`` and ``--version``, and for a missing argument or an unknown command.

    >>> from scaleinv._cli import main
    >>> main(["convert", "SGD", "--lr", "0.5", "--loss-times", "8"])  # doctest: +ELLIPSIS
    For all parameters: the loss is 8 times as large, and so are its gradients.
    ...
    0
    """
    parser = _parser(prog)
    words = sys.argv[1:] if arguments is None else arguments
    options, rest = parser.parse_known_args(words)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what third-party code prints is not part of the report
            outcome = _outcome(options, words, rest)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"{prog} {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    outcome.print()
    return outcome.status


def _parser(prog: str) -> argparse.ArgumentParser:
    layout: dict[str, Any] = {
        "description": DESCRIPTION.format(prog=prog),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    usages = {command: usage.format(prog=prog) for command, usage in USAGES.items()}
    parser = argparse.ArgumentParser(prog=prog, usage="\n       ".join(usages.values()), **layout)
    parser.add_argument("--version", action="version", version=f"scaleinv {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar=f"{{{','.join(HELP)}}}")
    commands = {
        command: subparsers.add_parser(command, help=text, prog=prog, usage=usages[command], **layout)
        for command, text in HELP.items()
    }
    for command in ("units", "symmetry", "convert"):
        text = "package.module.Name of a class, or of a function that makes an optimizer"
        commands[command].add_argument("optimizer", metavar="OPTIMIZER", help=text)
    for command, what in {"units": "NAME=UNIT", "symmetry": "scales=WORD or rotations=WORD"}.items():
        text = "exit with 1 if another one is measured; repeat it for each"
        commands[command].add_argument("--expect", metavar=what, action="append", default=[], help=text)
    commands["symmetry"].add_argument("--json", action="store_true", help="print one JSON document instead of a report")
    _add_width_arguments(commands["width"])
    _add_audit_arguments(commands["audit"])
    _add_gradients_arguments(commands["gradients"])
    return parser


def _add_width_arguments(width: argparse.ArgumentParser) -> None:
    width.add_argument("factory", metavar="PACKAGE:FUNCTION", help="a function of the width that makes the model")
    width.add_argument("--base", metavar="N", type=int, help="the width at which the settings were found")
    width.add_argument("--width", metavar="N", type=int, help="the width to carry them to")
    width.add_argument("--optimizer", metavar="OPTIMIZER", help="package.module.Name of its class")
    width.add_argument("--start", default="", metavar="START", help="standard or μP, where the numbers do not tell")
    text = "of a parameter that does not tell: input, hidden, output, vector or fixed; repeat it for each"
    width.add_argument("--kind", metavar="NAME=KIND", action="append", default=[], help=text)
    width.add_argument("--check", metavar="N,N,N", help="train at these widths and compare how far outputs move")
    width.add_argument("--steps", metavar="N", type=int, default=3, help="of training, for --check")
    width.add_argument("--json", action="store_true", help="print one JSON document instead of a report")
    width.add_argument("--fail", action="store_true", help="exit with 1 unless --check finds every module level")


def _add_audit_arguments(audit: argparse.ArgumentParser) -> None:
    audit.add_argument(
        "paths", nargs="+", metavar="PATH", help="the model's file and the optimizer's, or one file or folder with both"
    )
    options = {
        "--optimizer": ("OPTIMIZER", "package.module.Name of its class; once for each, where several train the model"),
        "--model": ("PACKAGE:FUNCTION", "what makes the model, or the model and its optimizer, to know their order"),
        "--mute": (
            "KIND[<SIZE][:PATTERN]",
            "count findings of a kind, below a size, about such parameters, instead of showing them",
        ),
    }
    for name, (metavar, text) in options.items():
        audit.add_argument(name, metavar=metavar, help=text, action="store" if name == "--model" else "append")
    audit.add_argument("--infer", action="store_true", help="measure the optimizer's units if they are not known")
    audit.add_argument("--json", action="store_true", help="print one JSON document instead of a report")
    audit.add_argument("--all", action="store_true", help="a line for each parameter, also of identical blocks")
    audit.add_argument(
        "--baseline", metavar="FILE", help="show what has changed since an audit that --json or Audit.save has written"
    )
    audit.add_argument(
        "--fail-on",
        choices=["fault", "warning"],
        help="exit with 1 after a finding, with --baseline a new one, of this severity or a higher one",
    )


def _add_gradients_arguments(gradients: argparse.ArgumentParser) -> None:
    for name in ("a", "b"):
        text = f"a file with the gradients of step {name}, by torch.save or safetensors; or package:function"
        gradients.add_argument(name, metavar=f"{name.upper()}.pt", help=text)
    gradients.add_argument("--optimizer", metavar="OPTIMIZER", help="package.module.Name: what it sees of a factor")
    gradients.add_argument(
        "--tolerance", metavar="SHARE", type=float, help="by which a gradient may differ from a multiple of the other"
    )
    gradients.add_argument("--json", action="store_true", help="print one JSON document instead of a report")
    gradients.add_argument("--fail", action="store_true", help="exit with 1 unless the gradients agree")


def _outcome(options: argparse.Namespace, words: Sequence[str], rest: Sequence[str]) -> Outcome:
    if options.command == "audit":
        from scaleinv._cli.audit_command import audit_outcome

        return audit_outcome(options, rest)
    if options.command == "width":
        from scaleinv._cli.width_command import width_outcome

        return width_outcome(options, rest)
    if options.command == "gradients":
        from scaleinv._cli.gradients_command import gradients_outcome

        return gradients_outcome(options, rest)
    if words[words.index(options.command) + 1].startswith("-"):
        raise ValueError(f"name the optimizer first, as in {options.command} torch.optim.AdamW --lr 1e-3")
    if options.command == "units":
        from scaleinv._cli.units_command import units_outcome

        return units_outcome(options.optimizer, rest, options.expect)
    if options.command == "symmetry":
        from scaleinv._cli.symmetry_command import symmetry_outcome

        return symmetry_outcome(options.optimizer, rest, options.expect, options.json)
    from scaleinv._cli.convert_command import convert_outcome

    return convert_outcome(options.optimizer, rest)
