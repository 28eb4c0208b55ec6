"""The checker finds each kind of fault, and accepts what is no fault."""

from __future__ import annotations

import attrs
import pytest

from tests.chaos.history import Deed, Entry, Ledger, Report, check, parse

COMPLETED = Ledger("completed", 1)


def body(lease: int, begin: float, end: float | None, *, pid: int = 1, what: str = "end") -> list[Entry]:
    """Return what one body of job 7 wrote."""
    first = Entry("begin", 7, lease, lease, pid, begin)
    return [first] if end is None else [first, attrs.evolve(first, what=what, at=end)]


def judge(entries: list[Entry], ledger: Ledger | None, deeds: list[Deed] | None = None) -> Report:
    """Check a run of which this is all."""
    return check([7], entries, ledgers={} if ledger is None else {7: ledger}, deeds=deeds or [])


def crashed(*leases: int, landed: int) -> Ledger:
    """Return what the database says of a job that crashed before it was completed."""
    return Ledger("completed", landed, dict.fromkeys(leases, "crashed"))


def kinds(report: Report) -> set[str]:
    """Return what kinds of fault were found."""
    return {kind for kind in ("lost", "doubled", "overlapping", "stuck") if getattr(report, kind)}


def test_a_job_that_ran_once_is_right() -> None:
    """One body, one end, one completed row."""
    report = judge(body(1, 0, 1), COMPLETED)
    assert report == Report(jobs=1, bodies=1, again=0)


def test_a_killed_workers_job_that_ran_again_is_right() -> None:
    """The first body has no end; the database has the crash on record."""
    deeds = [Deed("kill", 1, 0.5)]
    report = judge([*body(1, 0, None), *body(2, 4, 5, pid=2)], crashed(1, landed=2), deeds)
    assert (report.faults, report.again) == ((), 1)


def test_an_end_that_was_not_written_before_the_kill_is_right() -> None:
    """The body came to its end twice, and the log shows why."""
    entries = [*body(1, 0, 1), *body(2, 4, 5, pid=2)]
    assert judge(entries, crashed(1, landed=2), [Deed("kill", 1, 1.1)]).faults == ()


def test_a_frozen_workers_body_does_not_run() -> None:
    """Another runs the job meanwhile; the thawed one is cut as soon as it looks at its lease."""
    deeds = [Deed("freeze", 1, 1), Deed("thaw", 1, 10)]
    entries = [*body(1, 0, 10.2, what="cut"), *body(2, 5, 6, pid=2)]
    assert judge(entries, crashed(1, landed=2), deeds).faults == ()


@pytest.mark.parametrize(
    ("entries", "ledger", "kind"),
    [
        pytest.param([], None, "lost", id="not in the database"),
        pytest.param([], COMPLETED, "lost", id="completed and never ran"),
        pytest.param(body(1, 0, 1, what="cut"), COMPLETED, "lost", id="completed by a body that was cut"),
        pytest.param(body(1, 0, 1), Ledger("discarded", 1, {1: "failed"}), "lost", id="discarded"),
        pytest.param(body(1, 0, 1), Ledger("executing", 1, {1: "crashed"}), "stuck", id="still executing"),
        pytest.param([], Ledger("available", None), "stuck", id="never claimed"),
        pytest.param(
            [*body(1, 0, 1), *body(2, 3, 4)], COMPLETED, "doubled", id="ran unknown to the database"
        ),
        pytest.param([*body(1, 0, 1), *body(1, 3, 4)], COMPLETED, "doubled", id="twice under one lease"),
        pytest.param(
            [*body(1, 0, 1), *body(2, 3, 4)],
            Ledger("completed", 2, {1: "finished"}),
            "doubled",
            id="finished twice",
        ),
        pytest.param(
            [*body(1, 0, 5), *body(2, 3, 6, pid=2)],
            crashed(1, landed=2),
            "overlapping",
            id="at the same time",
        ),
        pytest.param(
            [*body(1, 0, None), *body(2, 3, 6, pid=2)],
            crashed(1, landed=2),
            "overlapping",
            id="an end is missing",
        ),
    ],
)
def test_a_fault_is_found(entries: list[Entry], ledger: Ledger | None, kind: str) -> None:
    """Each kind by itself, and no other kind with it."""
    assert kinds(judge(entries, ledger)) == {kind}


def test_a_thawed_body_that_goes_on_is_found() -> None:
    """A worker that does not look at its lease when it wakes runs beside the one that took over."""
    deeds = [Deed("freeze", 1, 1), Deed("thaw", 1, 4)]
    entries = [*body(1, 0, 8, what="cut"), *body(2, 3, 9, pid=2)]
    assert kinds(judge(entries, crashed(1, landed=2), deeds)) == {"overlapping"}


def test_a_log_is_read_as_it_is_written() -> None:
    """Nanoseconds in the log are seconds to the checker; a torn line is an error and not a guess."""
    assert parse(["begin 7 1 3 99 1500000000\n"]) == [Entry("begin", 7, 1, 3, 99, 1.5)]
    with pytest.raises(ValueError, match="not enough values"):
        parse(["begin 7 1"])
