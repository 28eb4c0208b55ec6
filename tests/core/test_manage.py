"""Tests of the decisions about jobs that both clients make."""

from __future__ import annotations

import pytest

from jobrt._core.manage import check_cancelled, not_deleted
from jobrt._core.states import State
from jobrt.errors import JobStateError
from tests.core.test_retry import record


def test_only_a_final_job_cannot_be_cancelled() -> None:
    """A job that runs, or waits, is cancelled or will be; the error for a final one names its state."""
    check_cancelled(record(state=State.EXECUTING))
    check_cancelled(record(state=State.AVAILABLE))
    with pytest.raises(JobStateError, match=r"job 1 \(send\) is completed already"):
        check_cancelled(record(state=State.COMPLETED))


def test_a_job_with_living_descendants_is_not_deleted() -> None:
    """The error names the job, its state and the remedy."""
    error = not_deleted(record(state=State.CLOSING))
    assert str(error) == "job 1 (send) is closing and has living descendants: cancel it first"
