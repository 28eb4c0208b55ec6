"""Records of a job, and their default values."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest

from jobrt._core.job import AttemptRecord, Claimed, JobRecord, JobRef, NewJob, Outcome, Progress
from jobrt._core.states import End, State, Transition

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_new_jobs_defaults() -> None:
    """By default a new job is due immediately, with five attempts and priority 0."""
    job = NewJob(name="send", args="{}")
    assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("default", 0, 5, None)
    assert (job.schedule_at, job.delay, job.unique, job.context) == (None, None, None, None)
    assert (job.tags, job.metadata) == ((), "{}")


def test_an_outcome_is_by_default_a_completion() -> None:
    """A successful attempt needs no fields but those of its claim."""
    outcome = Outcome(7, 42)
    assert (outcome.event, outcome.end, outcome.spent) == (Transition.COMPLETE, End.FINISHED, True)
    assert (outcome.delay, outcome.result, outcome.message, outcome.children) == (0.0, None, None, ())


def test_a_claim_identifies_an_attempt() -> None:
    """Job and lease identify an attempt; the first attempt has no earlier values."""
    claimed = Claimed(7, 42, "send", "q", 0, 1, 5, None, "{}", "{}", (), None, NOW, NOW, NOW)
    assert JobRef(*claimed[:2]) == JobRef(id=7, lease=42)
    assert (claimed.saved, claimed.progress, claimed.attempts) == (None, None, ())


def test_records_cannot_be_changed() -> None:
    """Records are immutable."""
    record = JobRecord(
        id=1,
        name="send",
        queue="q",
        state=State.AVAILABLE,
        priority=0,
        attempt=0,
        max_attempts=None,
        args={},
        metadata={},
        tags=(),
        context=None,
        created_at=NOW,
        schedule_at=NOW,
    )
    attempt = AttemptRecord(1, End.FAILED, NOW, NOW, "w1")
    for value, field in ((record, "state"), (attempt, "end"), (Progress(1), "done")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field, None)
    assert (record.worker, record.result, record.attempts) == (None, None, ())
    assert (attempt.error_type, attempt.message, attempt.traceback) == (None, None, None)
