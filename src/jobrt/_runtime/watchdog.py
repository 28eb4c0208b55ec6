"""Actor that detects jobs that block the event loop, do not stop or take too long, and queues that stall."""

import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import dropwhile
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import trio

from jobrt._core.attempts import Stop
from jobrt._core.job import JobRef
from jobrt._core.where import queue as in_queue
from jobrt._core.where import scheduled_before, state
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.ledger import Ledger
from jobrt._runtime.pace import Pace
from jobrt._runtime.running import ExecutorsStatistics, Running
from jobrt._storage.contract import JobStore
from jobrt.errors import StorageError
from jobrt.events import Event, JobCancelPhase, JobStuck, QueueStalled
from jobrt.logs import log

_PACKAGE = str(Path(__file__).parents[1])
_INTERVAL = 1.0
_SILENT_AFTER = 1.1
_BLOCKED_AFTER = 1.0
_BLOCKED_BY_NO_JOB = "a thread or another process, not a job, blocks the event loop"
_CLEANING_AFTER = 0.5
"""Seconds after which a cancelled attempt that still runs is reported as cleaning up."""
_STOP_LIMIT = 5.0
"""Seconds after its cancellation within which an attempt should end."""
_SLOW_FACTOR = 10.0
_SLOW_AT_LEAST = 60.0
_SLOW_SAMPLES = 10
_STALLED_POLLS = 5
_STALLED_AT_LEAST = 10.0


@attrs.frozen(kw_only=True)
class Watched:
    """Queue to watch, and how to restart its fetcher."""

    ledger: Ledger
    wake: Wakeup
    statistics: Callable[[], ExecutorsStatistics]
    restart_fetcher: Callable[[], None]


@attrs.frozen
class Mark:
    """Reports about one attempt: the reasons why it is stuck, and the phase of its cancellation."""

    reasons: frozenset[str] = frozenset()
    phase: str = "received"


@attrs.define(eq=False, kw_only=True)
class Watchdog:
    """Actor that checks every running attempt once a second, and the event loop from a thread.

    It reports problems with the stack, and repairs only one. A fetcher that has not claimed for several poll intervals,
    although jobs are due and slots are free, is restarted.
    """

    jobs: JobStore
    queues: Mapping[str, Watched]
    observe: Callable[[Event], object]
    pace: Pace = attrs.Factory(Pace)
    _marks: dict[JobRef, Mark] = attrs.Factory(dict)
    _cycles: dict[str, tuple[int, float]] = attrs.Factory(dict)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        over = threading.Event()
        loop = _LoopWatch(self._running, self.observe, over)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_in_thread, loop.watch, name="loop watch")
            task_status.started()
            try:
                while True:
                    await self.pace.sleep(_INTERVAL, idle=self._idle())
                    loop.alive_at = time.monotonic()
                    self._check_attempts()
                    await self._check_queues()
            finally:
                over.set()

    def mark(self, ref: JobRef) -> Mark:
        """Return what was reported about an attempt."""
        return self._marks.get(ref, Mark())

    def _idle(self) -> bool:
        return not any(queue.ledger.held for queue in self.queues.values())

    def _running(self) -> Iterator[Running]:
        for queue in self.queues.values():
            yield from queue.statistics().running

    def _check_attempts(self) -> None:
        now, running = trio.current_time(), list(self._running())
        self._marks = {attempt.ref: self.mark(attempt.ref) for attempt in running}
        slow_after = self._slow_after()
        for attempt in running:
            ran = now - attempt.started
            stopped = attempt.stopped_at if attempt.stopped_at is not None else attempt.scope.deadline
            if now - stopped > _STOP_LIMIT:
                self._stuck(attempt, "uncancellable", now - stopped)
            elif ran > slow_after.get(attempt.job.name, math.inf):
                self._stuck(attempt, "slow", ran)
            if attempt.stop is Stop.OPERATOR and now - stopped > _CLEANING_AFTER:
                self._cleaning(attempt)

    def _slow_after(self) -> dict[str, float]:
        """Return the seconds after which an attempt is slow, for each job with enough samples."""
        totals: dict[str, tuple[int, float]] = {}
        for queue in self.queues.values():
            for name, (count, seconds) in queue.statistics().durations.items():
                before = totals.get(name, (0, 0.0))
                totals[name] = before[0] + count, before[1] + seconds
        return {
            name: max(_SLOW_AT_LEAST, _SLOW_FACTOR * seconds / count)
            for name, (count, seconds) in totals.items()
            if count >= _SLOW_SAMPLES
        }

    def _cleaning(self, attempt: Running) -> None:
        """Report once that a cancelled attempt still runs, presumably to clean up."""
        mark = self.mark(attempt.ref)
        if mark.phase == "received":
            self._marks[attempt.ref] = attrs.evolve(mark, phase="cleaning")
            self._report_phase(attempt, "cleaning")

    def _stuck(self, attempt: Running, why: str, seconds: float) -> None:
        """Report an attempt once for each reason."""
        mark = self.mark(attempt.ref)
        if why in mark.reasons:
            return
        self._marks[attempt.ref] = attrs.evolve(mark, reasons=mark.reasons | {why})
        job = attempt.job
        self.observe(JobStuck(job.id, job.name, why, seconds, _code_of(attempt)))
        if attempt.stop is Stop.OPERATOR and why == "uncancellable":
            self._marks[attempt.ref] = attrs.evolve(self.mark(attempt.ref), phase="stuck")
            self._report_phase(attempt, "stuck")

    def _report_phase(self, attempt: Running, phase: str) -> None:
        self.observe(JobCancelPhase(attempt.job.id, attempt.job.name, phase, attempt.reason))

    async def _check_queues(self) -> None:
        now = trio.current_time()
        for name, queue in self.queues.items():
            ledger = queue.ledger
            cycles, since = self._cycles.get(name, (-1, now))
            closed = queue.wake.closed.is_set()
            if cycles != ledger.cycles or ledger.paused or closed or ledger.held >= ledger.concurrency:
                self._cycles[name] = ledger.cycles, now
            elif now - since > max(_STALLED_AT_LEAST, _STALLED_POLLS * ledger.settings.poll_interval):
                self._cycles[name] = ledger.cycles, now
                await self._unstall(name, queue)

    async def _unstall(self, name: str, queue: Watched) -> None:
        due = in_queue(name) & state("scheduled", "available", "retryable") & scheduled_before(timedelta(0))
        ledger = queue.ledger
        try:
            with trio.move_on_after(_STALLED_AT_LEAST):
                count = await self.jobs.count(due, limit=1000)
                if count:
                    self.observe(QueueStalled(name, count, ledger.concurrency - ledger.held))
                    queue.restart_fetcher()
        except StorageError as error:  # an outage explains the stall, and is reported elsewhere
            logging.getLogger("jobrt").debug("queue %s could not be checked: %s", name, error)


async def _in_thread(watch: Callable[[], None]) -> None:
    """Run `watch` in a thread until cancelled; the abandoned thread ends by itself within microseconds."""
    await trio.to_thread.run_sync(watch, abandon_on_cancel=True)


def _code_of(attempt: Running) -> str:
    """Return the stack of an attempt's code: that of its thread, if it runs in one."""
    frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented for exactly this
    frame = None if attempt.thread is None else frames.get(attempt.thread)
    return stack_of(attempt.task) if frame is None else "".join(traceback.format_stack(frame))


def stack_of(task: trio.lowlevel.Task) -> str:
    """Return the stacks of a task and of the tasks that it has started."""
    lines: list[str] = []
    for child in _tree(task):
        lines.append(f"task {child.name}:\n")
        frames = [(frame, number) for frame, number in child.iter_await_frames()]
        lines += traceback.format_list(traceback.StackSummary.extract(iter(frames), capture_locals=False))
    return "".join(lines)


def _tree(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tree(child)


@attrs.define(eq=False)
class _LoopWatch:
    """Thread that detects that the event loop is blocked, and reports the job that blocks it."""

    running: Any
    emit: Callable[[Event], object]
    over: threading.Event
    alive_at: float = attrs.Factory(time.monotonic)
    """When the loop last ran, as it says itself once a second. A question would wake it up once more."""
    token: trio.lowlevel.TrioToken = attrs.Factory(trio.lowlevel.current_trio_token)
    loop_thread: int = attrs.Factory(threading.get_ident)

    def watch(self) -> None:
        """Ask the loop whether it runs, whenever it has not said so for more than a second, until `over` is set."""
        while not self.over.wait(max(self.alive_at + _SILENT_AFTER - time.monotonic(), 0.0)):
            if time.monotonic() < self.alive_at + _SILENT_AFTER:
                continue
            responded = threading.Event()
            try:
                self.token.run_sync_soon(responded.set)
            except trio.RunFinishedError:
                return
            if not responded.wait(_BLOCKED_AFTER):
                self._report(responded)
            self.alive_at = time.monotonic()

    def _report(self, responded: threading.Event) -> None:
        """Log immediately, which the blocked loop cannot do, and emit an event when the loop runs again."""
        began = time.monotonic() - _BLOCKED_AFTER
        frame = sys._current_frames().get(self.loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented for exactly this
        stack = _below_executor(frame)
        owner = _owner(frame, list(self.running()))
        name, job_id = ("(no job)", 0) if owner is None else (owner.job.name, owner.job.id)
        what = _BLOCKED_BY_NO_JOB if owner is None else f"job {name} {job_id} blocks the event loop"
        now = JobStuck(job_id, name, "blocking", _BLOCKED_AFTER, stack)
        log(now, message=f"{what} for more than {_BLOCKED_AFTER:g} s")
        responded.wait()
        event = JobStuck(job_id, name, "blocking", time.monotonic() - began, stack)
        with suppress(trio.RunFinishedError):
            self.token.run_sync_soon(self.emit, event)


def _below_executor(frame: FrameType | None) -> str:
    """Return a thread's stack from the first frame of the job's code; all of it if no job is in it."""
    stack = traceback.extract_stack(frame)
    executors = [index for index, one in enumerate(stack) if Path(one.filename).name == "executors.py"]
    start = executors[0] if executors else 0
    code = list(dropwhile(lambda one: executors and one.filename.startswith(_PACKAGE), stack[start:]))
    return "".join(traceback.format_list(code or list(stack)))


def _owner(frame: Any, running: Iterable[Running]) -> Running | None:
    """Return the attempt whose task, or a descendant of it, is running in the thread with this stack frame."""
    task = None
    while frame is not None and task is None:
        found = frame.f_locals.get("task") if frame.f_code.co_name == "unrolled_run" else None
        task = found if isinstance(found, trio.lowlevel.Task) else None
        frame = frame.f_back
    by_task = {attempt.task: attempt for attempt in running}
    while task is not None and task not in by_task:
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    return by_task.get(task) if task is not None else None
