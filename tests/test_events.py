"""The public contract of events: the table says what there is, and a subscriber can rely on it."""

from __future__ import annotations

import inspect
import logging
import re

import attrs
import pytest

import jobrt
from jobrt import events
from jobrt.testing import drain, open_app
from tests.parity.jobs import Echo

CLASSES = [
    value
    for value in vars(events).values()
    if inspect.isclass(value) and issubclass(value, events.Event) and value is not events.Event
]


def table() -> list[tuple[str, str, str]]:
    """Return the rows of the table of events: name, when it is emitted, levels; continued lines are joined."""
    text = (events.__doc__ or "").split("\n======================")[2]
    rows: list[list[str]] = []
    for line in text.splitlines()[1:]:
        name, when, levels = line[:23].strip(), line[23:93].strip(), line[93:].strip()
        if name:
            rows.append([name.strip("`"), when, levels])
        else:
            rows[-1][1] += f" {when}"
    return [(name, when, levels) for name, when, levels in rows]


def test_the_table_names_every_event() -> None:
    """Every event class is in the table and in `__all__`, and the table has no other rows."""
    names = [name for name, _, _ in table()]
    assert sorted(names) == sorted(event.__name__ for event in CLASSES)
    assert set(names) == set(events.__all__) - {"EventBus", "Event", "Subscriber"}


@pytest.mark.parametrize(("name", "when", "levels"), table(), ids=lambda text: text[:20])
def test_a_row_says_when_and_at_which_levels(name: str, when: str, levels: str) -> None:
    """Each row is complete."""
    assert len(when.split()) > 2
    assert set(levels.split(", ")) <= {"DEBUG", "INFO", "WARNING", "ERROR"}


@pytest.mark.parametrize("event", CLASSES, ids=lambda event: event.__name__)
def test_an_event_is_a_frozen_record_that_says_what_it_is(event: type[events.Event]) -> None:
    """It cannot be changed, and its docstring explains each field that the module does not explain for all."""
    common = set(
        re.findall(r"``(\w+)``", (events.__doc__ or "").partition("Fields with the same meaning")[2])
    )
    assert event.__setattr__ is not object.__setattr__
    own = {field.name for field in attrs.fields(event)} - common
    text = inspect.getdoc(event) or ""
    assert own <= set(re.findall(r"``(\w+)``", text))
    assert not re.match(r"(Be|Say|Tell|A|An|The)\b", text)


async def test_a_subscriber_without_routine_hears_only_what_is_not(autojump_clock: object) -> None:
    """What every job causes when all is well goes to the one that wants all; a failure to both; then neither."""
    everything: list[events.Event] = []
    remarkable: list[events.Event] = []
    async with open_app(jobs=[Echo]) as (app, jobs):
        with (
            app.events.subscribed(everything.append),
            app.events.subscribed(remarkable.append, routine=False),
        ):
            await jobs.enqueue(Echo(1))
            await drain(app)
        seen = len(everything)
        await jobs.enqueue(Echo(2))
        await drain(app)
    routine = {events.JobEnqueued, events.JobsClaimed, events.JobStarted, events.JobEnded}
    assert routine <= {type(event) for event in everything}
    assert routine.isdisjoint({type(event) for event in remarkable})
    assert events.WorkerStarted in {type(event) for event in remarkable}
    assert len(everything) == seen


def test_a_subscriber_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged, and the next subscriber is called."""

    def broken(event: events.Event) -> None:
        raise ValueError(event)

    app, seen = jobrt.App("sqlite:///:memory:"), list[events.Event]()
    with app.events.subscribed(broken), app.events.subscribed(seen.append):
        app.events(events.JobsPruned(3))
    assert seen == [events.JobsPruned(3)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_function_subscribed_twice_is_called_once() -> None:
    """Two workers of an app subscribe the same function. It stays subscribed until the last of them has ended."""
    seen: list[events.Event] = []
    note = seen.append
    bus = events.EventBus()
    with bus.subscribed(note, routine=False):
        with bus.subscribed(note), bus.subscribed(note, routine=False):
            bus(events.StorageUp(1.0))
            bus.routine(events.StorageUp(2.0))
        bus(events.StorageUp(3.0))
        bus.routine(events.StorageUp(4.0))
    bus(events.StorageUp(5.0))
    assert seen == [events.StorageUp(1.0), events.StorageUp(2.0), events.StorageUp(3.0)]
