"""``audit``: of a saved training."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scaleinv._audit import (
    Audit,
    Outline,
    audit_saved,
    build_outline,
    check_mutes,
    compare,
    fails,
    fitting_classes,
    outline_of_transformers,
    project_settings,
    read_checkpoint,
)
from scaleinv._cli.outcome import Outcome
from scaleinv._cli.words import import_function, import_optimizer
from scaleinv._report import as_json


def audit_outcome(options: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    """The audit that the options ask for, as a report or as JSON."""
    if rest or len(options.paths) > 2:
        unknown = rest or options.paths[2:]
        raise ValueError(f"{' '.join(unknown)!r} is not understood; give MODEL.pt OPTIMIZER.pt --optimizer OPTIMIZER")
    settings = project_settings()
    mute = settings.mute if options.mute is None else check_mutes(options.mute, "--mute")
    classes = [_optimizer_class(path) for path in options.optimizer or ()]
    paths = list(map(Path, options.paths))
    model, optimizers = read_checkpoint(paths)
    outline = _outline(paths, options.model)
    if not classes and outline is not None:
        classes = [type(each) for each in outline.optimizers]
    if len(classes) != len(optimizers):
        raise ValueError(_about_classes(optimizers, len(classes)))
    audit = audit_saved(
        model, list(optimizers.values()), classes, outline=outline, units="infer" if options.infer else None
    )
    audit = replace(audit, mute=mute)
    fail_on = options.fail_on or settings.fail_on
    if options.baseline is None:
        report, status = audit.report(folded=not options.all), fails(audit.findings, fail_on)
    else:
        comparison = compare(replace(Audit.load(options.baseline), mute=mute), audit)
        report, status = comparison.report(), fails(comparison.new, fail_on)
    text = as_json(audit.as_dict()) if options.json else ""
    return Outcome(text or report, int(status))


def _optimizer_class(path: str) -> type[torch.optim.Optimizer]:
    optimizer_class = import_optimizer(path)
    if not isinstance(optimizer_class, type):
        raise TypeError(f"--optimizer {path} is not a class; give one such as torch.optim.AdamW")
    return optimizer_class


def _outline(paths: Sequence[Path], function: str | None) -> Outline | None:
    """By code that the user names; else by that of transformers, where the model is in a folder of its Trainer."""
    if function is not None:
        return build_outline(import_function(function), f"--model {function}")
    return outline_of_transformers(paths[0]) if paths[0].is_dir() else None


def _about_classes(optimizers: Mapping[str, Mapping[str, Any]], classes: int) -> str:
    fitting = [" or ".join(fitting_classes(each)) or "no class of torch.optim" for each in optimizers.values()]
    if len(optimizers) == 1 and not classes:
        return f"--optimizer is missing; name the class that was saved. The state fits {fitting[0]}"
    entries = ", ".join(f"{name} ({each})" for name, each in zip(optimizers, fitting, strict=True))
    return (
        f"--optimizer: {classes} classes for {len(optimizers)} saved optimizers; repeat it for each, in the order "
        f"of the file: {entries}"
    )
