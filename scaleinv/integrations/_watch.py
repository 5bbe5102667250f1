"""What the callbacks share: when to audit, what to log, whom to warn, and when to stop."""

import warnings
from collections.abc import Collection
from typing import Any

from scaleinv._audit import FLAT_COLUMNS, Audit, audit, fails
from scaleinv._checks import check_count

_STOPS = None, "fault", "warning"
_KEPT = 100  # audits


class Watch:
    """Audits the first two steps of a run, and each ``every``-th.

    Attributes:
        audits: step → ``Audit``, the latest ``keep`` of them.

    >>> from scaleinv.integrations._watch import Watch
    >>> watch = Watch(every=100, stop=None, columns=("measured",), options={})
    >>> [step for step in range(500, 800) if watch.due(step)]
    [500, 501, 600, 700]
    """

    def __init__(self, *, every: int, stop: str | None, columns: Collection[str], options: dict[str, Any]) -> None:
        if stop not in _STOPS:
            raise ValueError(f"stop={stop!r} is not one of {', '.join(map(repr, _STOPS))}")
        if isinstance(columns, str):
            raise TypeError(f"columns={columns!r} is one name; pass a list of those that Audit.flat has")
        unknown = [column for column in columns if column not in FLAT_COLUMNS]
        if unknown:
            raise ValueError(f"columns has {unknown[0]!r}; Audit.flat has {', '.join(FLAT_COLUMNS)}")
        self._every, self._stop, self._columns = check_count("every", every), stop or "", (*columns,)
        self._options = options
        self._seen: set[tuple[str, str]] = set()  # findings that were shown
        self._first: int | None = None
        self.audits: dict[int, Audit] = {}

    def start(self) -> None:
        """Another run begins."""
        self._first = None

    def due(self, step: int) -> bool:
        """Whether to audit before the next step, when so many were taken."""
        if self._first is None:
            self._first = step
        return step - self._first < 2 or step % self._every == 0

    def look(
        self, step: int, model: Any, optimizer: Any, *, speaks: bool, **known: Any
    ) -> tuple[dict[str, float], bool]:
        """Audit a model; return numbers to log, and whether to stop.  Where that fails, the training goes on."""
        try:
            result = audit(model, optimizer, **known | self._options)
        except Exception as error:  # an audit does not end a training
            warnings.warn(f"step {step} is not audited: {error}", stacklevel=2)
            return {}, False
        self.audits[step] = result
        while len(self.audits) > _KEPT:
            del self.audits[next(iter(self.audits))]
        if speaks:
            self._warn(step, result)
        numbers = {name: value for name, value in result.flat().items() if self._is_logged(name)}
        return {f"audit/{name}": value for name, value in numbers.items()}, fails(result.findings, self._stop)

    def _is_logged(self, name: str) -> bool:
        return "/" not in name or name.partition("/")[0] in self._columns

    def _warn(self, step: int, result: Audit) -> None:
        """Each kind of fault or warning once for the parameter that it names first."""
        for finding in result.findings:
            key = finding.kind, (*finding.parameters, "")[0]
            if finding.severity > 1 and key not in self._seen:
                self._seen.add(key)
                remedy = f" {finding.remedy}" if finding.remedy else ""
                warnings.warn(f"step {step}: {finding.severity.word}: {finding.text}{remedy}", stacklevel=2)
