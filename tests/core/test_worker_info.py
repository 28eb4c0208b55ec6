"""What a worker stores about itself comes back the same, and rows of other versions do no harm."""

import json
from typing import Any

import pytest
import trio

from jobrt import Supervisor
from jobrt._core.worker_info import Notice, QueueInfo, WorkerInfo


def described() -> WorkerInfo:
    """A description in which each field has a value."""
    inner, outer = Supervisor("inner"), Supervisor("outer")
    inner.add(trio.sleep_forever)
    outer.add(inner)
    return WorkerInfo(
        host="h",
        pid=7,
        name="n",
        version="1",
        python="3",
        program="p",
        leader=True,
        disconnected=True,
        outage="down",
        stopping=True,
        pending_outcomes=1,
        landed=2,
        refused=3,
        queues={"q": QueueInfo(concurrency=2, running=1, stuck=(5, 6), cancelling={5: "stuck"})},
        notices=(Notice(what="slow", ago=1.5, job=5, seconds=2.5), Notice(what="stalled", queue="q")),
        tree=outer.statistics(),
    )


def test_a_description_survives_json() -> None:
    """`from_json` reverses `to_dict`, with the tree, integer keys and tuples."""
    info = described()
    assert WorkerInfo.from_json(json.dumps(info.to_dict())) == info


def test_unknown_keys_are_ignored() -> None:
    """A row of a newer version is read as far as this version knows its keys."""
    text = '{"host": "h", "colour": "red", "queues": {"q": {"running": 3, "colour": 1}}, "leader": null}'
    assert WorkerInfo.from_json(text) == WorkerInfo(host="h", queues={"q": QueueInfo(running=3)})


@pytest.mark.parametrize(
    ("text", "read", "unreadable"),
    [
        ("", {}, "everything"),
        ("3", {}, "everything"),
        ("null", {}, "everything"),
        ('["host"]', {}, "everything"),
        ("[" * 100_000, {}, "everything"),
        ('{"host": "h", "pid": "x"}', {"host": "h"}, "pid"),
        ('{"pid": 1e999, "clock": 5, "host": "h"}', {"host": "h"}, "pid, clock"),
        ('{"queues": [1]}', {}, "queues"),
        (
            '{"queues": {"q": {"stuck": 3}, "p": {"running": 3}}}',
            {"queues": {"q": QueueInfo(), "p": QueueInfo(running=3)}},
            "queue q",
        ),
        ('{"notices": [{}], "leader": true}', {"leader": True}, "notices"),
        ('{"tree": {"name": "a"}, "version": "2"}', {"version": "2"}, "tree"),
        ('{"tree": {"name": "a", "strategy": "x", "state": "unknown", "children": []}}', {}, "tree"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_can_be_read_is_read(text: str, read: dict[str, Any], unreadable: str) -> None:
    """No stored text makes reading fail. What cannot be read is named, and the rest is there."""
    info = WorkerInfo.from_json(text)
    assert ", ".join(info.unreadable) == unreadable
    assert info == WorkerInfo(**read, unreadable=info.unreadable)
    assert info.to_dict()["unreadable"] == info.unreadable
