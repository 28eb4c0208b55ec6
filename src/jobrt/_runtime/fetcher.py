"""Actor that claims jobs for one queue, writes outcomes along with its claims, and keeps the executors fed.

Its state is in a `Ledger`, which survives a restart and makes the decisions. A *fetch* is one claim, or the finding
that nothing may be claimed now.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import assert_never

import attrs
import trio

from jobrt._core.attempts import unstarted
from jobrt._core.job import Claimed
from jobrt._core.limits import Demand, demand
from jobrt._core.pulse import next_pulse
from jobrt._runtime.arrivals import STANDSTILL
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.ledger import LARGEST_CLAIM, Ledger
from jobrt._runtime.messages import (
    CancelClaims,
    FetcherOrder,
    Holding,
    IdleQuestion,
    OutcomeBatch,
    Report,
    Returned,
    Returns,
    Settings,
    Settled,
    Withdraw,
    Work,
)
from jobrt._runtime.name_limits import QueueNames
from jobrt._runtime.outage import Backoff
from jobrt._runtime.outcomes import Outcomes, Settler
from jobrt._runtime.pace import Pace
from jobrt._runtime.unsent import send_all, send_some
from jobrt._storage.contract import AttemptStore, Exchange
from jobrt._supervision.decisions import describe
from jobrt.errors import StorageUnavailable
from jobrt.events import JobsClaimed


@attrs.frozen(kw_only=True)
class FetcherChannels:
    """Ends of the channels that a fetcher uses."""

    wake: Wakeup
    work: trio.MemorySendChannel[Work]
    returns: trio.MemoryReceiveChannel[Returns]
    orders: trio.MemoryReceiveChannel[FetcherOrder]
    settled: trio.MemoryReceiveChannel[Settled]
    rejected: trio.MemorySendChannel[OutcomeBatch]


@attrs.define(eq=False, kw_only=True)
class Fetcher:
    """Actor that claims jobs when woken, while there is room, and sends them to the executors in batches.

    One claim runs at a time. Under load, when a single large claim cannot fill the prefetch, there are two: the
    database works on the second while the jobs of the first are transferred. A claim whose reply was lost may have
    been committed. So before the next claim, while no other runs, the storage gets the list of the known claims and
    releases all others.

    A stop is passed on by closing channels. The worker closes ``wake``, the fetcher ``work``, the executors
    ``returns``. Then ``ended`` is set.
    """

    name: str
    ledger: Ledger
    names: tuple[str, ...]
    fits: str
    pace: Pace
    limits: QueueNames
    channels: FetcherChannels
    outcomes: Outcomes
    settler: Settler
    attempts: AttemptStore
    claimant: Callable[[], str | None]
    backoff: Backoff
    ended: trio.Event = attrs.Factory(trio.Event)
    _large: Wakeup = attrs.Factory(Wakeup)
    _paced: Wakeup = attrs.Factory(Wakeup)
    _released: Wakeup = attrs.Factory(Wakeup)
    _chained: Wakeup = attrs.Factory(Wakeup)
    _claims: dict[trio.CancelScope, Demand] = attrs.Factory(dict)
    _closed: bool = False
    _look: bool = False
    """A wake-up has come since the last claim: there may be an urgent job."""
    _fetching: int = 0
    _fetch_ended: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _numbers: Iterator[int] = attrs.Factory(count)
    _fetches: int = 0
    _questions: list[tuple[int, IdleQuestion]] = attrs.Factory(list)
    """Open questions whether the queue is idle, each with the number of the last fetch that began before it."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim until the worker closes ``wake``, wait until all jobs have come back, then sleep until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_settled)
            nursery.start_soon(self._receive_orders)
            nursery.start_soon(self._claim_ahead)
            if self.ledger.settings.rated:
                nursery.start_soon(self._send_paced)
            if self.ledger.chains is not None:
                nursery.start_soon(self._send_released)
                nursery.start_soon(self._return_late)
            task_status.started()
            async with trio.open_nursery() as inner:
                inner.start_soon(self._receive_returns)
                await self._send_unsent()  # a restart may have cancelled the previous run of this actor here
                await self._claim_until_closed()
                await self._close()
            nursery.cancel_scope.cancel()
        self.ended.set()
        await trio.sleep_forever()

    # ------------------------------------------------------------------ claiming

    async def _claim_until_closed(self) -> None:
        """Claim whenever woken, and at every poll interval."""
        self.channels.wake.ring()
        try:
            while True:
                with trio.move_on_at(self._next_look()):
                    await self.channels.wake.wait()
                    self._look = True
                while await self._fetch():
                    pass
        except trio.EndOfChannel:
            return

    def _next_look(self) -> float:
        """Return the time of the next claim without a wake-up."""
        poll = next_pulse(trio.current_time(), self.ledger.settings.poll_interval)
        return min(poll, self.ledger.look_at()) if self._look else poll

    async def _claim_ahead(self) -> None:
        """Run a second claim at the same time as the first, as long as there is work for both."""
        while True:
            await self._large.wait()
            while self.ledger.wants_second_claim(trio.current_time()) and await self._fetch():
                pass

    async def _send_paced(self) -> None:
        """Send each job that waits for its token when the token is there."""
        while True:
            with trio.move_on_at(self.ledger.next_start()):
                await self._paced.wait()
            self.ledger.release(trio.current_time())
            await self._send_unsent()

    async def _send_released(self) -> None:
        """Send the jobs whose slots have become free while the channel had no room."""
        while True:
            await self._released.wait()
            await self._send_unsent()

    async def _return_late(self) -> None:
        """Return jobs that have waited for a slot of a limit for too long."""
        chains = self.ledger.chains
        while chains is not None:
            while not chains.waiting:
                await self._chained.wait()
            due = chains.due()
            await trio.sleep_until(due)
            now = trio.current_time()
            late, stuck = chains.late(now, standstill=now - due > STANDSTILL)
            self._return(late, slow=not stuck)

    async def _close(self) -> None:
        """Take back jobs that have not started, and close the channel to the executors."""
        if self._closed:
            return
        await self._withdraw(keep=0)
        while self._fetching:
            await self._fetch_ended.park()
        self._return_unsent()
        self._closed = True
        self.channels.work.close()

    async def _fetch(self) -> bool:
        """Claim once if possible; return whether to claim again immediately."""
        if self.channels.wake.closed.is_set():
            return False
        self._fetching += 1
        try:
            return await self._claim_if_possible()
        finally:
            self._fetching -= 1
            self._fetch_ended.unpark_all()

    async def _claim_if_possible(self) -> bool:
        self._fetches += 1
        number, was_idle = self._fetches, self.ledger.idle
        if self.ledger.paused:
            self.ledger.cycles += 1
            self._look = False
            await self._withdraw(keep=0)
            if self.ledger.paced or self.ledger.chained:
                self._return_unsent()
            self._answer(number, idle=was_idle)
            return False
        worker = self.claimant()
        if worker is None or self.ledger.crowded:
            self._look = False  # there will be another wake-up
            return False
        wanted = self._demand(worker)
        if wanted.limit > 0:  # before the claim, which must not count slots that become free during it
            self.limits.note_claim(wanted)
        else:
            self.ledger.more = True  # there may be a job for the next free slot
        if wanted.empty:
            self.ledger.cycles += 1  # nothing may be claimed, but the watchdog must see activity
            self._answer(number, idle=was_idle and not self.names and not self.limits)
            return False
        return await self._claim(wanted, number=number, was_idle=was_idle)

    async def _claim(self, wanted: Demand, *, number: int, was_idle: bool) -> bool:
        exchange: Exchange | None = None
        try:
            with self._claiming(wanted) as scope:
                if (done := await self._exchange(wanted)) is not None:
                    exchange, asked = done
                    self._accept(asked, exchange)
        except Exception as error:
            self.ledger.note_failure(describe(error), trio.current_time())
            if not isinstance(error, StorageUnavailable):
                raise
            self.channels.wake.ring()  # the next claim reconciles
            await self.backoff.wait(error, until=self.channels.wake.closed)
            return True
        if exchange is None:  # cancelled by a stop, or to be repeated without the outcomes
            return not scope.cancelled_caught
        self.backoff.reset()
        self.ledger.claim_failure = None
        if self.ledger.paused or self.channels.wake.closed.is_set() or self.claimant() != wanted.worker:
            self._return_unsent()  # the state has changed during the claim
        await self._send_unsent()
        if (due := self.ledger.parked.next_claim(exchange.next_due)) is not None:
            self.settler.announce(self.name, due)
        nothing_due = not (exchange.jobs or exchange.cut or exchange.held_back)
        self._answer(number, idle=was_idle and nothing_due)
        if not exchange.held_back:  # else the claim at `next_due` answers the questions
            self._fetch_again()
        full = exchange.cut or len(exchange.jobs) >= wanted.limit
        return full and self.ledger.wants_refill(trio.current_time())

    def _demand(self, worker: str) -> Demand:
        return demand(
            worker,
            self.name,
            settings=self.ledger.settings,
            room=self._room(trio.current_time()),
            names=self.names,
            free=self.limits.limits.free(),
            fits=self.fits,
            aliases=self.limits.limits.aliases,
            ahead=self.ledger.room_ahead(trio.current_time()),
            parked=self.ledger.parked.named(),
        )

    def _room(self, now: float) -> int:
        """Return how many jobs to claim: after a wake-up as many as there are slots, if others wait in the inbox."""
        room = min(self.ledger.room(now), LARGEST_CLAIM)
        if room > 0:
            self._look = False
        elif self._look and now >= self.ledger.look_at():
            self._look, room = False, self.ledger.concurrency
            self.ledger.note_look(now)
        return room

    @contextmanager
    def _claiming(self, wanted: Demand) -> Generator[trio.CancelScope]:
        """Count a claim until its jobs are accepted or it has failed."""
        self.limits.reserve(wanted)
        self.ledger.claiming += wanted.limit
        with trio.CancelScope() as scope:
            self._claims[scope] = wanted
            try:
                yield scope
            finally:
                del self._claims[scope]
                self.ledger.claiming -= wanted.limit
                self.limits.release(wanted)
                self._fetch_ended.unpark_all()

    async def _exchange(self, wanted: Demand) -> tuple[Exchange, Demand] | None:
        """Claim, and write the waiting outcomes with it; return None if the storage has refused both together.

        The demand that is returned says how many of the jobs could begin at once.
        """
        if self.ledger.unresolved:
            await self._reconcile(wanted.worker)
        if wanted.limit == LARGEST_CLAIM and not wanted.clustered:
            self._large.ring()
        batches = self.outcomes.take()
        own = [batch for batch in batches if batch.queue == self.name]
        wanted = attrs.evolve(wanted, free_slots=self.ledger.free_slots(wanted, own))
        self.ledger.starting += wanted.starting
        self.ledger.note_writes_beside(wanted, own)
        reports = [report for batch in batches for report in batch.reports]
        try:
            exchange = await self.attempts.exchange([report.outcome for report in reports], wanted)
        except BaseException as error:
            self.ledger.unresolved += 1
            refused = isinstance(error, Exception) and not isinstance(error, StorageUnavailable)
            for batch in batches:
                if refused:  # the cause may be an outcome or the claim: repeat it without outcomes
                    self.channels.rejected.send_nowait(batch)
                else:
                    self.outcomes.put(batch)
            if refused and batches:
                self.outcomes.arrived.ring()  # the completer writes them one by one
                return None
            raise
        finally:
            self.ledger.starting -= wanted.starting
        self.settler.settle(batches, exchange.refused)
        self.ledger.beside = self.ledger.beside and len(exchange.jobs) < wanted.limit
        return exchange, wanted

    async def _reconcile(self, worker: str) -> None:
        """Let the storage release the jobs that are leased to this worker but unknown to it."""
        while len(self._claims) > 1:  # otherwise the other claim's jobs would be released as unknown
            await self._fetch_ended.park()
        unresolved = self.ledger.unresolved
        await self.attempts.release_unknown(worker, self.name, self.ledger.known())
        self.ledger.unresolved -= unresolved  # what was added in the meantime is left to the next claim

    def _accept(self, wanted: Demand, exchange: Exchange) -> None:
        """Accept the jobs of a claim. There is no checkpoint in between, so they always have an owner."""
        try:
            left_out = self.limits.note_claim(wanted, exchange.jobs)
            self.limits.take(exchange.jobs)
            more = left_out or exchange.cut
            now = trio.current_time()
            self.ledger.accept(
                wanted, exchange.jobs, left_out=more, now=now, at=exchange.at, keys=exchange.keys
            )
            if self.ledger.paced:
                self._paced.ring()
            if self.ledger.chained:
                self._chained.ring()
        except BaseException:
            self.ledger.unresolved += 1  # no actor knows of these jobs, so the next claim releases them
            raise
        if exchange.jobs:
            self.pace.stir()
            self.settler.emit.routine(JobsClaimed(self.name, wanted.limit, len(exchange.jobs)))

    # ------------------------------------------------------------------ executors

    async def _send_unsent(self) -> None:
        """Send claimed batches to the executors; after a restart, send those whose sending was cancelled."""
        await send_all(self.ledger.unsent, self.channels.work)

    def _return_unsent(self) -> None:
        """Return claimed jobs that were not sent to the executors."""
        self._return(self.ledger.drop_unsent())

    def _return(self, jobs: Sequence[Claimed], *, slow: bool = False) -> None:
        """Return claimed jobs that have not started; `slow`: they would begin late, but others end."""
        if jobs:
            self._take_back(Returned(tuple(Report(unstarted(job), job, 0.0) for job in jobs), 0), slow=slow)

    async def _withdraw(self, *, keep: int) -> None:
        """Ask the executors to return the jobs that have not started, except for the first `keep`."""
        if self.ledger.held > keep:
            await self.channels.work.send(Withdraw(keep))

    async def _receive_returns(self) -> None:
        async for message in self.channels.returns:
            match message:
                case Returned():
                    self._take_back(message)
                case Holding():
                    self.limits.reset(self.ledger.compare(message, now=trio.current_time()))
                    self._released.ring()
                    self.channels.wake.ring()
                case _:
                    assert_never(message)

    def _take_back(self, message: Returned, *, slow: bool = False) -> None:
        """Pass outcomes on to the writers, and wake the claiming task if there is room for more jobs."""
        reports = (*message.reports, *message.parked) if message.parked else message.reports
        batch = OutcomeBatch(self.name, next(self._numbers), reports) if reports else None
        now = trio.current_time()
        held_back = self.ledger.chained or self.ledger.paced
        if held_back and any(report.outcome.hold is not None for report in message.reports):
            self._return_unsent()  # nothing that has not started may start now
        withdrawn = self.ledger.withdraw(message.parked)
        unheld = len(message.parked) - len(withdrawn)
        self.ledger.take_back(batch, attempts=message.attempts, unheld=unheld, now=now)
        if unstarted := len(message.reports) + len(message.written) - message.attempts:
            self.ledger.set_back(0 if slow else unstarted, now)
        if message.written:
            self.settler.note(message.written)
            self.ledger.take_written(message.written, now=now)
        ended = [report.job for report in (*message.reports, *message.written)] if self.limits else []
        limited = bool(self.limits) and self.limits.give(ended + withdrawn)
        if batch is not None:
            self.outcomes.put(batch)
        if self.ledger.unsent and not self._closed and not send_some(self.ledger.unsent, self.channels.work):
            self._released.ring()
        if self.ledger.more and (limited or self.ledger.wants_refill(trio.current_time())):
            self.channels.wake.ring()
        self._fetch_again()

    # ------------------------------------------------------------------ orders and answers

    async def _receive_settled(self) -> None:
        async for message in self.channels.settled:
            wanted = self.ledger.crowded or self.ledger.beside
            self.ledger.settle(message.number, message.lost)
            if message.lost or wanted:
                self.channels.wake.ring()
            self._fetch_again()

    async def _receive_orders(self) -> None:
        async for order in self.channels.orders:
            match order:
                case Settings():
                    self.ledger.apply(order)
                    self.channels.wake.ring()
                case IdleQuestion():
                    self._questions.append((self._fetches, order))
                    self.channels.wake.ring()
                case CancelClaims(reason):
                    for scope in self._claims:
                        scope.cancel(reason=reason)
                case _:
                    assert_never(order)

    def _answer(self, number: int, *, idle: bool) -> None:
        """Answer the questions that were asked before the fetch `number`, which found nothing while no job was open."""
        if not idle:
            return
        for after, question in self._questions:
            if after < number:
                question.reply.send_nowait(self.ledger.claimed)
        self._questions = [entry for entry in self._questions if entry[0] >= number]

    def _fetch_again(self) -> None:
        """Fetch again for open questions when the last open job is settled: it may have left a due job."""
        if self._questions and self.ledger.idle:
            self.channels.wake.ring()
