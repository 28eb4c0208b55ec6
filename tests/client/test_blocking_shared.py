"""Tests of one blocking client in a whole program: its threads, its forks, its own transactions."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
from jobrt import errors, where
from jobrt._storage import blocking_pool
from jobrt._storage.sqlite import blocking as sqlite_blocking
from jobrt._storage.sqlite import own_transactions
from tests.parity.jobs import Echo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def url(database_url: str) -> str:
    """A database that is migrated."""
    trio.run(jobrt.App(database_url).migrate)
    return database_url


@pytest.fixture
def client(url: str) -> Iterator[jobrt.blocking.Client]:
    """A client as a module has one: without `with`."""
    client = jobrt.blocking.Client(url)
    yield client
    client.close()


def test_threads_share_a_client(client: jobrt.blocking.Client) -> None:
    """Each handle is of a stored job of its own, however many threads enqueue at the same time."""
    begin = threading.Barrier(8)

    def enqueue(thread: int) -> list[int]:
        begin.wait()
        ids = [client.enqueue(Echo(f"{thread}.{number}")).id for number in range(25)]
        return ids + [handle.id for handle in client.enqueue_many([Echo(f"{thread}.many")] * 5)]

    with ThreadPoolExecutor(8) as threads:
        ids = [job_id for found in threads.map(enqueue, range(8)) for job_id in found]
    assert len(set(ids)) == len(ids) == 240
    assert {record.id for record in client.query(limit=None, details=False)} == set(ids)


def test_threads_that_end_leave_no_connection(client: jobrt.blocking.Client) -> None:
    """One connection serves any number of threads that come one after the other."""
    for number in range(30):
        thread = threading.Thread(target=client.enqueue, args=[Echo(number)])
        thread.start()
        thread.join()
    assert client._storage is not None
    assert client._storage._pool._open == len(client._storage._pool._idle) == 1  # type: ignore[attr-defined]
    assert client.count() == 30


def test_more_threads_than_connections_take_turns(client: jobrt.blocking.Client) -> None:
    """At most ten connections are open."""
    begin = threading.Barrier(25)

    def enqueue(number: int) -> int:
        begin.wait()
        client.enqueue(Echo(number))
        return client._storage._pool._open  # type: ignore[union-attr]

    with ThreadPoolExecutor(25) as threads:
        assert max(threads.map(enqueue, range(25))) <= blocking_pool._SIZE
    assert client.count() == 25


def test_a_client_can_be_closed(client: jobrt.blocking.Client) -> None:
    """Later calls raise. A `with` block opens it again, and only the outermost one closes it."""
    job_id = client.enqueue(Echo(1)).id
    client.close()
    with pytest.raises(errors.StorageError, match="the client is closed"):
        client.get(job_id)
    with client, client:
        assert client.get(job_id).id == job_id
    with pytest.raises(errors.StorageError, match="the client is closed"):
        client.handle(job_id).wait()


def test_a_connection_in_use_is_closed_after_its_call(client: jobrt.blocking.Client) -> None:
    """Closing the client disturbs no call of another thread."""
    client.count()
    assert client._storage is not None
    pool: Any = client._storage._pool  # type: ignore[attr-defined]
    with pool.lend():
        client.close()
        assert pool._open == 1
    assert pool._open == 0


def test_the_operations_are_those_of_the_trio_client(client: jobrt.blocking.Client) -> None:
    """They take an id or a filter, and raise the same errors."""
    first, second, third = (client.enqueue(Echo(value), tags=[value]).id for value in "abc")
    assert client.count(where.tagged_any(["a", "b"])) == 2
    assert client.count(limit=1) == 1
    assert [record.id for record in client.query(order_by="id", after=first, limit=1)] == [second]
    assert client.update(first, priority=7, args={"value": "z"}) == 1
    assert (client.get(first).priority, client.get(first).args) == (7, {"value": "z"})
    assert client.cancel(first, "not needed") == 1
    assert client.get(first).cancel_reason == "not needed"
    with pytest.raises(errors.JobStateError, match="cancelled already"):
        client.cancel(first)
    with pytest.raises(errors.JobStateError, match="only a waiting job"):
        client.update(first, priority=1)
    assert client.rerun(where.state("cancelled")) == 1
    with pytest.raises(errors.JobStateError, match="only a job that has ended"):
        client.rerun(first)
    assert client.delete(first) == 1
    for operation in (client.cancel, client.rerun, client.delete, client.get):
        with pytest.raises(errors.JobNotFound):
            operation(first)
    assert client.delete(where.everything()) == 2
    assert client.query() == []
    assert third not in {record.id for record in client.query()}


async def test_workers_are_told(database_url: str) -> None:
    """A running job is cancelled, and one that is made due runs, long before the next poll."""
    app = jobrt.App(database_url, migrate=True, queues={"default": jobrt.Queue(poll_interval=600)})
    started = trio.Event()

    @app.job
    async def endless(ctx: jobrt.Context) -> None:
        started.set()
        await trio.sleep_forever()

    @app.job
    async def quick(ctx: jobrt.Context) -> str:
        return "done"

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            client = jobrt.blocking.Client(database_url)
            job = await trio.to_thread.run_sync(client.enqueue, endless.new())
            await started.wait()
            await trio.to_thread.run_sync(client.cancel, job.id, "enough")
            with pytest.raises(errors.JobCancelled, match="enough"):
                await trio.to_thread.run_sync(job.result)
            async with app.open_client() as jobs:
                later = await jobs.enqueue(quick.new(), schedule_in=3600)
                await trio.to_thread.run_sync(lambda: client.update(later.id, schedule_in=0))
                assert await later.result() == "done"
            client.close()
            await worker.stop()


# ---------------------------------------------------------------------- forks

FORK = """
import os, sys, threading
import jobrt
from tests.parity.jobs import Echo

jobs = jobrt.blocking.Client(sys.argv[1])
jobs.enqueue(Echo(0))
stop = threading.Event()

def busy():
    while not stop.is_set():
        jobs.enqueue(Echo("busy"))

thread = threading.Thread(target=busy)
if sys.argv[2] == "busy":
    thread.start()
children = {}
for number in range(4):
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, " ".join(str(jobs.enqueue(Echo(number)).id) for _ in range(20)).encode())
        sys.exit()
    os.close(writer)
    children[number] = reader
own = [jobs.enqueue(Echo("own")).id for _ in range(20)]
stop.set()
if thread.ident:
    thread.join()
found = [os.read(reader, 100_000).decode().split() for reader in children.values()]
statuses = [os.wait()[1] for _ in children]
assert not any(statuses), statuses
ids = own + [int(one) for ids in found for one in ids]
assert len(set(ids)) == 100, ids
assert {record.id for record in jobs.query(limit=None, details=False)} >= set(ids)
"""


def run_program(*arguments: str) -> None:
    """Run Python in another process, with warnings as errors, as a test has them."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore:This process:DeprecationWarning",
        "-c",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr


@pytest.mark.process
@pytest.mark.parametrize("threads", ["busy", "idle"])
def test_children_of_a_fork_open_their_own_connections(url: str, threads: str) -> None:
    """As with a server that loads the application and then forks: all get along, even if other threads were busy."""
    run_program(FORK, url, threads)


CUT = """
import os, sys, time
import jobrt
from jobrt import errors
from jobrt._storage import blocking_pool
from tests.parity.jobs import Echo

blocking_pool._FORK_PATIENCE = 0.01
jobs = jobrt.blocking.Client(sys.argv[1])
jobs.enqueue(Echo(0))
with jobs._storage._pool.lend() as lent:
    if not os.fork():
        try:
            jobs.enqueue(Echo(1))
        except errors.StorageError as error:
            assert "SQLite" in str(error) and "fork" in str(error), error
            assert sys.argv[1].startswith("sqlite")
        else:
            assert sys.argv[1].startswith("postgres")
        os._exit(0)
    assert os.wait()[1] == 0
jobs.enqueue(Echo(2))
assert jobs.count() == (2 if sys.argv[1].startswith("sqlite") else 3)
jobs.close()
"""


@pytest.mark.process
def test_a_fork_in_the_middle_of_a_call(url: str) -> None:
    """The parent's call goes on. A child refuses a SQLite file, whose locks SQLite would believe to hold."""
    run_program(CUT, url)


def test_a_fork_without_hooks_is_noticed(
    client: jobrt.blocking.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server written in C may fork by itself: then the process id is another one."""
    client.count()
    pool: Any = client._storage._pool  # type: ignore[union-attr]
    (inherited,) = pool._idle
    monkeypatch.setattr(pool, "_process", os.getpid() + 1)
    if pool.closed_before_fork:
        with pytest.raises(errors.StorageError, match="fork"):
            client.count()
    else:
        assert client.count() == 0
        assert inherited not in pool._idle
    assert inherited in blocking_pool._inherited
    blocking_pool._inherited.remove(inherited)
    pool.close_one(inherited)


# ---------------------------------------------------------------------- own transactions


def connection(path: str, **settings: Any) -> closing[sqlite3.Connection]:
    """Return a connection with an open transaction that holds the write lock."""
    conn = sqlite3.connect(path, isolation_level=None, **settings)
    conn.execute("BEGIN IMMEDIATE")
    return closing(conn)


@pytest.fixture
def file(sqlite_url: str) -> str:
    """Path of a SQLite file that is migrated."""
    trio.run(jobrt.App(sqlite_url).migrate)
    return sqlite_url.removeprefix("sqlite:///")


def test_a_thread_that_waits_for_itself_is_told_so(file: str) -> None:
    """Not after half a minute but at once, with the remedy, which works."""
    with jobrt.blocking.Client(f"sqlite:///{file}") as client, connection(file) as conn:
        with pytest.raises(errors.StorageUnavailable, match="pass its connection as conn="):
            client.enqueue(Echo(1))
        client.enqueue(Echo(2), conn=conn)
        conn.execute("COMMIT")
        assert [record.args["value"] for record in client.query()] == [2]


def test_a_client_opens_beside_an_open_transaction(file: str) -> None:
    """A file that is up to date is only read."""
    with connection(file), jobrt.blocking.Client(f"sqlite:///{file}") as client:
        assert client.count() == 0


def test_a_transaction_of_any_thread_is_waited_for_shortly(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the caller's own, or end soon. The error says what to do if it is the caller's."""
    monkeypatch.setattr(sqlite_blocking, "_OWN_PATIENCE", 0.3)
    with (
        jobrt.blocking.Client(f"sqlite:///{file}") as client,
        connection(file, check_same_thread=False),
        pytest.raises(errors.StorageUnavailable, match=r"this program .* conn="),
    ):
        client.enqueue(Echo(1))


def test_a_transaction_of_another_thread_is_waited_for(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends without this thread."""
    held, found_locked = threading.Event(), threading.Event()
    found: list[object] = []

    def look(*args: Any, **kwargs: Any) -> object:
        found.append(own_transactions.open_transaction(*args, **kwargs))
        found_locked.set()
        return found[-1]

    def hold() -> None:
        with connection(file) as conn:
            held.set()
            assert found_locked.wait(50)
            conn.execute("ROLLBACK")

    monkeypatch.setattr(sqlite_blocking, "open_transaction", look)
    with ThreadPoolExecutor(1) as threads, jobrt.blocking.Client(f"sqlite:///{file}") as client:
        holding = threads.submit(hold)
        assert held.wait(50)
        assert client.enqueue(Echo(1)).id == 1
        holding.result()
    assert found == [None]


def test_a_file_that_was_replaced_is_opened_again(file: str, tmp_path: Path) -> None:
    """Otherwise jobs would be stored in a file that no longer has a name."""
    with jobrt.blocking.Client(f"sqlite:///{file}") as client:
        client.enqueue(Echo("old"))
        for suffix in ("", "-wal", "-shm"):
            old = f"{file}{suffix}"
            if os.path.exists(old):  # noqa: PTH110 - as the names of SQLite's files are made
                os.rename(old, f"{tmp_path}/moved{suffix}")  # noqa: PTH104 - the same
        client.enqueue(Echo("new"))
    with closing(sqlite3.connect(file)) as conn:
        assert conn.execute("select args from jobrt_job").fetchall() == [('{"value":"new"}',)]
