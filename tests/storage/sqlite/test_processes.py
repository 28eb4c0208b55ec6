"""Several processes work on one file: nothing is lost, duplicated or damaged, whichever process dies."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Outcome
from jobrt._storage.contract import Wake
from jobrt._storage.sqlite import open_sqlite
from tests.conformance.build import ask, job
from tests.storage.sqlite.files import PATIENCE, python

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.process

# Drains a queue, a few jobs at a time, and prints the ids that it completed after they were written.
DRAIN = """
import sys, trio
from jobrt._core.job import Outcome
from jobrt._core.limits import Demand
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.sqlite import open_sqlite

async def main(path, worker):
    async with open_sqlite(path) as storage:
        await storage.workers.register(worker, lease=60, info=WorkerInfo())
        print("ready", flush=True)
        sys.stdin.readline()
        before = []
        while True:
            exchange = await storage.attempts.exchange(before, Demand(worker, "default", 7, ("send",)))
            assert exchange.refused == ()
            print(*[one.id for one in before], flush=True)
            before = [Outcome(one.id, one.lease) for one in exchange.jobs]
            if not before:
                break

trio.run(main, sys.argv[1], sys.argv[2])
"""

INSERT = """
import sys
from jobrt._core.job import NewJob
from jobrt._storage.sqlite import open_blocking

with open_blocking(sys.argv[1]) as storage:
    print("ready", flush=True)
    while sys.stdin.readline():
        storage.insert([NewJob(name="send", args="{}", queue="mail")])
"""

OPEN = """
import sys, trio
from jobrt._storage.sqlite import open_sqlite

async def main(path):
    print("ready", flush=True)
    sys.stdin.readline()
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(use, path)

async def use(path):
    async with open_sqlite(path) as storage:
        await storage.schema.check()
        print("fine", flush=True)

trio.run(main, sys.argv[1])
"""


def _read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


async def _fill(path: Path, number: int) -> list[int]:
    async with open_sqlite(path) as storage:
        return [one.id for one in await storage.jobs.insert([job()] * number)]


@pytest.mark.slow
async def test_processes_share_the_work(tmp_path: Path) -> None:
    """Two that drain one queue complete each job exactly once between them."""
    path = tmp_path / "jobs.db"
    ids = await _fill(path, 700)
    done: list[int] = []
    with python(DRAIN, path, "w1") as one, python(DRAIN, path, "w2") as two:
        for process in (one, two):
            assert _read_line(process) == "ready"
        for process in (one, two):
            _tell(process)
        for process in (one, two):
            output, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
            done += map(int, output.split())
    assert sorted(done) == ids


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 4, 9])
async def test_killed_between_or_within_commits(tmp_path: Path, lines: int) -> None:
    """After SIGKILL the file is intact, jobs reported as done are done, and a rescue makes the rest due again."""
    path = tmp_path / "jobs.db"
    ids = await _fill(path, 3000)
    with python(DRAIN, path, "w1") as process:
        assert _read_line(process) == "ready"
        _tell(process)
        output = [_read_line(process) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        output += process.stdout.read().splitlines()  # `communicate` would pass over what was read ahead
    done = [int(one) for line in output for one in line.split()]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.workers.unregister("w1")
            rescued = await storage.workers.rescue()
            assert len(rescued) <= 7
            completed = await storage.jobs.query(where.state("completed"), order_by="id", details=False)
            assert {one.id for one in completed} >= set(done)
            assert len(completed) <= len(done) + 7
            rest = await storage.attempts.exchange([], ask(limit=10_000))
            assert len(rest.jobs) == len(ids) - len(completed)
            assert await storage.attempts.finish([Outcome(one.id, one.lease) for one in rest.jobs]) == ()


async def test_another_process_wakes_this_one(tmp_path: Path) -> None:
    """A commit elsewhere delivers wakes of every kind; a commit of this process delivers only its own kind."""
    path = tmp_path / "jobs.db"
    heard: list[Wake] = []
    rang = trio.Event()

    def deliver(wake: Wake) -> None:
        heard.append(wake)
        if wake == Wake("finished"):
            rang.set()

    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage, trio.open_nursery() as nursery:
            await nursery.start(storage.wakes.listen, deliver)
            await storage.jobs.insert([job()])
            assert heard == [Wake("jobs", "default")]
            with python(INSERT, path) as process:  # it ends when its input does
                assert await trio.to_thread.run_sync(_read_line, process) == "ready"
                heard.clear()
                _tell(process)
                await rang.wait()
                assert process.stdin is not None
                process.stdin.close()
            assert heard[:3] == [Wake("jobs"), Wake("control"), Wake("finished")]
            nursery.cancel_scope.cancel()


async def test_our_own_commits_are_not_taken_for_others(tmp_path: Path) -> None:
    """A busy worker is not woken again for each outcome that it writes."""
    heard: list[Wake] = []
    with trio.fail_after(PATIENCE):
        async with open_sqlite(tmp_path / "jobs.db") as storage, trio.open_nursery() as nursery:
            await nursery.start(storage.wakes.listen, heard.append)
            await storage.jobs.insert([job()] * 20)
            for _ in range(20):
                (claimed,) = (await storage.attempts.exchange([], ask(limit=1))).jobs
                await storage.attempts.finish([Outcome(claimed.id, claimed.lease)])
            storage.jobs._database._notice(storage.jobs._database._version())
            assert heard == [Wake("jobs", "default")]
            nursery.cancel_scope.cancel()


@pytest.mark.slow
def test_twenty_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Of three processes with seven connections each, one makes the tables, and none fails."""
    path = tmp_path / "jobs.db"
    with python(OPEN, path) as one, python(OPEN, path) as two, python(OPEN, path) as three:
        for process in (one, two, three):
            assert _read_line(process) == "ready"
        for process in (one, two, three):
            _tell(process)
        for process in (one, two, three):
            output, _ = process.communicate(timeout=PATIENCE)
            assert (output, process.returncode) == ("fine\n" * 7, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_forked_child_cannot_use_it(tmp_path: Path) -> None:
    """The child gets an error; the file and the parent are unharmed."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(tmp_path / "jobs.db") as storage:
            pid = os.fork()
            if pid == 0:
                try:
                    storage.jobs._database._check_process()
                except Exception as error:  # noqa: BLE001 - the child must not come back into the test
                    os._exit(7 if "before a fork" in str(error) else 8)
                os._exit(0)
            _, status = await trio.to_thread.run_sync(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7
            assert len(await storage.jobs.insert([job()])) == 1
