"""No alarm in healthy trainings: tests/library/zoo/healthy/vision.py."""

import pytest

from tests.library.zoo import checks

vision = pytest.importorskip("tests.library.zoo.healthy.vision", reason=checks.INSTALL)


@pytest.mark.parametrize("name", checks.names_in(vision))
def test_healthy(name, one_thread):
    checks.check_healthy(name)
