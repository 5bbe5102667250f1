"""The atlas: what ``infer_units`` and ``symmetries_of`` measured for the optimizers of several packages.

``tools/atlas.py`` makes the measurements and a test repeats some of them. ``sources.json`` adds what reading the code
showed: which line makes the units inconsistent, or would.
"""

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from scaleinv._entries import key_of, split_key

__all__ = ["atlas", "lines", "versions"]

FOLDER = Path(__file__).parent
VERDICTS = {
    "bitwise": "bit for bit",
    "rounding": "within rounding",
    "inconsistent": "inconsistent",
    "not run": "not run",
}
_COLUMNS = ("lr", "eps", "weight_decay")  # hyperparameters that have a column of their own


def atlas() -> pd.DataFrame:
    """A table with one row for each measured optimizer.

    Returns:
        A DataFrame indexed by ``package.Name`` with the columns

        - lr, eps, weight_decay: the unit of each; in brackets if it holds for small changes of scale only, "–" if the
          optimizer has no such hyperparameter, "none" if no unit fits, "?" if the unit could not be determined, and
          after [0] and [1] if the entries of a tuple differ;
        - other: name and unit of every other float hyperparameter whose unit is not 1;
        - degree: the power of the loss's scale by which a step grows while lr stays the same;
        - decays: how weight_decay acts, as in ``Units.decay``, and how with the flag ``fixed_decay`` where there is
          one; "" where nothing decays, "?" if it was not measured;
        - L, W: the exponents of the unit of lr, in brackets or not;
        - verdict and residual: how closely a rescaled training agreed;
        - scales, rotations: the finest factors of the gradient that leave the update alone, and the widest rotations
          that it goes along with, in the words of ``Symmetries``; "?" if they could not be measured;
        - not_for: the kinds of parameters for which the units do not hold, where it is not all;
        - fault: the line of code that makes the units inconsistent, or would, and what it does.

    >>> from scaleinv.atlas import atlas
    >>> atlas().loc["torch.optim.AdamW", ["lr", "eps", "weight_decay"]].to_list()
    ['W', 'L W⁻¹', 'W⁻¹']
    """
    sources = _read("sources.json")
    rows = {key: _row(line, sources.get(key)) for key, line in lines().items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def lines() -> dict[str, dict[str, Any]]:
    """The stored measurement of each optimizer, by ``package.Name``.

    >>> from scaleinv.atlas import lines
    >>> lines()["torch.optim.SGD"]["units"]["lr"]
    'L⁻¹ W²'
    """
    return {f"{line['module']}.{line['name']}": line for line in _read("atlas.json")["optimizers"]}


def versions() -> dict[str, str]:
    """The version of each package that was measured.

    >>> from scaleinv.atlas import versions
    >>> versions()["lion_pytorch"]
    '0.2.5'
    """
    return _read("atlas.json")["versions"]


def _read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def _row(line: Mapping[str, Any], source: Mapping[str, str] | None) -> dict[str, Any]:
    nearby = {key: f"({unit})" for key, unit in _merged(line.get("nearby", {})).items()}
    units = _merged(line.get("units", {})) | nearby
    loss, weight = _exponents(line.get("lr"))
    return {
        **{name: _cell(name, units, line) for name in _COLUMNS},
        "other": _others(units),
        "degree": line.get("degree") or "",
        "decays": _decays(line),
        "L": loss,
        "W": weight,
        "verdict": VERDICTS[line["verdict"]],
        "residual": line.get("residual"),
        **{key: line.get("symmetry", {}).get(key, "?") for key in ("scales", "rotations")},
        "not_for": ", ".join(line.get("not_for", {})),
        "fault": f"{source['line']}: {source['says']}" if source else "",
    }


def _cell(name: str, units: Mapping[str, str], line: Mapping[str, Any]) -> str:
    """The unit of a hyperparameter, or the sign that stands for its absence."""
    if name in units:
        return units[name]
    parts = [f"{key.removeprefix(name)} {unit}" for key, unit in units.items() if split_key(key)[0] == name]
    if parts or name not in line["floats"]:
        return ", ".join(parts) or "–"
    return "?" if name in line["undetermined"] else "none"


def _decays(line: Mapping[str, Any]) -> str:
    """How weight decay acts, without and with the flag fixed_decay."""
    fixed = line.get("fixed_decay")
    return line.get("decay", "?") + (f"; {fixed} with fixed_decay" if fixed else "")


def _others(units: Mapping[str, str]) -> str:
    """Names and units of the hyperparameters without a column, except pure numbers."""
    listed = {key: unit for key, unit in units.items() if split_key(key)[0] not in _COLUMNS}
    return ", ".join(f"{key}: {unit}" for key, unit in listed.items() if unit not in ("1", "(1)"))


def _exponents(pair: list[str] | None) -> tuple[float, float]:
    """The exponents of the loss and of the weights; NaN without a unit."""
    if not pair:
        return math.nan, math.nan
    loss, weight = map(Fraction, pair)
    return float(loss), float(weight)


def _merged(units: Mapping[str, str]) -> dict[str, str]:
    """Units by name where all entries of a tuple have the same, by entry where they differ or the first is missing."""
    by_name: dict[str, dict[str, str]] = {}
    for key, unit in units.items():
        by_name.setdefault(split_key(key)[0], {})[key] = unit
    merged: dict[str, str] = {}
    for name, parts in by_name.items():
        has_first = name in parts or key_of(name, 0) in parts
        one_unit = len(set(parts.values())) == 1
        merged |= {name: next(iter(parts.values()))} if has_first and one_unit else parts
    return merged
