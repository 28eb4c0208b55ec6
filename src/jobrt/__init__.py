"""Durable background jobs as structured concurrency, for Trio.

::

    faces      cli · testing, and below them dashboard
    _faces     what the faces share: filters from texts, findings, words
    app        App: settings; joins client and worker
    _runtime   Worker and its actors, Supervisor, Context        _client   Client, Handle
    _storage   Storage (the contract) · sqlite · postgres
    _registry  Job, payloads                                     _events   what happened
    _core      decisions: states, retry, uniqueness, filters, cron, limits
    errors     everything that is raised

Imports point down only.
"""

from jobrt import blocking, errors
from jobrt._client import Client, Handle
from jobrt._core import retry as backoff
from jobrt._core import where
from jobrt._core.attempts import Stop
from jobrt._core.job import AttemptRecord, JobRecord, Progress
from jobrt._core.keep import Keep
from jobrt._core.queues import Queue
from jobrt._core.results import After, Cancel, Discard, Snooze
from jobrt._core.states import End, State
from jobrt._core.supervision_records import ChildStatistics, SupervisorStatistics
from jobrt._core.unique import Replace, Unique
from jobrt._registry import FunctionJob, Job, JobWithOptions
from jobrt._runtime.context import Context
from jobrt._runtime.supervisor import Supervisor
from jobrt._runtime.worker import Worker
from jobrt.app import App
from jobrt.errors import (
    DuplicateJobName,
    InternalError,
    InvalidFilter,
    InvalidJob,
    InvalidResult,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    JobrtError,
    JobStateError,
    JobUnsuccessful,
    LeaseLost,
    SchemaError,
    StorageError,
    StorageUnavailable,
    SupervisorFailed,
    UndecodablePayload,
    UnknownJob,
)

__all__ = [
    "After",
    "App",
    "AttemptRecord",
    "Cancel",
    "ChildStatistics",
    "Client",
    "Context",
    "Discard",
    "DuplicateJobName",
    "End",
    "FunctionJob",
    "Handle",
    "InternalError",
    "InvalidFilter",
    "InvalidJob",
    "InvalidResult",
    "Job",
    "JobCancelled",
    "JobDiscarded",
    "JobFailed",
    "JobNotFound",
    "JobRecord",
    "JobStateError",
    "JobUnsuccessful",
    "JobWithOptions",
    "JobrtError",
    "Keep",
    "LeaseLost",
    "Progress",
    "Queue",
    "Replace",
    "SchemaError",
    "Snooze",
    "State",
    "Stop",
    "StorageError",
    "StorageUnavailable",
    "Supervisor",
    "SupervisorFailed",
    "SupervisorStatistics",
    "UndecodablePayload",
    "Unique",
    "UnknownJob",
    "Worker",
    "backoff",
    "blocking",
    "errors",
    "where",
]
