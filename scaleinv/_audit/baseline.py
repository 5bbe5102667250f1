"""An audit in a file, to compare a later one with: JSON, which people and other programs can read too."""

import json
import math
from collections.abc import Sequence
from dataclasses import MISSING, fields
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._version import __version__
from scaleinv.units import Unit

_FORMAT = "scaleinv audit"


def save_audit(audit: Measurements, findings: Sequence[Finding], path: str | PathLike[str]) -> None:
    """Write an audit to a file.

    Raises:
        OSError: if the file cannot be written.
    """
    content = {"format": _FORMAT, "version": 1, "scaleinv": __version__}
    content |= {name: value for name, value in _plain(audit).items() if name != "rows"}
    content |= {"rows": [_plain(row) for row in audit.rows], "findings": [_plain(each) for each in findings]}
    Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def load_audit(path: str | PathLike[str], kind: type[Measurements]) -> tuple[dict[str, Any], list[Finding]]:
    """Read what ``save_audit`` has written: the arguments of this kind of ``Measurements``, and the findings.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it does not hold an audit.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT or content["version"] != 1:
            raise ValueError(f"its format is {content['format']!r}, version {content['version']!r}")
        numbers = _arguments(kind, {name: value for name, value in content.items() if name != "rows"})
        findings = [Finding(**_arguments(Finding, each)) for each in content["findings"]]
        return numbers | {"rows": [Row(**_arguments(Row, each)) for each in content["rows"]]}, findings
    except (ArithmeticError, AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"path={str(path)!r} does not hold an audit ({error}); write one with Audit.save") from error


def _plain(record: Any) -> dict[str, Any]:
    """The fields that JSON can hold: numbers, words, and lists of them."""
    values = {field.name: _encoded(getattr(record, field.name)) for field in fields(record) if field.name != "rows"}
    return {name: value for name, value in values.items() if value is not MISSING}


def _encoded(value: Any) -> Any:
    """NaN is null, and infinity a word, since JSON has neither; a unit is its exponents."""
    if isinstance(value, Unit):
        return {"loss": str(value.loss), "weight": str(value.weight)}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, tuple | list):
        entries = [_encoded(each) for each in value]
        return MISSING if MISSING in entries else entries
    if value is None or isinstance(value, str | bool | int | float):
        return value.value if isinstance(value, Severity) else value
    return MISSING


def _arguments(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values by the types of the fields; those of fields that are not known here are left out."""
    return {field.name: _decoded(field.type, values[field.name]) for field in fields(kind) if field.name in values}


def _decoded(kind: Any, value: Any) -> Any:
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is Severity:
        return Severity(value)
    if isinstance(value, dict):
        return Unit(Fraction(value["loss"]), Fraction(value["weight"]))
    return tuple(value) if isinstance(value, list) else value
