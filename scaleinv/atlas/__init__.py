"""The atlas of units: what ``infer_units`` found for the optimizers of several collections, as it is stored.

``tools/atlas.py`` measures it, and a test measures part of it again; ``sources.json`` adds, from reading the
code, which line breaks the units, or would.
"""

import json
import math
from fractions import Fraction
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
VERDICTS = {
    "bitwise": "bit for bit",
    "rounding": "within rounding",
    "inconsistent": "inconsistent",
    "not run": "not run",
}


def atlas():
    """A DataFrame with a row for each optimizer, its index package.Name.

    Columns: lr, eps, weight_decay: their unit, in brackets where it holds for small changes of scale only, "–" where
    there is no such hyperparameter, "none" where no unit fits, "?" where none was determined, after [0] and [1] where
    the entries of a tuple differ; other: name and unit of the other float hyperparameters, if that is not 1; degree:
    the power of the loss's scale with which a step grows while lr stays; L, W: the exponents of lr's unit, in brackets
    or not; verdict; residual; fault: the line that breaks the units, or would, and what it says.
    """
    sources = json.loads((FOLDER / "sources.json").read_text())
    return pd.DataFrame.from_dict({key: _row(line, sources.get(key)) for key, line in lines().items()}, orient="index")


def lines():
    """package.Name → what ``tools/atlas.py`` has stored of an optimizer."""
    stored = json.loads((FOLDER / "atlas.json").read_text())["optimizers"]
    return {f"{line['module']}.{line['name']}": line for line in stored}


def versions():
    """package → the version that was measured."""
    return json.loads((FOLDER / "atlas.json").read_text())["versions"]


def _row(line, source):
    units = _flat(line.get("units", {})) | {k: f"({u})" for k, u in _flat(line.get("nearby", {})).items()}

    def unit(name):
        if name in units:
            return units[name]
        entries = [f"{key.removeprefix(name)} {u}" for key, u in units.items() if key.startswith(f"{name}[")]
        if entries or name not in line["floats"]:
            return ", ".join(entries) or "–"
        return "?" if name in line["undetermined"] else "none"

    main = ("lr", "eps", "weight_decay")
    other = [f"{key}: {u}" for key, u in units.items() if key.split("[")[0] not in main and u not in ("1", "(1)")]
    return {
        **{name: unit(name) for name in main},
        "other": ", ".join(other),
        "degree": line.get("degree") or "",
        **dict(zip("LW", _exponents(line.get("lr")))),
        "verdict": VERDICTS[line["verdict"]],
        "residual": line.get("residual"),
        "fault": f"{source['line']}: {source['says']}" if source else "",
    }


def _exponents(pair):
    return [float(Fraction(x)) for x in pair] if pair else [math.nan, math.nan]


def _flat(units):
    """Entries of one tuple that are all there and have one unit as the tuple's."""
    whole = {}
    for key, unit in units.items():
        whole.setdefault(key.split("[")[0], {})[key] = unit
    flat = {}
    for name, entries in whole.items():
        whole_tuple = not {name, f"{name}[0]"}.isdisjoint(entries) and len(set(entries.values())) == 1
        flat |= {name: next(iter(entries.values()))} if whole_tuple else entries
    return flat
