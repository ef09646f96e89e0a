"""Settings of the whole suite: how much of it runs every day, and tests of real kernels first.

``make test`` runs everything: all cases of each test, and each property with all of its examples. ``make fast`` leaves
out the tests that are marked `slow`, takes some cases of those that are marked `sampled`, and a fifth of the examples.
How busy the machine is must decide nothing: an example of a property may take as long as it takes.
"""

from __future__ import annotations

import zlib

import pytest
from hypothesis import HealthCheck, settings

from tests.examples import EVERYDAY_EXAMPLES, is_complete

# asserts that several test modules share tell as much as those of the modules themselves
pytest.register_assert_rewrite("tests.kallsyms.lost_pages")

settings.register_profile("complete", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("everyday", settings.get_profile("complete"), max_examples=EVERYDAY_EXAMPLES)
settings.load_profile("complete" if is_complete() else "everyday")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a capture as `lab` and put them first; mark cases that are not sampled as `slow`.

    Those of the lab take longest: what is left at the end, when a worker takes tests off the other, is then small.
    """
    for item in items:
        if isinstance(item, pytest.Function) and "taken" in item.fixturenames:
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: item.get_closest_marker("lab") is None)
    for item in unsampled(items):
        item.add_marker(pytest.mark.slow)


def unsampled(items: list[pytest.Item]) -> list[pytest.Item]:
    """List the cases of sampled tests that ``make fast`` leaves to ``make test``.

    A checksum of their names decides, so that all parameters vary among those that stay, and the choice is the same
    everywhere.
    """
    cases: dict[tuple[str, int], list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark and not item.get_closest_marker("slow"):
            (count,) = mark.args
            cases.setdefault((item.nodeid.partition("[")[0], count), []).append(item)
    return [
        item
        for (_, count), group in cases.items()
        for item in sorted(group, key=lambda each: zlib.crc32(each.nodeid.encode()))[count:]
    ]
