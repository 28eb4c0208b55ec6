"""Durable background jobs as structured concurrency, for Trio.

::

    cli · testing           the command line; tools for users' tests
    _demo · _bench · dashboard · otel · probes
    _views                  values and words for the command line and the dashboard
    app                     App: settings; connects client and worker
    _database               settings of the database, and its open storage
    _runtime                Worker and its actors, Context
    aio                     Client for asyncio                   blocking
    _client                 Client, Handle
    _storage                the contract, by roles · sqlite · postgres
    _registry               Job: classes, options, names         events
    _core                   decisions: states, retry, uniqueness, filters, cron, limits
    _payload                Python values to JSON and back
    _supervision            Supervisor                           _trio_psycopg   psycopg for Trio
    backoff                 waits for BACKOFF
    errors                  all exceptions
    _records                JobRecord, State

Imports point down only. `jobrt.aio`, `jobrt.dashboard`, `jobrt.otel`, `jobrt.probes` and `jobrt.testing` are imported
at first use, because most programs need none of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jobrt import backoff, blocking, errors, events
from jobrt._client import Client, Handle
from jobrt._core import where
from jobrt._core.attempts import Stop
from jobrt._core.keep import Keep
from jobrt._core.queues import Queue
from jobrt._core.rates import Rate
from jobrt._core.results import After, Cancel, Discard, Snooze, Throttle
from jobrt._core.unique import Replace, Unique
from jobrt._core.updates import Emitted, Gap, LogLine, OperatorAction, ProgressChange, StateChange, Update
from jobrt._records import AttemptRecord, End, JobRecord, Progress, State, Waiting
from jobrt._registry import FunctionCall, FunctionJob, Job, JobWithOptions
from jobrt._runtime.asyncio_context import AsyncioContext
from jobrt._runtime.context import Context
from jobrt._runtime.nursery import Nursery
from jobrt._runtime.remote import ProcessContext
from jobrt._runtime.thread_context import ThreadContext
from jobrt._runtime.worker import Worker
from jobrt._supervision.records import ChildStatistics, SupervisorStatistics
from jobrt._supervision.supervisor import Supervisor
from jobrt.app import App
from jobrt.errors import (
    CronNotFound,
    DuplicateJobName,
    HookFailed,
    InternalError,
    InvalidFilter,
    InvalidJob,
    InvalidResult,
    InvalidSetting,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    JobrtError,
    JobStateError,
    JobUnsuccessful,
    LeaseLost,
    NurseryChanged,
    ProcessDied,
    SchemaError,
    StorageError,
    StorageUnavailable,
    SupervisorFailed,
    UndecodablePayload,
    UnknownJob,
    WrongEventLoop,
)

if TYPE_CHECKING:
    from jobrt import aio as aio
    from jobrt import dashboard as dashboard
    from jobrt import otel as otel
    from jobrt import probes as probes
    from jobrt import testing as testing

__all__ = [
    "After",
    "App",
    "AsyncioContext",
    "AttemptRecord",
    "Cancel",
    "ChildStatistics",
    "Client",
    "Context",
    "CronNotFound",
    "Discard",
    "DuplicateJobName",
    "Emitted",
    "End",
    "FunctionCall",
    "FunctionJob",
    "Gap",
    "Handle",
    "HookFailed",
    "InternalError",
    "InvalidFilter",
    "InvalidJob",
    "InvalidResult",
    "InvalidSetting",
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
    "LogLine",
    "Nursery",
    "NurseryChanged",
    "OperatorAction",
    "ProcessContext",
    "ProcessDied",
    "Progress",
    "ProgressChange",
    "Queue",
    "Rate",
    "Replace",
    "SchemaError",
    "Snooze",
    "State",
    "StateChange",
    "Stop",
    "StorageError",
    "StorageUnavailable",
    "Supervisor",
    "SupervisorFailed",
    "SupervisorStatistics",
    "ThreadContext",
    "Throttle",
    "UndecodablePayload",
    "Unique",
    "UnknownJob",
    "Update",
    "Waiting",
    "Worker",
    "WrongEventLoop",
    "backoff",
    "blocking",
    "errors",
    "events",
    "where",
]

_LATE = frozenset({"aio", "dashboard", "otel", "probes", "testing"})
"""Modules that are imported at first use: not every program needs them, nor has the packages of an extra."""

if not TYPE_CHECKING:  # to type checkers, every name would exist

    def __getattr__(name: str) -> Any:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
