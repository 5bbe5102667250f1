"""No alarm in healthy trainings: tests/library/zoo/healthy/plain.py."""

import pytest

from tests.library.zoo import checks

plain = pytest.importorskip("tests.library.zoo.healthy.plain", reason=checks.INSTALL)


@pytest.mark.parametrize("name", checks.names_in(plain))
def test_healthy(name, one_thread):
    checks.check_healthy(name)
