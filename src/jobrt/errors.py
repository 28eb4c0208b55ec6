"""Exceptions that jobrt raises.

::

    JobrtError
    ├─ InvalidJob(ValueError)         invalid job definition or payload; refused before any I/O
    │  ├─ InvalidResult               a job returned a value that is not JSON or is too large
    │  └─ UndecodablePayload          a stored payload does not match its job class
    ├─ InvalidFilter(ValueError)      invalid `where`, order or limit
    ├─ InvalidSetting(ValueError)     invalid queue, cron entry, retention rule or option of `App`
    ├─ DuplicateJobName(ValueError)   two job classes of an app have the same name
    ├─ UnknownJob(LookupError)        this app has no job class of that name
    ├─ JobNotFound(LookupError)       the database has no job with that id
    ├─ CronNotFound(LookupError)      the database has no cron entry of that name
    ├─ JobStateError(RuntimeError)    the job exists, but its state does not allow the operation
    ├─ JobUnsuccessful                the job ended without a result; `.record` has its attempts
    │  ├─ JobFailed                   all attempts were used
    │  ├─ JobCancelled                the job was cancelled
    │  └─ JobDiscarded                the job returned `Discard`, or its RETRY predicate refused a retry
    ├─ StorageError                   the database refused a call; `__cause__` is the driver's error
    │  ├─ StorageUnavailable          database unreachable, locked or overloaded; a retry may succeed
    │  └─ SchemaError                 tables missing, or of another version of jobrt
    ├─ HookFailed                     a hook around attempts or enqueues did not do its part
    ├─ LeaseLost                      the worker no longer owns the job; its write was refused
    ├─ ProcessDied                    the process of a job died, or lost its connection to the worker
    ├─ WrongEventLoop(RuntimeError)   a client of Trio was used in asyncio, or the other way round
    ├─ SupervisorFailed               a child failed more often than its supervisor allows
    └─ InternalError                  a bug in jobrt

`trio.Cancelled` is never wrapped.
"""

from typing import Literal, TypeAlias

from jobrt._records import JobRecord

__all__ = [
    "CronNotFound",
    "DuplicateJobName",
    "HookFailed",
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
    "NurseryChanged",
    "ProcessDied",
    "SchemaError",
    "StorageError",
    "StorageUnavailable",
    "SupervisorFailed",
    "UndecodablePayload",
    "UnknownJob",
    "WrongEventLoop",
]


Problem: TypeAlias = Literal["text", "fields", "value"]
"""What can be wrong with a stored payload; see `UndecodablePayload`."""


class JobrtError(Exception):
    """Base class for all jobrt exceptions."""


class InvalidJob(JobrtError, ValueError):
    """Raised when a job definition or payload is invalid, before any I/O.

    The message names the class, the field and the remedy.
    """


class UndecodablePayload(InvalidJob):
    """Raised when a stored payload does not match its job class; the message names the field.

    `InvalidJob` itself is raised for a payload that is not stored yet.

    Attributes:
        problem: what is wrong: ``"text"`` if the payload is not a JSON object, so that no class can read it;
            ``"fields"`` if it has fields that the class does not know; ``"value"`` if a value is missing or invalid.

    """

    def __init__(self, message: str, problem: Problem = "value") -> None:
        super().__init__(message)
        self.problem: Problem = problem


class InvalidResult(InvalidJob):
    """Raised when the return value of a job is not JSON, or is larger than 256 KiB."""


class InvalidFilter(JobrtError, ValueError):
    """Raised when a filter, an order or a limit is invalid."""


class InvalidSetting(JobrtError, ValueError):
    """Raised when a queue setting, a cron entry, a retention rule or an option of `App` is invalid."""


class DuplicateJobName(JobrtError, ValueError):
    """Raised when two job classes of an app have the same name; the message names both classes."""


class UnknownJob(JobrtError, LookupError):
    """Raised when this app has no job class of that name; the message lists similar names.

    `JobNotFound` is about a stored job, and not about a class.
    """


class JobNotFound(JobrtError, LookupError):
    """Raised when the database has no job with that id."""


class CronNotFound(JobrtError, LookupError):
    """Raised when the database has no cron entry of that name."""


class JobStateError(JobrtError, RuntimeError):
    """Raised when the state of a job does not allow the operation: a running job cannot be rerun."""


class JobUnsuccessful(JobrtError):
    """Raised by ``handle.result()`` when the job ended without a result; base class of the three reasons.

    Attributes:
        record: the job as it is stored, with its attempts.

    """

    def __init__(self, message: str, record: JobRecord) -> None:
        super().__init__(message)
        self.record = record


class JobFailed(JobUnsuccessful):
    """Raised when the job used all of its attempts; the message has the last error."""


class JobCancelled(JobUnsuccessful):
    """Raised when the job was cancelled; the message has the reason."""


class JobDiscarded(JobUnsuccessful):
    """Raised when the job returned ``Discard`` or its ``RETRY`` predicate refused a retry."""


class StorageError(JobrtError):
    """Raised when the database refused a call; ``__cause__`` is the driver's error.

    Repeating the call does not help, except after `StorageUnavailable`.
    """


class StorageUnavailable(StorageError):
    """Raised when the database is unreachable, locked or overloaded; a retry may succeed."""


class SchemaError(StorageError):
    """Raised when the tables are missing, or older or newer than this version of jobrt."""


class NurseryChanged(JobrtError):
    """A later run asked for a child that its sealed nursery does not have."""


class HookFailed(JobrtError):
    """Raised when a hook (``App.around_attempt``, ``App.around_enqueue``) did not do its part.

    It failed before the job began, did not call on, called on twice, or changed the number or order of jobs. The
    message names the hook; ``__cause__`` is its error, if it has raised one.
    """


class LeaseLost(JobrtError):
    """Raised when a worker no longer owns the job; its write about the attempt was refused."""


class ProcessDied(JobrtError):
    """Raised in an attempt with ``RUN_IN = "process"`` whose process died: killed, out of memory, or exited by the job.

    The message names the signal or the status. It is raised as well if the process lost its connection to the worker.
    """


class WrongEventLoop(JobrtError, RuntimeError):
    """Raised when a client for Trio is used in asyncio, or one for asyncio in Trio or in another event loop."""


class SupervisorFailed(JobrtError):
    """Raised when a child failed more often than allowed; ``__cause__`` is its last error."""


class InternalError(JobrtError):
    """Raised when jobrt has a bug, for example an illegal state transition."""
