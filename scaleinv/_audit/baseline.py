"""An audit in a file, to compare a later one with: JSON, which people and other programs can read too."""

import json
import math
from dataclasses import fields
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from scaleinv._audit.document import FORMAT
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv.units import Unit


def load_audit(path: str | PathLike[str], kind: type[Measurements]) -> tuple[dict[str, Any], list[Finding]]:
    """Read a ``document`` from a file: the arguments of this kind of ``Measurements``, and all findings.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it does not hold an audit.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != 1:
            raise ValueError(f"its format is {content['format']!r}, version {content['version']!r}")
        numbers = _arguments(kind, {name: value for name, value in content.items() if name != "rows"})
        findings = [Finding(**_arguments(Finding, each)) for each in (*content["findings"], *content["muted"])]
        findings.sort(key=lambda finding: (-finding.severity, -finding.size))
        return numbers | {"rows": [Row(**_arguments(Row, each)) for each in content["rows"]]}, findings
    except (ArithmeticError, AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"path={str(path)!r} does not hold an audit ({error}); write one with Audit.save, or --json"
        ) from error


def _arguments(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values by the types of the fields; those of fields that are not known here are left out."""
    return {field.name: _decoded(field.type, values[field.name]) for field in fields(kind) if field.name in values}


def _decoded(kind: Any, value: Any) -> Any:
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is Severity:
        return Severity[value.upper()]
    if isinstance(value, dict):
        return Unit(Fraction(value["loss"]), Fraction(value["weight"]))
    return tuple(value) if isinstance(value, list) else value
