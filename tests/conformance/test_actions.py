"""`ActionStore`: what operators did, the newest first, and no more than is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from jobrt._core.actions import NewAction, new_action
from jobrt._storage.postgres import actions as in_postgres
from jobrt._storage.sqlite import actions as in_sqlite

if TYPE_CHECKING:
    from jobrt._core.actions import Subject
    from jobrt._storage.contract import Storage


def _action(subject: Subject, name: str, what: str = "changed it") -> NewAction:
    return new_action(subject, name, who="ada", what=what, why="")


async def test_actions_are_read_as_they_were_given(storage: Storage) -> None:
    """With a number, and a time of the database's clock. Odd characters are escaped."""
    before = await storage.schema.now()
    await storage.actions.record(
        new_action("queue", "mail", who="a\x00b", what="x" * 5000, why="caf\u00e9 \ud800")
    )
    (found,) = await storage.actions.newest(limit=10)
    assert (found.subject, found.name, found.who, found.why) == ("queue", "mail", "a\\x00b", "café \\ud800")
    assert "4000 characters left out" in found.what
    assert before <= found.at <= before + timedelta(minutes=1)


async def test_the_newest_actions_come_first(storage: Storage) -> None:
    """Of all, of a subject, and of a name; at most as many as asked for."""
    given: list[tuple[Subject, str]] = [
        ("queue", "a"),
        ("cron", "a"),
        ("queue", "b"),
        ("queue", "a"),
        ("jobs", ""),
    ]
    for number, (subject, name) in enumerate(given):
        await storage.actions.record(_action(subject, name, str(number)))
    newest = storage.actions.newest
    assert [one.what for one in await newest(limit=10)] == ["4", "3", "2", "1", "0"]
    assert [one.what for one in await newest(limit=2)] == ["4", "3"]
    assert [one.what for one in await newest(limit=10, subject="queue")] == ["3", "2", "0"]
    assert [one.what for one in await newest(limit=10, subject="queue", name="a")] == ["3", "0"]
    assert await newest(limit=10, subject="cron", name="b") == ()
    ids = [one.id for one in await newest(limit=10)]
    assert ids == sorted(set(ids), reverse=True)


async def test_old_actions_are_deleted(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With each new one, those that are not kept."""
    for module in (in_postgres, in_sqlite):
        monkeypatch.setattr(module, "ACTIONS_KEPT", 3)
    for number in range(5):
        await storage.actions.record(_action("queue", "a", str(number)))
    assert [one.what for one in await storage.actions.newest(limit=10)] == ["4", "3", "2"]
