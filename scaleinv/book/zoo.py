"""The zoo: what the audit says of healthy trainings, and of trainings with one mistake.

The trainings are small: a network of a package or of ``torch.nn`` with its optimizer, its groups, its schedule and its
precision. Each healthy one is audited at eleven stages, from before training to lr = 0 at its end; a mistake counts as
found if one of the first two findings names it. ``tools/zoo.py`` makes the measurements and the tests repeat them.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["faults", "healthy", "read", "summary"]

STORED = Path(__file__).with_suffix(".json")


def read() -> dict[str, Any]:
    """The stored result: the versions of the packages, and a dict for each healthy training and each mistake.

    >>> from scaleinv.book import zoo
    >>> sorted(zoo.read())
    ['faults', 'healthy', 'versions']
    """
    return json.loads(STORED.read_text(encoding="utf-8"))


def healthy() -> pd.DataFrame:
    """A table with one row for each healthy training.

    Returns:
        A DataFrame indexed by name with the columns

        - about: what it trains, and how;
        - stages: how often it was audited;
        - alarms: how many warnings and faults were not true;
        - true: the warnings that are true, with the reason; "" without any.

    >>> from scaleinv.book import zoo
    >>> int(zoo.healthy().loc["gpt2", "stages"])
    11
    """
    lines = [
        {
            "name": line["name"],
            "about": line["about"],
            "stages": line["stages"],
            "alarms": len(line["alarms"]),
            "true": "; ".join(f"{kind}: {reason}" for kind, reason in line["true"].items()),
        }
        for line in read()["healthy"]
    ]
    return pd.DataFrame(lines).set_index("name")


def faults() -> pd.DataFrame:
    """A table with one row for each mistake.

    Returns:
        A DataFrame indexed by name with the columns

        - about: the mistake, and where it was reported;
        - found: whether one of the first two findings names it;
        - severity, finding, remedy: of that finding; "" where it was not found.

    >>> from scaleinv.book import zoo
    >>> bool(zoo.faults().loc["detached", "found"])
    True
    """
    columns = ["name", "about", "found", "severity", "finding", "remedy"]
    return pd.DataFrame(read()["faults"])[columns].set_index("name")


def summary() -> str:
    """The two numbers that matter, in a line each.

    >>> from scaleinv.book import zoo
    >>> print(zoo.summary().splitlines()[1].split(":")[0])
    mistakes found
    """
    trainings, mistakes = healthy(), faults()
    return (
        f"alarms that are not true: {trainings['alarms'].sum()} at {trainings['stages'].sum()} stages of "
        f"{len(trainings)} healthy trainings\n"
        f"mistakes found: {mistakes['found'].sum()} of {len(mistakes)}"
    )
