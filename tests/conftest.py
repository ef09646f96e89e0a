"""Settings of the whole suite: properties have no deadline, and tests of real kernels run first.

How busy the machine is must decide nothing: an example of a property may take as long as it takes.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# asserts that several test modules share tell as much as those of the modules themselves
pytest.register_assert_rewrite("tests.kallsyms.lost_pages")

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a capture as `lab`, and put all of these first.

    They take longest: what is left at the end, when a worker takes tests off the other, is then small.
    """
    for item in items:
        if isinstance(item, pytest.Function) and "taken" in item.fixturenames:
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: item.get_closest_marker("lab") is None)
