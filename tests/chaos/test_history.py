"""The checks find each kind of violation, and accept correct runs."""

from __future__ import annotations

import attrs
import pytest

from tests.chaos.history import Entry, Fault, Report, Row, check, parse

COMPLETED = Row("completed", 1)


def body(lease: int, begin: float, end: float | None, *, pid: int = 1, what: str = "end") -> list[Entry]:
    """Return the log of a body of job 7."""
    first = Entry("begin", 7, lease, lease, pid, begin)
    return [first] if end is None else [first, attrs.evolve(first, what=what, at=end)]


def judge(entries: list[Entry], row: Row | None, faults: list[Fault] | None = None) -> Report:
    """Check a run of job 7."""
    return check([7], entries, rows={} if row is None else {7: row}, faults=faults or [])


def crashed(*leases: int, landed: int) -> Row:
    """Return the row of a job that crashed before it was completed."""
    return Row("completed", landed, dict.fromkeys(leases, "crashed"))


def kinds(report: Report) -> set[str]:
    """Return the kinds of violations found."""
    return {kind for kind in ("lost", "doubled", "overlapping", "stuck") if getattr(report, kind)}


def test_a_job_that_ran_once_is_correct() -> None:
    """A job with one body, one end and a completed row is correct."""
    report = judge(body(1, 0, 1), COMPLETED)
    assert report == Report(jobs=1, bodies=1, again=0)


def test_a_job_that_ran_again_after_a_kill_is_correct() -> None:
    """The first body has no end, and the database has recorded the crash."""
    faults = [Fault("kill", 1, 0.5)]
    report = judge([*body(1, 0, None), *body(2, 4, 5, pid=2)], crashed(1, landed=2), faults)
    assert (report.violations, report.again) == ((), 1)


def test_an_outcome_lost_by_a_kill_is_correct() -> None:
    """Two bodies reached their end, because the first worker was killed before it wrote the outcome."""
    entries = [*body(1, 0, 1), *body(2, 4, 5, pid=2)]
    assert judge(entries, crashed(1, landed=2), [Fault("kill", 1, 1.1)]).violations == ()


def test_bodies_of_all_jobs_are_counted() -> None:
    """The report counts the bodies of every job."""
    entries = [*body(1, 0, 1), *(attrs.evolve(entry, job=8) for entry in body(1, 0, 1))]
    report = check([7, 8], entries, rows={7: COMPLETED, 8: COMPLETED})
    assert report == Report(jobs=2, bodies=2, again=0)


def test_a_frozen_body_does_not_run() -> None:
    """Another body may run meanwhile, if the thawed one is cancelled as soon as its lease is checked."""
    faults = [Fault("freeze", 1, 1), Fault("thaw", 1, 10)]
    entries = [*body(1, 0, 10.2, what="cancelled"), *body(2, 5, 6, pid=2)]
    assert judge(entries, crashed(1, landed=2), faults).violations == ()


@pytest.mark.parametrize(
    ("entries", "row", "kind"),
    [
        pytest.param([], None, "lost", id="not in the database"),
        pytest.param([], COMPLETED, "lost", id="completed and never ran"),
        pytest.param(body(1, 0, 1, what="cancelled"), COMPLETED, "lost", id="completed by a cancelled body"),
        pytest.param(body(1, 0, 1), Row("discarded", 1, {1: "failed"}), "lost", id="discarded"),
        pytest.param(body(1, 0, 1), Row("executing", 1, {1: "crashed"}), "stuck", id="still executing"),
        pytest.param([], Row("available", None), "stuck", id="never claimed"),
        pytest.param(
            [*body(1, 0, 1), *body(2, 3, 4)], COMPLETED, "doubled", id="ran unknown to the database"
        ),
        pytest.param([*body(1, 0, 1), *body(1, 3, 4)], COMPLETED, "doubled", id="twice under one lease"),
        pytest.param(
            [*body(1, 0, 1), *body(2, 3, 4)],
            Row("completed", 2, {1: "finished"}),
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
def test_a_violation_is_found(entries: list[Entry], row: Row | None, kind: str) -> None:
    """Each violation is found, and no other kind."""
    assert kinds(judge(entries, row)) == {kind}


def test_a_thawed_body_that_continues_is_found() -> None:
    """A thawed worker that does not check its lease runs beside the new owner."""
    faults = [Fault("freeze", 1, 1), Fault("thaw", 1, 4)]
    entries = [*body(1, 0, 8, what="cancelled"), *body(2, 3, 9, pid=2)]
    assert kinds(judge(entries, crashed(1, landed=2), faults)) == {"overlapping"}


def test_a_log_is_parsed() -> None:
    """Nanoseconds in the log become seconds; an incomplete line is an error."""
    assert parse(["begin 7 1 3 99 1500000000\n"]) == [Entry("begin", 7, 1, 3, 99, 1.5)]
    with pytest.raises(ValueError, match="not enough values"):
        parse(["begin 7 1"])
