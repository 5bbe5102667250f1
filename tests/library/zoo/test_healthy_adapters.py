"""No alarm in healthy trainings: tests/library/zoo/healthy/adapters.py."""

import pytest

from tests.library.zoo import checks

adapters = pytest.importorskip("tests.library.zoo.healthy.adapters", reason=checks.INSTALL)


@pytest.mark.parametrize("name", checks.names_in(adapters))
def test_healthy(name, one_thread):
    checks.check_healthy(name)
