"""What the audit says of the set-ups: alarms in healthy ones, findings in faulty ones."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from scaleinv import audit
from scaleinv._audit.findings import Finding, Severity
from tests.library.zoo.training import Training

REMARK, WARNING, FAULT = 1, 2, 3
HEALTHY: dict[str, "Healthy"] = {}
FAULTS: dict[str, "Fault"] = {}


@dataclass(frozen=True)
class Healthy:
    """A set-up as it should be.

    Attributes:
        make: → its ``Training``, seeded; its docstring says what it is.
        true_alarms: kind of finding → why it is true here.
    """

    make: Callable[[], Training]
    true_alarms: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self):
        return self.make.__name__


@dataclass(frozen=True)
class Fault:
    """A set-up with a mistake.

    Attributes:
        make: → its ``Training``, seeded; its docstring says what is wrong, and who reported it.
        kind: of the finding that names it.
        words: a pattern that its sentence, or the remedy beside it, matches.
        parameters: a pattern; the finding names all parameters whose names match it, and no others.
        severity: of the finding, at least.
        stages: at one of which it is found.
        also: a pattern of parameters that it may name besides.
    """

    make: Callable[[], Training]
    kind: str
    words: str
    parameters: str | None
    severity: int
    stages: Sequence[str]
    also: str | None = None

    @property
    def name(self):
        return self.make.__name__


def healthy(make=None, *, true_alarms=()):
    """Enter a function that makes a ``Training`` into the zoo."""

    def enter(make):
        assert make.__doc__ and make.__name__ not in HEALTHY
        HEALTHY[make.__name__] = Healthy(make, dict(true_alarms))
        return make

    return enter(make) if make else enter


def fault(*, kind, words, parameters=None, severity=WARNING, stages=("after 10 steps, backward",), also=None):
    """Enter a function that makes a ``Training`` with a mistake."""

    def enter(make):
        assert make.__doc__ and make.__name__ not in FAULTS
        FAULTS[make.__name__] = Fault(make, kind, words, parameters, severity, stages, also)
        return make

    return enter


def made(setup):
    """The ``Training`` of a set-up, the same each time."""
    torch.manual_seed(0)
    return setup.make()


def audited(training):
    """The audit, with everything that a training script could tell it."""
    known = inspect.signature(audit).parameters
    options = {"max_norm": training.max_norm}
    if training.scaler and "scaler" in known:
        options["scaler"] = training.scaler
    if training.planned and "steps" in known:
        options["steps"] = training.planned
    return audit(training.model, training.optimizers, **options)


def alarms_of(setup):
    """Train a healthy set-up, and list (stage, finding) of each warning and each fault; and the number of stages."""
    training = made(setup)
    alarms, stages = [], 0
    for stage in training.stages():
        stages += 1
        alarms += [(stage, finding) for finding in audited(training).findings if finding.severity >= WARNING]
    return alarms, stages, training.progress()


def untrue(setup, alarms):
    """The alarms without those that are true."""
    return [(stage, finding) for stage, finding in alarms if finding.kind not in setup.true_alarms]


def findings_of(setup):
    """Train a faulty set-up as far as its last stage: its model, and stage → the findings there."""
    training = made(setup)
    findings = {}
    for stage in training.stages():
        if stage in setup.stages:
            findings[stage] = audited(training).findings
        if stage == setup.stages[-1]:
            break
    assert list(findings) == list(setup.stages), (setup.name, list(findings))
    return training.model, findings


def naming(setup):
    """The finding that names the fault: among the first two at a stage, with its cause, its parameters, its severity.

    An audit that refuses names it too, if its error says so.
    """
    try:
        model, findings = findings_of(setup)
    except ValueError as error:
        return refusal(error) if re.search(setup.words, str(error)) else None
    candidates = [finding for stage in findings.values() for finding in stage[:2]]
    return next((finding for finding in candidates if not misses(setup, model, finding)), None)


def refusal(error):
    """An error of the audit, in the form of a finding."""
    return Finding(Severity.FAULT, str(error), kind="refused")


def misses(setup, model, finding):
    """What a finding lacks to name the fault; empty if it does."""
    sentence = f"{finding.text} {getattr(finding, 'remedy', '')}"
    lacks = []
    if not re.fullmatch(setup.kind, finding.kind):
        lacks.append(f"kind {finding.kind}, not {setup.kind}")
    if not re.search(setup.words, sentence, re.IGNORECASE):
        lacks.append(f"words {setup.words!r}")
    if finding.severity < setup.severity:
        lacks.append(f"severity {int(finding.severity)}, not {setup.severity}")
    if setup.parameters is not None:
        lacks += _misnamed(setup, model, finding)
    return lacks


def _misnamed(setup, model, finding):
    """What of the parameters a finding leaves out or names wrongly."""
    named = set(finding.parameters)
    meant = {name for name, _ in model.named_parameters() if re.fullmatch(setup.parameters, name)}
    assert meant, (setup.name, setup.parameters)
    wrong = {name for name in named - meant if not (setup.also and re.fullmatch(setup.also, name))}
    if meant <= named and not wrong:
        return []
    return [f"{len(named & meant)} of {len(meant)} parameters, {len(wrong)} others"]
