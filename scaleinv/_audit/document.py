"""An audit as plain data, for JSON: what a command prints, and what a file of ``baseline`` holds."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._version import __version__
from scaleinv.units import Unit

FORMAT = "scaleinv audit"


def document(audit: Measurements, findings: Sequence[Finding], muted: Sequence[Finding]) -> dict[str, Any]:
    """A summary, the findings and all numbers as dicts, lists, strings, numbers and None.

    None stands where a number is not known, a word where it is infinite: JSON has neither.

    >>> from scaleinv._audit.document import document
    >>> from scaleinv._audit.measurements import Measurements
    >>> content = document(Measurements([], max_norm=1.0), [], [])
    >>> content["max_norm"], content["gradient_norm"], content["summary"]["faults"]
    (1.0, None, 0)
    """
    trained = audit.trained
    summary = {
        "tensors": len(trained),
        "coordinates": sum(row.coordinates for row in trained),
        "optimizers": list(dict.fromkeys(row.optimizer for row in trained)),
        **{f"{each.word}s": sum(finding.severity == each for finding in findings) for each in reversed(Severity)},
        "muted": len(muted),
    }
    content = {"format": FORMAT, "version": 1, "scaleinv": __version__, "summary": summary}
    content |= {"findings": list(map(_plain, findings)), "muted": list(map(_plain, muted))}
    return content | _plain(audit) | {"rows": list(map(_plain, audit.rows))}


def _plain(record: Any) -> dict[str, Any]:
    """The fields that JSON can hold: numbers, words, and lists of them."""
    values = {field.name: _encoded(getattr(record, field.name)) for field in fields(record) if field.name != "rows"}
    return {name: value for name, value in values.items() if value is not MISSING}


def _encoded(value: Any) -> Any:
    """NaN is null, infinity and a severity are words, and a unit is its exponents."""
    if isinstance(value, Unit):
        return {"loss": str(value.loss), "weight": str(value.weight)}
    if isinstance(value, Severity):
        return value.word
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, tuple | list):
        entries = [_encoded(each) for each in value]
        return MISSING if MISSING in entries else entries
    return value if value is None or isinstance(value, str | bool | int | float) else MISSING
