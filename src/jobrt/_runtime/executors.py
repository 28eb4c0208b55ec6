"""Actor that runs the claimed jobs of one queue."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Final, NoReturn, assert_never

import attrs
import trio

from jobrt._core.attempts import Stop, interrupted, unstarted
from jobrt._core.interrupt import from_signal
from jobrt._core.job import Claimed, JobRef, Outcome
from jobrt._runtime.arrivals import STANDSTILL, Arrivals
from jobrt._runtime.attempt import AttemptRunner
from jobrt._runtime.messages import (
    Abandon,
    Batch,
    Cancels,
    ExecutorsOrder,
    Fence,
    Holding,
    Report,
    Resize,
    Returns,
    StopAll,
    Withdraw,
    Work,
)
from jobrt._runtime.outbox import Outbox
from jobrt._runtime.parking import Parking, outcome_of_waiting
from jobrt._runtime.running import ExecutorsStatistics, Running
from jobrt._runtime.working_directory import WorkingDirectory
from jobrt._storage.contract import CancelRequest
from jobrt.events import Event, JobCancelPhase

_CHECKPOINT_EVERY = 32
"""Attempts that a task runs between two checkpoints of its own; a quick job may contain none."""
_new: Final = tuple.__new__
"""Makes a named tuple of all of its values in a quarter of the time of its constructor."""


@attrs.frozen(kw_only=True)
class ExecutorsChannels:
    """Ends of the channels that the executors of a queue use."""

    work: trio.MemoryReceiveChannel[Work]
    returns: trio.MemorySendChannel[Returns]
    orders: trio.MemoryReceiveChannel[ExecutorsOrder]


@attrs.define(eq=False, kw_only=True)
class Executors:
    """Actor of up to ``concurrency`` long-lived tasks that share an inbox of claimed jobs.

    Tasks are started when there is more work than idle tasks, and end when the queue is scaled down. Each job is
    returned to the fetcher once: ended, interrupted, unstarted, or written by its own transaction. Inbox and outbox
    survive a restart. Running attempts do not: a restart cancels them, and each leaves its outcome in the outbox.
    """

    name: str
    concurrency: int
    channels: ExecutorsChannels
    runner: AttemptRunner
    claimant: Callable[[], str | None]
    observe: Callable[[Event], None]
    claimed_ahead: Callable[[], None]
    """Tells that attempts may begin whose start the database does not show."""
    directory: WorkingDirectory = attrs.Factory(WorkingDirectory)
    _inbox: deque[Claimed] = attrs.Factory(deque)
    _arrivals: Arrivals = attrs.Factory(Arrivals)
    _running: dict[Running, None] = attrs.Factory(dict)
    """The running attempts, in the order of their starts."""
    _parking: Parking = attrs.field(default=attrs.Factory(Parking, takes_self=True))
    _outbox: Outbox = attrs.field(
        default=attrs.Factory(
            lambda self: Outbox(self.channels.returns, self._parking.outbox), takes_self=True
        )
    )
    _cancels: dict[JobRef, CancelRequest] = attrs.Factory(dict)
    _worker: str = ""
    _stopped: bool = False
    _closed: bool = False
    _last_batch: int = 0
    _finished: int = 0
    _durations: defaultdict[str, list[float]] = attrs.Factory(lambda: defaultdict(lambda: [0, 0.0]))
    _tasks: int = 0
    _nursery: trio.Nursery | None = None
    _waiting: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _idle: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until the fetcher closes ``work`` and all jobs have been returned, then sleep until cancelled."""
        self._tasks = 0
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._receive_orders)
                task_status.started()
                if not self._closed:
                    self._nursery.start_soon(self._outbox.run)
                    self._nursery.start_soon(self._return_late)
                    await self._run_until_closed()
                await trio.sleep_forever()  # an attempt that does not end may still be in this nursery
        finally:
            self._nursery = None

    async def _run_until_closed(self) -> None:
        if self._last_batch:
            await self._resume()
        async for message in self.channels.work:
            self._take(message)
        self._parking.close()
        while self._holds_something():
            await self._outbox.sent()
        self._closed = True
        self.channels.returns.close()

    def statistics(self) -> ExecutorsStatistics:
        """Return a snapshot."""
        running = self.running
        return ExecutorsStatistics(
            concurrency=self.concurrency,
            running=running,
            waiting=len(self._inbox),
            finished=self._finished,
            names=Counter(attempt.job.name for attempt in running),
            durations={name: (int(count), seconds) for name, (count, seconds) in self._durations.items()},
        )

    @property
    def running(self) -> tuple[Running, ...]:
        """The running attempts."""
        return tuple(self._running)

    @property
    def waiting(self) -> int:
        """The number of claimed jobs that have not started."""
        return len(self._inbox)

    async def _resume(self) -> None:
        """Continue after a restart: report to the fetcher which jobs were not lost."""
        if self._worker != self.claimant():  # the lease was lost in the meantime
            self._take(Withdraw(0))
        reported = [report.job for report in (*self._outbox.reports, *self._outbox.written)]
        held = (*self._inbox, *self._parking.returned, *reported)
        await self.channels.returns.send(Holding(self._last_batch, held))
        self._start_tasks()

    def _holds_something(self) -> bool:
        running = any(not attempt.abandoned for attempt in self._running)
        return bool(self._inbox or running or self._parking.attempts) or not self._outbox.empty

    # ------------------------------------------------------------------ work

    def _take(self, message: Work) -> None:
        match message:
            case Batch():
                # Set first: if a bug loses the batch after this line, its jobs are missing from `Holding` and so found.
                self._last_batch, self._worker = message.number, message.worker
                self._accept(message)
            case Withdraw(keep):
                for _ in range(len(self._inbox) - keep):
                    self._return_unstarted(self._inbox.pop())
            case _:
                assert_never(message)

    def _accept(self, batch: Batch) -> None:
        """Accept claimed jobs; return those that are cancelled, or whose lease is lost, without starting them."""
        if batch.worker != self.claimant() or self._stopped:
            for job in batch.jobs:
                self._return_unstarted(job)
            return
        self._add(batch)
        if self._cancels:
            self._withdraw_cancelled()
        waiting, idle = len(self._inbox), len(self._idle)
        if idle:
            self._idle.unpark(count=min(idle, waiting))
        if waiting > idle:
            self._start_tasks()
        if waiting > idle + self.concurrency - self._tasks:
            self._waiting.unpark()

    def _add(self, batch: Batch) -> None:
        """Put jobs into the inbox, before those of a lower priority."""
        inbox, jobs = self._inbox, batch.jobs
        self._arrivals.add(batch, inbox=inbox, finished=self._finished)
        first = bool(inbox) and inbox[-1].priority < jobs[0].priority
        inbox.extend(jobs)
        if first:
            self._inbox = deque(sorted(inbox, key=lambda job: -job.priority))
        if any(job.started_at is None for job in jobs):
            self.claimed_ahead()

    async def _return_late(self) -> None:
        """Return the jobs for which no slot came free in time."""
        while True:
            while not self._inbox:
                await self._waiting.park()
            due = self._judgement_due()
            await trio.sleep_until(due)
            now = trio.current_time()
            if self._inbox and self._judgement_due() <= now:
                self._judge(now, standstill=now - due > STANDSTILL)

    def _judgement_due(self) -> float:
        """Return when the oldest jobs have waited for long: those at the front, or of low priority at the end."""
        return self._arrivals.due(self._inbox[0], self._inbox[-1])

    def _judge(self, now: float, *, standstill: bool) -> None:
        """Return the jobs of claims that have waited for too long."""
        late = self._arrivals.late(self._inbox, now, finished=self._finished, standstill=standstill)
        if late:
            back = [job for job in self._inbox if job.lease in late]
            self._inbox = deque([job for job in self._inbox if job.lease not in late])
            for job in back:
                self._return_unstarted(job)

    def _start_tasks(self) -> None:
        """Start a task for each waiting job while there are free slots."""
        nursery = self._nursery
        if nursery is None:
            return
        for _ in range(min(self.concurrency - self._tasks, len(self._inbox))):
            self._tasks += 1
            nursery.start_soon(self._execute, name=f"executor of {self.name}")

    def _withdraw_cancelled(self) -> None:
        """Return jobs that an operator has cancelled before their start; the storage ends them as cancelled."""
        for job in [job for job in self._inbox if JobRef(job.id, job.lease) in self._cancels]:
            self._inbox.remove(job)
            if not self._parking.let_go_on(job):
                self._return_unstarted(job)

    def _return_unstarted(self, job: Claimed) -> None:
        self._outbox.add(Report(unstarted(job), job, 0.0))

    # ------------------------------------------------------------------ orders

    async def _receive_orders(self) -> None:
        try:
            async for order in self.channels.orders:
                self._follow(order)
        finally:  # this actor is being cancelled, and no shield of an attempt must hold that up
            for attempt in (*self.running, *self._parking):
                if attempt.scopes is not None:
                    attempt.scopes.cut = True
                    attempt.scopes.end_shields()

    def _follow(self, order: ExecutorsOrder) -> None:
        match order:
            case Cancels(requests, nurseries):
                self._cancels = {request.ref: request for request in requests}
                self._cancel_requested()
                for ending in nurseries:
                    self._cancel_body(ending.ref, ending.name)
            case Resize(concurrency):
                self.concurrency = concurrency
                self._idle.unpark_all()  # tasks beyond a lower concurrency end
                self._start_tasks()
            case Fence(worker, reason):
                if worker == self._worker:  # otherwise the executors hold no job of that worker id any more
                    self._cancel_all(Stop.LEASE_LOST, reason)
                    self._take(Withdraw(0))  # written before the rescue, this uses up no attempt
            case StopAll(stop, reason):
                self._stopped = True  # a batch may still be in the channel
                self._cancel_all(stop, reason)
                self._take(Withdraw(0))
            case Abandon(reason):
                self._abandon(reason)
            case _:
                assert_never(order)

    def _cancel_requested(self) -> None:
        """Cancel the running jobs, and return the waiting ones, for which there is a cancel request."""
        self._parking.follow_leases(self._cancels)
        for attempt in (*self._running, *self._parking):
            request = self._cancels.get(attempt.ref)
            if request is not None and attempt.cancel(Stop(request.stop), request.reason):
                self.observe(JobCancelPhase(attempt.job.id, attempt.job.name, "received", request.reason))
        self._withdraw_cancelled()

    def _cancel_body(self, ref: JobRef, nursery: str) -> None:
        """Cancel the body of a nursery that is being ended, if it still runs.

        The notice may be older than the attempt's claim, if the attempt was parked meanwhile.
        """
        for attempt in (*self._running, *self._parking):
            if attempt.has_held(ref) and attempt.scopes is not None and nursery in attempt.scopes.bodies:
                attempt.scopes.bodies[nursery].cancel()

    def _cancel_all(self, stop: Stop, reason: str) -> None:
        for attempt in (*self._running, *self._parking):
            attempt.cancel(stop, reason)

    def _abandon(self, reason: str) -> None:
        """Report running attempts as interrupted: the process exits before they end."""
        self._parking.abandon(reason)
        for attempt in self._running:
            if not attempt.abandoned:
                attempt.abandoned = True
                outcome = interrupted(attempt.job, reason)._replace(began=attempt.began)
                self._outbox.add(Report(outcome, attempt.job, 0.0))

    # ------------------------------------------------------------------ slots, for `Parking`

    def give_up(self, attempt: Running, report: Report) -> None:
        """Give the slot of an attempt that waits to others."""
        del self._running[attempt]
        self._tasks -= 1
        self._outbox.add(report)
        if self._inbox:
            self._start_tasks()

    def occupy(self, attempt: Running) -> None:
        """Give a slot to an attempt whose wait is over."""
        self._tasks += 1
        self._running[attempt] = None

    def count_in(self) -> None:
        """Count a task whose attempt ends without a slot: it then looks for work like the others, or ends."""
        self._tasks += 1

    def send(self) -> None:
        """Send what the parking holds."""
        self._outbox.wake()
        self._outbox.look()

    # ------------------------------------------------------------------ executing

    async def _execute(self) -> None:
        """Run jobs from the inbox until there are more tasks than `concurrency`."""
        clean = copy_context()
        try:
            while self._tasks <= self.concurrency:
                if self._inbox:
                    await self._burst(clean)
                else:
                    await self._idle.park()
        finally:
            self._tasks -= 1

    async def _burst(self, clean: Context) -> None:  # noqa: PLR0915 - once for each job; see `_end`
        """Run one job after another in one cancel scope, until the inbox is empty or an attempt was cancelled.

        A scope costs 6 µs, a quarter of the budget of an attempt. One that was not cancelled can be used again.
        """
        attempt: Running | None = None
        problem: BaseException | None = None
        try:
            with trio.CancelScope() as scope:
                in_a_row, now, cancelled = 0, trio.current_time(), False
                while self._inbox and not cancelled:
                    job = self._inbox.popleft()
                    if self._parking.attempts and self._parking.let_go_on(job):
                        break
                    attempt = self.runner.begin(job, scope, now=now, began=self._arrivals.began(job, now))
                    attempt.slots = self._parking
                    self._running[attempt] = None
                    now = self._end(attempt, await self.runner.run(attempt))
                    cancelled, attempt = attempt.cancelled, None
                    self.directory.restore()
                    in_a_row += 1
                    if copy_context() != clean or in_a_row >= _CHECKPOINT_EVERY:
                        in_a_row = 0
                        await _restore(clean)
                        now = trio.current_time()
        except BaseException as error:
            if attempt is None or _is_closed(attempt.task):
                raise
            if _from_above(error):
                self._end(attempt, self.runner.cut(attempt))
                await _raise_again(error)
            problem = error
        if attempt is not None:
            self.directory.restore()
            self._end(attempt, self.runner.stopped(attempt, problem))
            await _restore(clean)

    def _end(self, attempt: Running, outcome: Outcome) -> float:
        """Report the outcome and return the time.

        This and `_burst` run once for each job. For speed they contain code that would otherwise be in functions.
        """
        job = attempt.job
        attempt.over = now = self.runner.now()
        if attempt.limited:
            attempt.scope.deadline = math.inf
        if attempt.waits is not None:
            outcome = outcome_of_waiting(attempt, outcome)
            if attempt.waits.parked:
                if (back := self._parking.end(attempt, outcome)) is not None:
                    self._return_unstarted(back)
                return now
        self._running.pop(attempt, None)  # SIGINT may have come before it was added
        if attempt.abandoned:
            return now
        seconds = now - attempt.started
        self._finished += 1
        total = self._durations[job.name]
        total[0] += 1
        total[1] += seconds
        if attempt.completed:
            self._outbox.written.append(Report(Outcome(job.id, job.lease), job, seconds))
        else:
            if attempt.first_lease is not None or (attempt.began is not None and outcome.began is None):
                outcome = attempt.told_by(outcome)
            self._outbox.reports.append(_new(Report, (outcome, job, seconds)))
            if outcome.hold is not None:  # nothing that has not started may start now
                self._take(Withdraw(0))
        if not self._inbox:
            self._outbox.send_now()
        elif len(self._outbox.reports) + len(self._outbox.written) == 1:
            self._outbox.wake()
        return now


async def _restore(clean: Context) -> None:
    """Restore the task's context variables, and let other tasks run.

    The variables that an attempt has set cannot be reset without its tokens. So the task continues in a copy of its
    first context. Trio uses the copy once the task has yielded, hence the checkpoint.
    """
    trio.lowlevel.current_task().context = clean.copy()
    await trio.lowlevel.checkpoint()


def _is_closed(task: trio.lowlevel.Task) -> bool:
    """Return whether Python closes the coroutine of a task that Trio does not run any more."""
    try:
        return trio.lowlevel.current_task() is not task
    except RuntimeError:
        return True


def _from_above(error: BaseException) -> bool:
    """Return whether a scope around the executor is cancelled, or a person has interrupted the program.

    Nothing else ends more than the attempt: a job may raise what it likes. The types do not tell, but the scopes do,
    and the handler of SIGINT.
    """
    return trio.current_effective_deadline() == -math.inf or from_signal(error)


async def _raise_again(error: BaseException) -> NoReturn:
    """Raise what came from above: the person's interrupt, or Trio's own `Cancelled` instead of anything of the job."""
    if not from_signal(error):
        await trio.lowlevel.checkpoint_if_cancelled()
    raise error
