"""An audit as plain data, for JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._version import __version__


def document(audit: Measurements, findings: Sequence[Finding], muted: Sequence[Finding]) -> dict[str, Any]:
    """Numbers, findings and a summary as dicts, lists, strings, numbers and None.

    None stands where a number is not known or not finite.

    >>> from scaleinv._audit.document import document
    >>> from scaleinv._audit.measurements import Measurements
    >>> document(Measurements([]), [], [])["summary"]["gradient_norm"] is None
    True
    """
    trained = audit.trained
    summary = {
        "tensors": len(trained),
        "coordinates": sum(row.coordinates for row in trained),
        "optimizers": list(dict.fromkeys(row.optimizer for row in trained)),
        "gradient_norm": audit.gradient_norm,
        "max_norm": audit.max_norm,
        "clipped": audit.clipped,
        "other_tensors": audit.other_tensors,
        **{f"{each.word}s": sum(finding.severity == each for finding in findings) for each in reversed(Severity)},
        "muted": len(muted),
    }
    rows = [asdict(row) | {"unit": None if row.unit is None else str(row.unit)} for row in audit.rows]
    data = {
        "scaleinv": __version__,
        "summary": summary,
        "findings": list(map(_finding, findings)),
        "muted": list(map(_finding, muted)),
        "rows": rows,
    }
    return _plain(data)


def _finding(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"severity": finding.severity.word}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
