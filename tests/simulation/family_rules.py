"""Guarantees of families, checked after every commit, in the same step of the event loop."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import attrs
import trio

from jobrt._core.states import Transition
from jobrt._runtime import parking
from jobrt._storage.sqlite.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

    from tests.simulation.world import World

__all__ = ["FamilyRules"]

FINAL = "(4, 5, 6)"
"""The final states, by their numbers in SQLite."""

_SURVIVORS = f"""
SELECT m.job_id, m.child_id FROM jobrt_member AS m
JOIN jobrt_job AS p ON p.id = m.job_id JOIN jobrt_job AS c ON c.id = m.child_id
WHERE m.kind = 'c' AND p.state IN {FINAL} AND c.state NOT IN {FINAL}
"""
_WRONG_FLAGS = f"""
SELECT m.job_id, m.child_id FROM jobrt_member AS m JOIN jobrt_job AS c ON c.id = m.child_id
WHERE m.kind = 'c' AND m.alive <> (c.state NOT IN {FINAL})
"""
_HELD = "SELECT id, lease FROM jobrt_job WHERE state = 3"
_ASKED = "SELECT id, lease FROM jobrt_job WHERE state = 3 AND cancel_reason IS NOT NULL"
_OVER = "SELECT job_id, name FROM jobrt_nursery WHERE state <> 'open'"
_JOINED = "SELECT number, job_id, child_id FROM jobrt_member WHERE kind = 'c' AND number > ?"
_ABOVE = """
WITH RECURSIVE above (id, nursery) AS (
    SELECT job_id, nursery FROM jobrt_member WHERE child_id = ? AND kind = 'c'
    UNION SELECT m.job_id, m.nursery FROM above JOIN jobrt_member AS m ON m.child_id = above.id AND m.kind = 'c'
)
SELECT id, nursery FROM above
"""
_MAY_GO_ON = """
SELECT id FROM jobrt_job
WHERE state < 3 AND lease > 0 AND queue = :queue AND worker = :worker AND cancel_reason IS NULL AND schedule_at <= :at
    AND NOT extra & 72
    AND EXISTS (SELECT 1 FROM jobrt_worker WHERE id = :worker AND expires_at > :at)
    AND NOT EXISTS (SELECT 1 FROM jobrt_queue WHERE name = :queue AND paused)
"""
"""Jobs that are due and parked in a worker: nothing holds them back but its slots."""
_KEPT = "SELECT job_id, value FROM jobrt_message WHERE received = 0"


@attrs.define(eq=False)
class FamilyRules:
    """What must hold of families in a database, and what is known about their messages and ends."""

    world: World
    connection: sqlite3.Connection
    over: set[tuple[int, str]] = attrs.Factory(set)
    """The nurseries that were not open after the last commit."""
    held: set[tuple[int, int]] = attrs.Factory(set)
    last_member: int = 0
    completed: set[int] = attrs.Factory(set)
    sent: Counter[tuple[int, str]] = attrs.Factory(Counter)
    answers: dict[tuple[int, int], str] = attrs.Factory(dict)
    """The messages that were received, by job and number of the call."""
    asleep: dict[tuple[int, str], float] = attrs.Factory(dict)
    """When each durable sleep was first asked for."""
    left: dict[tuple[str, str], set[int]] = attrs.Factory(dict)
    """Of each worker and rated queue, the parked jobs that the last claim has left although they may go on."""

    @contextmanager
    def watching(self) -> Generator[None]:
        """Check every commit in a block, and tell the world who is parked."""
        transact, leave = Database._transact, Database._leave
        add, resume, continue_under = parking.Parking._add, parking.resume, parking.continue_under

        def transacted(database: Any, *args: Any, **kwargs: Any) -> Any:
            result = transact(database, *args, **kwargs)
            self.committed()
            return result

        def left(database: Any, *args: Any) -> None:
            leave(database, *args)
            self.committed()

        def parked(place: Any, attempt: Any, waits: Any) -> None:
            add(place, attempt, waits)
            self.world.parked((attempt.job.id, attempt.job.lease))

        def resumed(attempt: Any, job: Any, *, now: float) -> None:
            resume(attempt, job, now=now)
            self.world.goes_on((job.id, job.lease))

        def continued(attempt: Any, job: Any) -> None:
            before = attempt.job.id, attempt.job.lease
            continue_under(attempt, job)
            self.world.has_another_lease(before, (job.id, job.lease))

        with (
            mock.patch.object(Database, "_transact", transacted),
            mock.patch.object(Database, "_leave", left),
            mock.patch.object(parking.Parking, "_add", parked),
            mock.patch.object(parking, "resume", resumed),
            mock.patch.object(parking, "continue_under", continued),
        ):
            yield

    # ------------------------------------------------------------------ after each commit

    def committed(self) -> None:
        """Check that nobody outlives an ancestor, and that nobody has come or started in a scope that is over."""
        for parent, child in self.connection.execute(_SURVIVORS):
            self.world.violation(f"job {child} is alive, but its parent {parent} is final")
        for parent, child in self.connection.execute(_WRONG_FLAGS):
            self.world.violation(f"job {child} is not noted as it is in the nursery of {parent}")
        over = set(self.connection.execute(_OVER))
        held = set(self.connection.execute(_HELD))
        ended = over & self.over
        for number, parent, child in self.connection.execute(_JOINED, (self.last_member,)).fetchall():
            self.last_member = max(self.last_member, number)
            self._check_above(child, ended, f"was enqueued by {parent}")
        for job_id, lease in held - self.held if ended else ():
            self._check_above(job_id, ended, f"was claimed under {lease}")
        for job_id, lease in set(self.connection.execute(_ASKED)) - self.held:
            self.world.violation(f"job {job_id} was claimed under {lease}, but it is asked to stop")
        self.over, self.held = over, held

    def _check_above(self, job_id: int, ended: set[tuple[int, str]], what: str) -> None:
        for nursery in self.connection.execute(_ABOVE, (job_id,)):
            if nursery in ended:
                row = self.connection.execute(
                    "SELECT * FROM jobrt_nursery WHERE job_id = ? AND name = ?", nursery
                )
                self.world.violation(f"job {job_id} {what}, but the nursery {row.fetchone()} is over")

    # ------------------------------------------------------------------ calls

    def called(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Note what a call says about messages and sleeps."""
        match name:
            case "exchange" if args[1].rated:
                self._check_going_on(args[1], result)
            case "receive" if result.end == "message":
                self._received((args[0].id, args[2]), result.value)
            case "scopes.enqueue":
                self.world.expected.update(row.id for row in result if not row.duplicate)
            case "send" if result:
                self.sent[args[0], args[2]] += 1
            case "scopes.sleep":
                begun = self.asleep.setdefault((args[0].id, args[1]), trio.current_time())
                self.world.note(f"sleep of {args[0].id} since {begun}: {result} left")
            case _:
                pass

    def _check_going_on(self, demand: Any, result: Any) -> None:
        """Check that a claim with free slots leaves no parked job, whatever tokens and pauses there are.

        The demand may be older than the attempt's outcome that has parked it. The next one names the job.
        """
        if demand.empty or len(result.jobs) >= demand.starting:
            return
        values = {"queue": demand.queue, "worker": demand.worker, "at": result.at}
        here = {job_id for job_id, _ in self.world.attempts}
        left = {row[0] for row in self.connection.execute(_MAY_GO_ON, values)} & here
        before = self.left.get((demand.worker, demand.queue), set())
        for job_id in left & (before | set(demand.parked)):
            self.world.violation(
                f"job {job_id} is parked in {demand.worker}, and waits although it may go on"
            )
        self.left[demand.worker, demand.queue] = left

    def slept(self, job_id: int, name: str, seconds: float) -> None:
        """Check that a durable sleep took its time."""
        took = trio.current_time() - self.asleep[job_id, name]
        if took < seconds - 1e-5 and not self.world.steps:
            self.world.violation(f"job {job_id} slept {took} s instead of {seconds} s")

    def _received(self, call: tuple[int, int], value: str) -> None:
        job_id = call[0]
        if self.answers.setdefault(call, value) != value:
            self.world.violation(f"{call} received {self.answers[call]} in one run and {value} in another")
        if sum(text == value for (who, _), text in self.answers.items() if who == job_id) > 1:
            self.world.violation(f"job {job_id} received the message {value} twice")

    def ended(self, outcome: Any) -> None:
        """Note the end of an attempt; a job completes once."""
        if outcome.event is Transition.COMPLETE:
            if outcome.id in self.completed:
                self.world.violation(f"job {outcome.id} has completed twice")
            self.completed.add(outcome.id)

    def begins(self, job_id: int) -> None:
        """Check that a job that has completed does not run again, because its parent did or for another reason."""
        if job_id in self.completed:
            self.world.violation(f"job {job_id} runs again, although it has completed")

    # ------------------------------------------------------------------ at the end

    def check_messages(self) -> None:
        """Check that each message was received once, or is kept."""
        kept = Counter[tuple[int, str]](self.connection.execute(_KEPT))
        received = Counter((job_id, value) for (job_id, _), value in self.answers.items())
        found = kept + received
        assert found == self.sent, (
            f"sent, but neither kept nor received: {self.sent - found}; {found - self.sent}"
        )
