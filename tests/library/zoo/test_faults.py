"""Mistakes are found, and the stored result is that of the set-ups that are here."""

from dataclasses import replace

import pytest

from scaleinv.book import zoo as stored
from tests.library.zoo import checks, zoo

pytest.importorskip("tests.library.zoo.everything", reason=checks.INSTALL)


@pytest.mark.parametrize("name", zoo.FAULTS)
def test_a_mistake_is_found(name, one_thread):
    checks.check_fault(name)


def test_every_training_is_stored():
    assert list(zoo.HEALTHY) == list(stored.healthy().index)
    assert list(zoo.FAULTS) == list(stored.faults().index)


def test_a_training_is_described_in_a_sentence():
    for setup in [*zoo.HEALTHY.values(), *zoo.FAULTS.values()]:
        assert setup.make.__doc__.endswith("."), setup.name


def test_a_mistake_that_is_not_there_is_not_found():
    """The same words, looked for in a healthy training."""
    healthy = zoo.HEALTHY["mlp_adam"].make
    found = [name for name, setup in zoo.FAULTS.items() if zoo.naming(replace(setup, make=healthy, parameters=None))]
    assert found == []


def test_no_alarm_is_untrue_and_nine_faults_of_ten_are_found():
    assert stored.healthy()["alarms"].sum() == 0
    assert len(stored.healthy()) >= 40 and len(stored.faults()) >= 40
    assert stored.faults()["found"].mean() >= 0.9
