"""Decisions about jobs whose payload cannot be decoded.

================================  ======================================================================
the payload                       what becomes of the job
================================  ======================================================================
is not a JSON object, or the row  discarded at once: no class can ever read it
has another defect
has a newer version, or fields    given back and marked with the shape of the class: claims of such workers pass
that the class does not know      it by, as if its name were unknown. A worker that knows it runs it. If workers of
                                  several shapes cannot, they try it again after up to a minute
does not match the class          tried again after up to ten minutes, and discarded after a day
================================  ======================================================================

What is tried again uses no attempt. Only the first try leaves a record: it shows the error, and the growing delays
and the day are counted from it. A discarded job has used an attempt, so its number tells a rerun from an old record.
"""

from datetime import datetime, timedelta
from typing import Final

from jobrt._core.attempts import Ended
from jobrt._core.job import Claimed, Outcome
from jobrt._core.states import End, Transition
from jobrt.errors import Problem

PATIENCE: Final = timedelta(days=1)
"""Time after which a job whose payload does not match its class is discarded."""

_SHORTEST: Final = 1.0
_LONGEST: Final = {"fields": 60.0, "value": 600.0}
"""Seconds until the next try. Each delay is as long as the time since the first try, so it doubles."""


def undecodable(job: Claimed, ended: Ended, *, problem: Problem, shape: int, now: datetime) -> Outcome:
    """Return the outcome of an attempt that could not begin; `now` is by the database's clock, as records are.

    `shape` is a number for what payloads the job's class can read.
    """
    tried = [record.finished_at for record in job.attempts if _is_earlier_try(record.number, record.end, job)]
    waited = now - tried[0] if tried else timedelta(0)
    if problem == "text" or (problem == "value" and waited >= PATIENCE):
        return _outcome(job, ended, event=Transition.DISCARD)
    outcome = _outcome(job, ended, event=Transition.SNOOZE)
    outcome = outcome._replace(
        delay=_delay(waited, problem, again=bool(tried)),
        spent=False,
        unfit=shape if problem == "fields" else None,
    )
    return outcome._replace(end=None, error_type=None, message=None, traceback=None) if tried else outcome


def _delay(waited: timedelta, problem: Problem, *, again: bool) -> float:
    if problem == "fields" and not again:
        return 0.0
    return min(max(waited.total_seconds(), _SHORTEST), _LONGEST[problem])


def _is_earlier_try(number: int, end: End, job: Claimed) -> bool:
    return end is End.UNDECODABLE and number == job.attempt


def _outcome(job: Claimed, ended: Ended, *, event: Transition) -> Outcome:
    return Outcome(
        job.id,
        job.lease,
        event,
        End.UNDECODABLE,
        error_type=ended.error_type,
        message=ended.message,
        traceback=ended.traceback,
    )
