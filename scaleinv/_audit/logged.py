"""An audit as a few numbers for a logger: however many tensors a model has, at most 200 of them."""

import math
import re
from collections.abc import Sequence
from statistics import median

from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.folding import fold_names
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row

FLAT_COLUMNS = "rms", "lr", "gradient_rms", "predicted", "measured", "below_eps", "decay", "equilibrium"
_MOST = 20  # groups


def flat_numbers(audit: Measurements, findings: Sequence[Finding]) -> dict[str, float]:
    """What ``Audit.flat`` returns."""
    values: dict[str, float] = {}
    for name, rows in _groups(audit.rows).items():
        for column in FLAT_COLUMNS:
            known = [value for row in rows if math.isfinite(value := getattr(row, column))]
            if known:
                values[f"{column}/{name}"] = median(known)
    steps = [row.relative for row in audit.trained if math.isfinite(row.relative)]
    values |= {
        "gradient_norm": audit.gradient_norm,
        "lr_sharpness": audit.lr_sharpness,
        "clipped": audit.clipped,
        "findings": len(findings),
    }
    values |= {f"{each.word}s": sum(finding.severity == each for finding in findings) for each in Severity}
    values |= {"median_step": median(steps), "largest_step": max(steps)} if steps else {}
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Name → rows: the finest grouping that has few groups; of the coarsest, the groups with most coordinates."""
    groups: dict[str, list[Row]] = {}
    for grouping in (_by_tensor, _by_block, _by_place, _by_layer):
        groups = {}
        for name, row in zip(grouping(rows), rows, strict=True):
            groups.setdefault(name, []).append(row)
        if len(groups) <= _MOST:
            return groups
    largest = sorted(groups, key=lambda name: -sum(row.coordinates for row in groups[name]))
    return {name: groups[name] for name in largest[:_MOST]}


def _by_tensor(rows: Sequence[Row]) -> list[str]:
    return [row.parameter for row in rows]


def _by_block(rows: Sequence[Row]) -> list[str]:
    """h.0–11.attn.weight: the numbers of blocks as a range."""
    names = [""] * len(rows)
    for name, places in fold_names([row.parameter for row in rows]):
        for place in places:
            names[place] = name
    return names


def _by_place(rows: Sequence[Row]) -> list[str]:
    """layer*.*.conv*.weight: any number."""
    return [re.sub(r"\d+", "*", row.parameter) for row in rows]


def _by_layer(rows: Sequence[Row]) -> list[str]:
    """Conv2d.weight: the type of the layer."""
    return [f"{row.layer}.{row.parameter.rpartition('.')[2]}" for row in rows]
