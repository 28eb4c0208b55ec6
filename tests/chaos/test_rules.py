"""The checks of changes find a violation of each rule, and accept what may happen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.history import Change, Fault, History, Line, Row
from tests.chaos.rules import RULES, Limits, check_changes

LIMITS = Limits(
    queues={"ordered": 1, "default": 2}, cluster={"few": 1}, keys={"keyed": "who"}, names={"Named": 1}
)


class Story:
    """Changes of jobs in the order in which they were made."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def new(self, job: int, at: float = 0.0, *, state: str = "available", **values: Any) -> Story:
        """Add a new job."""
        self.changes.append(Change(len(self.changes), at, job, None, state, attempt=0, **values))
        return self

    def to(self, job: int, after: str, at: float = 0.0, **values: Any) -> Story:
        """Change a job as jobrt does; the values replace what it would write."""
        last = next(change for change in reversed(self.changes) if change.job == job)
        lease, attempt = last.lease, last.attempt or 0
        if after == "executing" and last.after != "executing":
            lease, attempt = 10 + len(self.changes), attempt + 1
        elif last.after == "executing" and after != "executing":
            lease = -(lease or 0)
            attempt -= after in {"scheduled", "available"}
        made: dict[str, Any] = {
            "lease_before": last.lease,
            "lease": lease,
            "attempt_before": last.attempt,
            "attempt": attempt,
            "max_attempts": last.max_attempts,
            "queue": last.queue,
            "name": last.name,
            "priority": last.priority,
            "due": last.due,
            "args": last.args,
        }
        self.changes.append(Change(len(self.changes), at, job, last.after, after, **(made | values)))
        return self

    def broken(self, **facts: Any) -> set[str]:
        """Return the rules that are broken."""
        facts.setdefault("rows", {})
        found = check_changes(History(changes=self.changes, **facts), LIMITS)
        return {rule for rule, texts in found.items() if texts}


def ran(job: int, lease: int, until: float, *, name: str = "Work", pid: int = 1) -> list[Line]:
    """Return the lines of a body that began at zero."""
    ticks = [Line("tick", job, name, lease, pid, until * part / 20) for part in range(1, 20)]
    return [Line("begin", job, name, lease, pid, 0.0), *ticks, Line("end", job, name, lease, pid, until)]


def test_a_whole_life_is_correct() -> None:
    """A job may be claimed, fail, be given back and be completed."""
    story = Story().new(1)
    for state in ("executing", "retryable", "executing", "available", "executing", "completed"):
        story.to(1, state)
    assert story.broken() == set()


def test_a_rescue_of_the_dead_is_correct() -> None:
    """It clears the lease, and the attempt counts."""
    assert Story().new(1).to(1, "executing").to(1, "retryable", lease=None, alive=False).broken() == set()


def test_a_claim_in_a_disturbed_order_is_correct() -> None:
    """While the server restarts, a claim may be rolled back after another has skipped its jobs."""
    story = Story().new(1, queue="ordered", priority=1).new(2, queue="ordered").to(2, "executing", 5.0)
    assert story.broken(faults=[Fault("restart_server", 0, 4.0, 6.0)]) == set()


BROKEN: list[tuple[str, Story, dict[str, Any]]] = [
    ("transitions", Story().new(1).to(1, "completed"), {}),
    ("transitions", Story().new(1).to(1, "executing").to(1, "completed").to(1, "completed", lease=9), {}),
    ("transitions", Story().new(1).to(1, "executing").to(1, "executing", lease=9), {}),
    (
        "transitions",
        Story().new(1).to(1, "executing", lease=4).to(1, "retryable").to(1, "executing", lease=4),
        {},
    ),
    ("transitions", Story().new(1).to(1, "executing").to(1, "retryable", lease=None, attempt=0), {}),
    ("rescues", Story().new(1).to(1, "executing").to(1, "retryable", lease=None, alive=True), {}),
    ("attempts", Story().new(1, max_attempts=1).to(1, "executing").to(1, "retryable").to(1, "executing"), {}),
    ("attempts", Story().new(1, max_attempts=2).to(1, "executing").to(1, "discarded"), {}),
    ("attempts", Story(), {"rows": {1: Row("discarded", 3, {1: "failed", 2: "crashed"}, max_attempts=1)}}),
    ("limits", Story().new(1, queue="few").new(2, queue="few").to(1, "executing").to(2, "executing"), {}),
    (
        "limits",
        Story()
        .new(1, queue="keyed", args='{"who": "a"}')
        .new(2, queue="keyed", args='{"who": "a"}')
        .to(1, "executing")
        .to(2, "executing"),
        {},
    ),
    ("limits", Story(), {"lines": [ran(job, 1, 1.0, name="Named")[0] for job in (1, 2)]}),
    ("unique", Story().new(1, name="Single", args="{}").new(2, name="Single", args="{}"), {}),
    (
        "order",
        Story().new(1, queue="ordered", priority=1).new(2, queue="ordered").to(2, "executing", 5.0),
        {},
    ),
    (
        "cron",
        Story()
        .new(1, name="Tick", context="cron tick 2030-01-01T00:00:01+00:00")
        .new(2, name="Tick", context="cron tick 2030-01-01T00:00:01+00:00"),
        {},
    ),
    (
        "cron",
        Story()
        .new(1, name="Tick", context="cron tick 2030-01-01T00:00:01+00:00")
        .new(2, name="Tick", context="cron tick 2030-01-01T00:00:03+00:00"),
        {},
    ),
    (
        "cancellation",
        Story().new(1).to(1, "executing", lease=5).to(1, "executing", 1.0, cancel=True),
        {"lines": ran(1, 5, 9.0)},
    ),
    ("cancellation", Story().new(1).to(1, "executing").to(1, "retryable", cancel=True), {}),
    (
        "cancellation",
        Story()
        .new(1)
        .to(1, "executing")
        .to(1, "suspended")
        .to(1, "available", cancel=True)
        .to(1, "executing", cancel=True),
        {},
    ),
    ("transactions", Story(), {"rows": {1: Row("completed", 1, name="Exact")}}),
    ("transactions", Story(), {"rows": {1: Row("cancelled", 1, name="Exact")}, "written": [1]}),
    (
        "children",
        Story().new(1).new(2).to(1, "executing", lease=5).to(1, "scheduled").to(1, "executing"),
        {"lines": [Line("waits", 1, "Parent", 5, 1, 0.0, [2])]},
    ),
]


@pytest.mark.parametrize(("rule", "story", "facts"), BROKEN)
def test_a_broken_rule_is_found(rule: str, story: Story, facts: dict[str, Any]) -> None:
    """Each violation is found by its rule alone."""
    assert story.broken(**facts) == {rule}


def test_every_rule_is_tested() -> None:
    """There is an example for each rule."""
    assert {rule for rule, _, _ in BROKEN} | {"families", "messages"} == set(RULES)


def test_one_worker_may_claim_ahead_for_a_limit() -> None:
    """It runs one after the other; another worker gets none of them meanwhile."""
    story = Story().new(1, queue="few").new(2, queue="few").new(3, queue="few")
    story.to(1, "executing", worker="a").to(2, "executing", worker="a")
    assert story.broken() == set()
    assert story.to(3, "executing", worker="b").broken() == {"limits"}


def nest() -> Story:
    """Return the changes of a running job with a child."""
    story = Story().new(1, name="Nest", args="{}").to(1, "executing")
    return story.new(2, name="Leaf", args='{"root": 1, "number": 0}')


def test_a_whole_family_is_correct() -> None:
    """A parent waits, and is closing while its children end; in SQLite it is final for a moment."""
    story = nest().to(1, "suspended").to(2, "executing").to(2, "completed")
    for state in ("available", "executing", "completed", "closing", "completed"):
        story.to(1, state)
    assert story.broken() == set()
    ended = (
        nest().to(1, "executing").to(1, "completed").to(1, "closing").to(2, "cancelled").to(1, "completed")
    )
    assert ended.broken() == set()


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(nest().to(1, "completed"), id="a child outlives its parent"),
        pytest.param(nest().to(2, "executing").to(1, "completed"), id="a running child outlives its parent"),
        pytest.param(
            nest().to(2, "cancelled").to(1, "completed").to(2, "available").to(2, "executing"),
            id="a child is claimed in a scope that is over",
        ),
        pytest.param(
            nest().new(3, name="Leaf", args='{"root": 1, "number": 0}'), id="a child is enqueued twice"
        ),
        pytest.param(
            nest()
            .to(2, "executing")
            .to(2, "completed")
            .to(2, "available")
            .to(2, "executing")
            .to(2, "completed"),
            id="a child is completed twice",
        ),
        pytest.param(nest().to(2, "cancelled").to(1, "cancelled"), id="a parent is cancelled by nobody"),
    ],
)
def test_a_family_is_broken(story: Story) -> None:
    """Each violation of families is found."""
    assert story.broken() == {"families"}


def test_messages_are_received_once() -> None:
    """A value that is received twice, or that nobody has sent, is found."""
    facts: dict[str, Any] = {"rows": {}, "sent": {1: {1, 2}}}
    for received, broken in (([1, 2], set()), ([2, 2], {"messages"}), ([3], {"messages"})):
        lines = [Line("end", 1, "Nest", 7, 1, 0.0, ["a child failed", *received])]
        assert nest().broken(lines=lines, **facts) == broken
