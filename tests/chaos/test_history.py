"""The checks of bodies find each kind of violation, and accept correct runs."""

from __future__ import annotations

import attrs
import pytest

from tests.chaos.history import PASSES, SLACK, History, Line, Restore, Row, check_bodies, parse

COMPLETED = Row("completed", 1, result=[7, 1])


def body(
    lease: int, begin: float, end: float, *, what: str = "end", pid: int = 1, name: str = "Work"
) -> list[Line]:
    """Return the log of a body of job 7, which writes ten lines in between."""
    ticks = [Line("tick", 7, name, lease, pid, begin + (end - begin) * part / 11) for part in range(1, 11)]
    return [Line("begin", 7, name, lease, pid, begin), *ticks, Line(what, 7, name, lease, pid, end)]


def silent(lease: int, begin: float) -> list[Line]:
    """Return the log of a body that was killed at once."""
    return body(lease, begin, begin)[:1]


def judge(lines: list[Line], row: Row | None, **facts: object) -> set[str]:
    """Return the kinds of violations of a run of job 7."""
    facts = {"accepted": [7], **facts}
    history = History(rows={} if row is None else {7: row}, lines=lines, **facts)  # type: ignore[arg-type]
    return {kind for kind, found in check_bodies(history).items() if found}


def crashed(*leases: int, landed: int) -> Row:
    """Return the row of a job that crashed before it was completed."""
    return Row("completed", landed, dict.fromkeys(leases, "crashed"), result=[7, landed])


def test_a_job_that_ran_once_is_correct() -> None:
    """A job with one body, one end and a completed row is correct."""
    assert judge(body(1, 0, 1), COMPLETED) == set()


def test_a_job_that_ran_again_after_a_kill_is_correct() -> None:
    """The first body has no end, and the database has recorded the crash."""
    assert judge([*silent(1, 0), *body(2, 4, 5, pid=2)], crashed(1, landed=2)) == set()


def test_an_outcome_lost_by_a_kill_is_correct() -> None:
    """Two bodies reached their end, because the first worker was killed before it wrote the outcome."""
    assert judge([*body(1, 0, 1), *body(2, 4, 5, pid=2)], crashed(1, landed=2)) == set()


def test_a_body_that_is_cancelled_after_its_freeze_is_correct() -> None:
    """A thawed body wakes up in some passes of the scheduler, and is then cancelled, however late that is."""
    thawed = [Line("tick", 7, "Work", 1, 1, 6.0 + SLACK * turn) for turn in range(PASSES)]
    first = [*body(1, 0, 1)[:-1], *thawed, Line("cancelled", 7, "Work", 1, 1, 6.9)]
    assert judge([*first, *body(2, 5, 8, pid=2)], crashed(1, landed=2)) == set()


def test_a_body_in_a_shield_may_run_on() -> None:
    """Nobody can end it, so only its outcome is checked."""
    lines = [*body(1, 0, 6, name="Stubborn"), *body(2, 5, 8, pid=2, name="Stubborn")]
    assert judge(lines, crashed(1, landed=2)) == set()


def test_a_restore_may_give_the_id_to_a_job_with_a_shield() -> None:
    """Each body is judged by its own name."""
    lines = [*body(1, 0, 1), *body(2, 3, 6, name="Stubborn"), *body(3, 5, 8, pid=2, name="Stubborn")]
    assert judge(lines, crashed(1, 2, landed=3)) == set()


def test_a_restored_database_may_have_forgotten_a_body() -> None:
    """It knows neither the lease nor, if the job was new, the job."""
    row, restored = crashed(landed=2), [Restore(4.0, lease=2)]
    assert judge([*body(1, 0, 1), *body(2, 5, 6)], row, restored=restored) == set()
    forgotten = History(rows={}, lines=body(1, 0, 1), restored=restored)
    assert not any(check_bodies(forgotten).values())


def test_a_body_may_begin_just_after_the_restore_that_forgot_its_claim() -> None:
    """The worker has not noticed the restore yet. The lease tells that the claim was earlier."""
    lines = [*body(1, 4.01, 4.02, what="cancelled"), *body(2, 5, 6)]
    assert judge(lines, crashed(landed=2), restored=[Restore(4.0, lease=2)]) == set()


def test_a_restore_forgets_no_later_claim() -> None:
    """A body under a lease from after the restore must be known, and none may begin twice under one lease."""
    restored = [Restore(4.0, lease=2)]
    assert judge([*body(2, 5, 6), *body(3, 7, 8)], crashed(landed=3), restored=restored) == {"doubled"}
    assert judge(body(2, 5, 6), None, restored=restored, accepted=[]) == {"lost"}
    twice = [*body(1, 0, 1), *body(1, 2, 3), *body(2, 5, 6)]
    assert judge(twice, crashed(landed=2), restored=restored) == {"doubled"}


def test_a_worker_has_a_lease_to_notice_a_restore() -> None:
    """Until then another body of the job may run, and no longer."""
    row, restored = crashed(1, landed=2), [Restore(4.0, lease=2)]
    assert judge([*body(1, 0, 6), *body(2, 5, 8, pid=2)], row, restored=restored) == set()
    assert judge([*body(1, 0, 14), *body(2, 5, 15, pid=2)], row, restored=restored) == {"overlapping"}


def test_what_a_run_has_not_finished_is_not_judged() -> None:
    """During a run only the violations are found that nothing later can explain."""
    assert judge(silent(1, 0), Row("executing", 1), finished=False) == set()


@pytest.mark.parametrize(
    ("lines", "row", "kind"),
    [
        pytest.param([], None, "lost", id="not in the database"),
        pytest.param([], COMPLETED, "lost", id="completed and never ran"),
        pytest.param(body(1, 0, 1, what="cancelled"), COMPLETED, "lost", id="completed by a cancelled body"),
        pytest.param(body(1, 0, 1), Row("cancelled", 1, {1: "cancelled"}), "lost", id="cancelled by nobody"),
        pytest.param(body(1, 0, 1), Row("discarded", 1, {1: "failed"}), "lost", id="discarded"),
        pytest.param(body(1, 0, 1), Row("executing", 1, {1: "crashed"}), "stuck", id="still executing"),
        pytest.param([], Row("available", None), "stuck", id="never claimed"),
        pytest.param(
            [*body(1, 0, 1), *body(2, 3, 4)],
            Row("completed", 1, result=[7, 1]),
            "doubled",
            id="ran unknown to the database",
        ),
        pytest.param([*body(1, 0, 1), *body(1, 3, 4)], COMPLETED, "doubled", id="twice under one lease"),
        pytest.param(
            [*body(1, 0, 1), *body(2, 3, 4)],
            Row("completed", 2, {1: "finished"}, result=[7, 2]),
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
            [*body(2, 3, 6, pid=2), *body(1, 2.5, 3.5)],
            crashed(1, landed=2),
            "overlapping",
            id="half a second",
        ),
        pytest.param(body(1, 0, 1), attrs.evolve(COMPLETED, result=[7, 2]), "results", id="of another body"),
        pytest.param(body(1, 0, 1), attrs.evolve(COMPLETED, result=None), "results", id="lost result"),
        pytest.param(
            body(1, 0, 1), attrs.evolve(COMPLETED, errors=("KeyError",)), "errors", id="unexpected error"
        ),
    ],
)
def test_a_violation_is_found(lines: list[Line], row: Row | None, kind: str) -> None:
    """Each violation is found, and no other kind."""
    assert judge(lines, row) == {kind}


def test_a_log_is_parsed() -> None:
    """Each line is a JSON array; an incomplete line is an error."""
    assert parse(['["waits", 7, "Parent", 3, 99, 1.5, [8]]']) == [Line("waits", 7, "Parent", 3, 99, 1.5, [8])]
    with pytest.raises(ValueError, match="delimiter"):
        parse(['["begin", 7, "Work"'])
