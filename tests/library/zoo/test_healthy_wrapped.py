"""No alarm in healthy trainings: tests/library/zoo/healthy/wrapped.py."""

import pytest

from tests.library.zoo import checks

wrapped = pytest.importorskip("tests.library.zoo.healthy.wrapped", reason=checks.INSTALL)


@pytest.mark.parametrize("name", checks.names_in(wrapped))
def test_healthy(name, one_thread):
    checks.check_healthy(name)
