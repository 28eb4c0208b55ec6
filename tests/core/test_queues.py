"""Settings of a queue, valid and invalid."""

from __future__ import annotations

from typing import Any

import pytest

from jobrt._core.queues import Queue, QueueStatus, as_queue
from jobrt._core.rates import Rate
from jobrt.errors import InvalidSetting


def test_the_defaults() -> None:
    """By default a process runs ten jobs at once and polls each second; there is no limit for the cluster."""
    queue = Queue()
    assert (queue.concurrency, queue.poll_interval, queue.keep) == (10, 1.0, None)
    assert (queue.cluster_limit, queue.key, queue.per_key) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "rated"),
    [
        ({}, False),
        ({"cluster_limit": 1}, False),
        ({"rate": Rate(1)}, True),
        ({"key": "name", "per_key_rate": Rate(1)}, True),
    ],
)
def test_starts_take_tokens_if_there_is_a_rate(options: dict[str, Any], rated: bool) -> None:
    """Of the queue, or of its keys."""
    assert Queue(**options).rated is rated


@pytest.mark.parametrize("key", ["name", "args.to", "args.a.b", "metadata.tenant"])
def test_keys(key: str) -> None:
    """A key is the name, or a field of the payload or the metadata."""
    assert Queue(key=key, per_key=1).key == key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, r"Queue\.concurrency is 0"),
        ({"concurrency": -1}, "use an int from 1 to"),
        ({"concurrency": True}, "Queue.concurrency is True"),
        ({"cluster_limit": 0}, r"Queue\.cluster_limit is 0"),
        ({"per_key": 0, "key": "name"}, r"Queue\.per_key is 0"),
        ({"poll_interval": 0}, r"Queue\.poll_interval is 0"),
        ({"key": "name"}, "Queue.key limits nothing: add per_key"),
        ({"per_key": 1}, "Queue.per_key needs Queue.key: add key="),
        ({"per_key_rate": Rate(1)}, "Queue.per_key_rate needs Queue.key"),
        ({"fair": True}, "Queue.fair needs Queue.key"),
        ({"fair": 1, "key": "name"}, "Queue.fair is 1: use True or False"),
        ({"rate": 5}, r"Queue.rate is 5: use a jobrt.Rate"),
        ({"key": "name", "per_key_rate": "5/s"}, r"Queue.per_key_rate is '5/s': use a jobrt.Rate"),
        ({"key": "queue", "per_key": 1}, r"Queue\.key is 'queue'"),
        ({"key": "args", "per_key": 1}, "args.FIELD"),
        ({"key": "args.", "per_key": 1}, "args.FIELD"),
        ({"key": "state.x", "per_key": 1}, "args.FIELD"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    """An invalid setting is refused when it is created; the message names the setting."""
    with pytest.raises(InvalidSetting, match=message):
        Queue(**options)


def test_concurrency_is_a_number() -> None:
    """A concurrency of another type is refused."""
    with pytest.raises(InvalidSetting, match="concurrency is '10': use an int"):
        Queue("10")  # type: ignore[arg-type]


def test_an_int_is_a_concurrency() -> None:
    """An int is the short form of a `Queue`; a `Queue` is used unchanged."""
    queue = Queue(3, cluster_limit=1)
    assert as_queue("mail", 20) == Queue(20)
    assert as_queue("mail", queue) is queue


@pytest.mark.parametrize("value", [0, -1, True, "10", None, 1.5])
def test_bad_queues_are_refused_by_name(value: Any) -> None:
    """The message names the queue."""
    with pytest.raises(InvalidSetting, match="queue 'mail'"):
        as_queue("mail", value)


def test_an_unknown_queues_status() -> None:
    """An unknown queue has no jobs and no settings."""
    status = QueueStatus(name="mail")
    assert (status.paused, status.available, status.executing, status.oldest_due) == (False, 0, 0, None)
