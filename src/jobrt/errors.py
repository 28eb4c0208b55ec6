"""Name everything that jobrt raises.

::

    JobrtError
    ├─ InvalidJob(ValueError)         a bad definition or payload, refused before any I/O; names the field
    │  ├─ InvalidResult               a job returned what is not JSON, or is too large to keep
    │  └─ UndecodablePayload          a stored payload that no longer fits its job class
    ├─ InvalidFilter(ValueError)      a malformed `where`, order or limit
    ├─ InvalidSetting(ValueError)     a malformed queue, cron entry, retention rule or option of `App`
    ├─ DuplicateJobName(ValueError)   two job classes with one name in an app
    ├─ UnknownJob(LookupError)        no job class of that name in this app
    ├─ JobNotFound(LookupError)       no job with that id in the database
    ├─ CronNotFound(LookupError)      no cron entry of that name in the database
    ├─ JobStateError(RuntimeError)    the job is there, but in a state that does not allow it (rerun while it runs)
    ├─ JobUnsuccessful                what `handle.result()` raises instead of a result; `.record` has the attempts
    │  ├─ JobFailed                   discarded because its attempts were used up
    │  ├─ JobCancelled                somebody cancelled it
    │  └─ JobDiscarded                it, or its RETRY predicate, said that another try is pointless
    ├─ StorageError                   the database said no; the driver's error is its `__cause__`
    │  ├─ StorageUnavailable          transient: away, locked, overloaded; trying again later can help
    │  └─ SchemaError                 migrate first, or the schema is newer than this jobrt
    ├─ LeaseLost                      somebody else owns the job now; whatever we wrote about it was refused
    ├─ SupervisorFailed               a child failed more often than its supervisor's intensity allows
    └─ InternalError                  a bug in jobrt, for example an illegal state transition

`trio.Cancelled` is never wrapped.
"""

from __future__ import annotations

from jobrt._records import JobRecord

__all__ = [
    "CronNotFound",
    "DuplicateJobName",
    "InternalError",
    "InvalidFilter",
    "InvalidJob",
    "InvalidResult",
    "InvalidSetting",
    "JobCancelled",
    "JobDiscarded",
    "JobFailed",
    "JobNotFound",
    "JobStateError",
    "JobUnsuccessful",
    "JobrtError",
    "LeaseLost",
    "SchemaError",
    "StorageError",
    "StorageUnavailable",
    "SupervisorFailed",
    "UndecodablePayload",
    "UnknownJob",
]


class JobrtError(Exception):
    """Be the base of everything that jobrt raises on purpose."""


class InvalidJob(JobrtError, ValueError):
    """Refuse a job definition or payload; the message names the class, the field and the remedy."""


class UndecodablePayload(InvalidJob):
    """Say which field of a stored payload no longer fits the job class."""


class InvalidResult(InvalidJob):
    """Refuse to keep what a job returned: it is not JSON, or larger than 256 KiB."""


class InvalidFilter(JobrtError, ValueError):
    """A malformed filter, order or limit."""


class InvalidSetting(JobrtError, ValueError):
    """A malformed queue setting, cron entry, retention rule or option of `App`."""


class DuplicateJobName(JobrtError, ValueError):
    """Refuse a second job class with a name that is taken; the message names both classes."""


class UnknownJob(JobrtError, LookupError):
    """Say that this app has no job class of that name, and what comes close."""


class JobNotFound(JobrtError, LookupError):
    """Say that the database has no job with that id."""


class CronNotFound(JobrtError, LookupError):
    """The database has no cron entry of that name."""


class JobStateError(JobrtError, RuntimeError):
    """Say that the job's state does not allow what was asked."""


class JobUnsuccessful(JobrtError):
    """Be raised by ``handle.result()`` for a job that ended without a result."""

    def __init__(self, message: str, record: JobRecord) -> None:
        super().__init__(message)
        self.record = record


class JobFailed(JobUnsuccessful):
    """Say that the job used up its attempts; the last one's error is in the message."""


class JobCancelled(JobUnsuccessful):
    """Say that the job was cancelled, and why."""


class JobDiscarded(JobUnsuccessful):
    """Say that the job gave itself up, or that its ``RETRY`` predicate did."""


class StorageError(JobrtError):
    """Say what the database refused; the driver's error is the ``__cause__``."""


class StorageUnavailable(StorageError):
    """Say that the database is away, locked or overloaded: trying again later can help."""


class SchemaError(StorageError):
    """Say that the tables are missing, older, or newer than this jobrt."""


class LeaseLost(JobrtError):
    """Say that somebody else owns the job now, so that a write about it was refused."""


class SupervisorFailed(JobrtError):
    """Say that a child failed more often than allowed; its last error is the ``__cause__``."""


class InternalError(JobrtError):
    """Say that jobrt itself has a bug."""
