"""The tests of the zoo, for one module of healthy set-ups each."""

import pytest

from scaleinv.book import zoo as stored
from tests.library.zoo import zoo

INSTALL = 'the zoo needs other packages; install them by: pip install "scaleinv[zoo,atlas]"'
HEALTHY = {line["name"]: line for line in stored.read()["healthy"]}
FAULTS = {line["name"]: line for line in stored.read()["faults"]}
STAGES = 11
LEAST_PROGRESS = 0.995  # of the loss on the data of the first steps, which includes lr's warm-up


def names_in(module):
    """Every second set-up of a module, for all of them train for over a minute; ``tools/zoo.py`` runs all."""
    return [name for name, setup in zoo.HEALTHY.items() if setup.make.__module__ == module.__name__][::2]


def check_healthy(name):
    """It learns, and no warning or fault is new; those that are stored as true are there."""
    setup = zoo.HEALTHY[name]
    alarms, stages, progress = zoo.alarms_of(setup)
    assert progress < LEAST_PROGRESS, "a healthy training makes its loss smaller"
    assert stages == HEALTHY[name]["stages"] == STAGES
    known = {(alarm["stage"], alarm["kind"]) for alarm in HEALTHY[name]["alarms"]}
    new = [(stage, str(finding)) for stage, finding in zoo.untrue(setup, alarms) if (stage, finding.kind) not in known]
    assert new == [], "a healthy training got an alarm"
    assert {finding.kind for _, finding in alarms} >= set(setup.true_alarms), "a true alarm that is not raised"


def check_fault(name):
    """It is found if the stored result says so."""
    if not FAULTS[name]["found"]:
        pytest.xfail("not found yet")
    assert zoo.naming(zoo.FAULTS[name]) is not None
