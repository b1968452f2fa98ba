"""What tests of all packages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# On a busy machine an example takes as long as it takes. Where CI is set, hypothesis draws the same
# examples each time, which this leaves as it is.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for all tests that need it; a pool joins it instead of starting its own."""
    from composer.pool.ray_runner import start_ray, stop_ray

    start_ray()
    yield
    stop_ray()
