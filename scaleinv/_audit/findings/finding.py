"""A finding: what is unusual, how grave it is, and what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from scaleinv._audit.measurements import Measurements


class Severity(IntEnum):
    """How grave a finding is; findings of higher severity come first.

    >>> from scaleinv._audit.findings import Severity
    >>> Severity.FAULT > Severity.WARNING, Severity.FAULT.word
    (True, 'fault')
    """

    REMARK = 1  # unusual, and often meant
    WARNING = 2  # the training works, and probably less well than it could
    FAULT = 3  # the training, or a setting in it, does not do what it is meant to do

    @property
    def word(self) -> str:
        """As a report prints it."""
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """What is unusual, in a sentence.

    Attributes:
        severity: how grave it is, a ``Severity``: 3 for a fault, 2 for a warning, 1 for a remark.
        text: the sentence.
        parameters: the names of the parameters that it is about.
        size: how far from usual; findings of one severity are ranked by it.
        kind: one of ``KINDS``.
        remedy: what to do about it, a sentence; "" where there is nothing to do.

    >>> from scaleinv._audit.findings import Finding, Severity
    >>> print(Finding(Severity.REMARK, "the gradient of bias is zero.", ("bias",)))
    the gradient of bias is zero.
    """

    severity: Severity
    text: str
    parameters: tuple[str, ...] = ()
    size: float = 0.0
    kind: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return self.text


class Observation(NamedTuple):
    """What a look sees: a ``Finding`` but for its kind."""

    severity: Severity
    text: str
    parameters: tuple[str, ...] = ()
    size: float = 0.0
    remedy: str = ""


Look: TypeAlias = Callable[[Measurements], Iterator[Observation]]
