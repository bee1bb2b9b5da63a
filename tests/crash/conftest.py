"""What the crash matrix has to say."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to the summary of the test run."""
    return functools.partial(record_property, "summary")
