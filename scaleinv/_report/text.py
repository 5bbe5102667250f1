"""Reports and documents as plain text."""

import io
import json
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType


def as_text(report: RenderableType, width: int = 80) -> str:
    """What a report prints, without colours and without blanks at the ends of lines.

    >>> from scaleinv._report import as_text, table
    >>> print(as_text(table(("name", "value"), [("lr", "0.1")])))
    name  value
    lr    0.1
    """
    output = io.StringIO()
    Console(file=output, width=width, color_system=None, force_jupyter=False).print(report)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().splitlines())


def as_json(document: Mapping[str, Any]) -> str:
    """A document in the layout of files and commands; NaN and infinity are refused, for JSON has neither.

    >>> from scaleinv._report import as_json
    >>> as_json({"unit": "L W⁻¹"})
    '{\\n "unit": "L W⁻¹"\\n}'
    """
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)


def json_value(value: Any) -> Any:
    """The value as JSON has it: None for a float that is NaN or infinite.

    >>> from scaleinv._report import json_value
    >>> json_value(0.5), json_value(float("nan")), json_value("L")
    (0.5, None, 'L')
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value
