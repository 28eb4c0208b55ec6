"""What a worker stores about itself comes back the same, and rows of other versions do no harm."""

import json

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
    "text",
    [
        "",
        "3",
        "null",
        '"host"',
        '["host"]',
        '{"pid": "x"}',
        '{"pid": 1e999}',
        '{"queues": [1]}',
        '{"queues": {"q": {"stuck": 3}}}',
        '{"notices": [{}]}',
        '{"tree": {"name": "a"}}',
        '{"tree": {"name": "a", "strategy": "x", "state": "unknown", "children": []}}',
        "[" * 100_000,
    ],
)
def test_malformed_rows_give_the_defaults(text: str) -> None:
    """No stored text makes reading fail."""
    assert WorkerInfo.from_json(text) == WorkerInfo()
