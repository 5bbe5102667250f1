"""No alarm in healthy trainings: tests/library/zoo/healthy/diffusion.py."""

import pytest

from tests.library.zoo import checks

diffusion = pytest.importorskip("tests.library.zoo.healthy.diffusion", reason=checks.INSTALL)


@pytest.mark.parametrize("name", checks.names_in(diffusion))
def test_healthy(name, one_thread):
    checks.check_healthy(name)
