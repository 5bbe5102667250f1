"""No alarm in healthy trainings: tests/library/zoo/healthy/language.py."""

import pytest

from tests.library.zoo import checks

language = pytest.importorskip("tests.library.zoo.healthy.language", reason=checks.INSTALL)


@pytest.mark.parametrize("name", checks.names_in(language))
def test_healthy(name, one_thread):
    checks.check_healthy(name)
