"""The simulation takes twice as long while its coverage is measured, and each seed runs nearly the same lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEASURED: Final = 4
"""Seeds of which the coverage is measured."""


@pytest.fixture(autouse=True)
def measured_for_some_seeds(request: pytest.FixtureRequest) -> Iterator[None]:
    """Interrupt the measurement for all seeds but the first."""
    call = getattr(request.node, "callspec", None)
    seed = 0 if call is None else call.params.get("seed", 0)
    measurement = coverage.Coverage.current()
    if measurement is None or seed < _MEASURED:
        yield
        return
    measurement.stop()
    try:
        yield
    finally:
        measurement.start()
