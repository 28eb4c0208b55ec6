"""Tests with real worker processes, signals and crashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import jobrt
import jobrt.blocking
from jobrt._demo.jobs import CountFile
from jobrt.cli.processes import Storages
from jobrt.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Start = Callable[..., subprocess.Popen[str]]

pytestmark = pytest.mark.process


def until(stream: Any, word: str) -> str:
    """Read lines until one contains the word, and return it."""
    for line in stream:
        if word in line:
            return str(line)
    raise AssertionError(f"the process ended without printing {word!r}")


def states(jobrt_command: Callable[..., Result]) -> list[str]:
    """Return the jobs' states by id."""
    return [job["state"] for job in json.loads(jobrt_command("jobs", "--json", "--order-by", "id").out)]


def freeze(worker: subprocess.Popen[str], database: Path) -> None:
    """Freeze a process while it does not hold SQLite's write lock, which would block all others."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as conn:
        conn.execute("begin immediate")
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
        conn.execute("rollback")


def test_sigterm_lets_running_jobs_finish(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """The worker writes all outcomes and exits with status 0."""
    jobrt_command("enqueue", "wait_for", f"path={shop}/go")
    worker = start("worker")
    until(worker.stdout, "begun")
    worker.send_signal(signal.SIGTERM)
    until(worker.stderr, "is stopping")
    (shop / "go").touch()
    assert worker.wait(30) == 0
    assert states(jobrt_command) == ["completed"]


def test_a_second_signal_ends_the_grace(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """Interrupted jobs become available immediately and use no attempt."""
    jobrt_command("enqueue", "wait_for", f"path={shop}/never")
    worker = start("worker")
    until(worker.stdout, "begun")
    worker.send_signal(signal.SIGTERM)
    until(worker.stderr, "is stopping")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert states(jobrt_command) == ["available"]


def test_waiting_for_an_unserved_job_warns(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """The command warns and keeps waiting. When a worker runs the job, it prints the result."""
    waiting = start("enqueue", "hello", "name=you", "--wait")
    assert "job 1 waits until a worker does" in until(waiting.stderr, "no worker serves queue 'default'")
    jobrt_command("worker", "--drain", "--quiet")
    assert waiting.communicate(timeout=150)[0] == '"hello you"\n'
    assert waiting.returncode == 0


def test_a_third_signal_ends_the_process_whatever_it_does(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """A job that cannot be stopped stays executing until its lease expires."""
    jobrt_command("enqueue", "stubborn")
    worker = start("worker", "--grace", "1000")
    until(worker.stdout, "begun")
    worker.send_signal(signal.SIGTERM)
    until(worker.stderr, "is stopping")
    worker.send_signal(signal.SIGINT)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 1
    assert states(jobrt_command) == ["executing"]


def test_a_job_that_swallows_cancellation_does_not_hold_the_process(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """The process exits, and names the job. Another one runs it again, at the latest when the lease expires."""
    jobrt_command("enqueue", "stubborn")
    worker = start("worker", "--grace", "0.1")
    until(worker.stdout, "begun")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 1
    assert re.search(
        r"did not stop within 3.7 s of the signal; .*: stubborn 1$", worker.communicate()[1], re.MULTILINE
    )
    again = start("worker", "--grace", "0.1")
    until(again.stdout, "begun")
    again.send_signal(signal.SIGTERM)
    assert again.wait(30) == 1


def test_a_killed_workers_job_runs_again_elsewhere(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """The job runs again within the lease time. The crash counts as an attempt."""
    jobrt_command("enqueue", "wait_for", f"path={shop}/go")
    first = start("worker")
    until(first.stdout, "begun")
    second = start("worker")
    until(second.stderr, "is up")
    first.kill()
    until(second.stdout, "begun")
    (shop / "go").touch()
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    assert states(jobrt_command) == ["completed"]
    begun = (shop / "go.begun").read_text().splitlines()
    assert [line.split()[0] for line in begun] == ["1", "2"]


def test_a_frozen_workers_outcome_is_refused(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """After SIGSTOP for longer than its lease, the worker's outcome is refused and the worker keeps running."""
    jobrt_command("enqueue", "wait_for", f"path={shop}/go")
    first = start("worker")
    until(first.stdout, "begun")
    freeze(first, shop / "shop.db")
    second = start("worker")
    until(second.stdout, "begun")
    (shop / "go").touch()
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    before = jobrt_command("show", "1", "--json").out
    first.send_signal(signal.SIGCONT)
    until(first.stderr, "cancelled its jobs")
    assert first.poll() is None
    assert jobrt_command("show", "1", "--json").out == before
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    assert states(jobrt_command) == ["completed"]


@pytest.mark.slow
def test_a_killed_demo_continues_and_reports_every_file_once(
    shop: Path, start: Start, jobrt_command: Callable[..., Result]
) -> None:
    """The digests match sha256sum for all file names. Another run repeats nothing."""
    files = shop / "files"
    files.mkdir()
    for number in range(300):
        (files / f"file {number}.txt").write_bytes(os.urandom(2000) + b"\nwords and more\n")
    (files / "new\nline\\.bin").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(files) + b"/caf\xe9")).write_bytes(b"latin")
    first = start("--url", f"sqlite:///{shop}/demo.db", "demo", str(files))
    until(first.stderr, "files: ")
    first.kill()
    again = start("--url", f"sqlite:///{shop}/demo.db", "demo", str(files))
    out, err = again.communicate(timeout=150)
    assert again.returncode == 0, err
    assert "302 files, 0 failed" in out
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "jobrt-demo.sha256"], cwd=shop, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")
    lines = (shop / "jobrt-demo.sha256").read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == 302
    assert hashlib.sha256(b"latin").hexdigest().encode() in b"\n".join(lines)
    third = jobrt_command("--url", f"sqlite:///{shop}/demo.db", "demo", str(files))
    assert "already done" in third.err
    assert "302 files, 0 failed" in third.out


def test_a_complete_demo_is_not_repeated(shop: Path, jobrt_command: Callable[..., Result]) -> None:
    """A report that was deleted or overwritten is written again, without reading the files again."""
    for name in ("one", "two"):
        (shop / name).mkdir()
        (shop / name / f"{name}.txt").write_text(name)
    demo = ("--url", f"sqlite:///{shop}/demo.db", "demo")
    report = shop / "jobrt-demo.sha256"
    jobrt_command(*demo, "one")
    first = report.read_bytes()
    jobrt_command(*demo, "two")
    assert report.read_bytes() != first
    for spoil in (lambda: None, report.unlink):
        spoil()
        again = jobrt_command(*demo, "one")
        assert "0 files enqueued; 1 of 1 files from earlier runs are done" in again.err
        assert report.read_bytes() == first
    assert "already done" in jobrt_command(*demo, "one").err


@pytest.mark.slow
def test_the_demo_reports_unreadable_files(shop: Path, jobrt_command: Callable[..., Result]) -> None:
    """A file that no longer exists is tried three times, discarded, and reported in one line."""
    files = shop / "files"
    files.mkdir()
    (files / "good").write_text("two words")
    url = f"sqlite:///{shop}/demo.db"
    with jobrt.blocking.Client(url) as jobs:
        jobs.enqueue(CountFile(str(files), files / "gone\nsoon"))
    done = jobrt_command("--url", url, "demo", str(files))
    assert done.status == 0
    assert f"failed: {files}/gone\\nsoon: [Errno 2] No such file or directory: " in done.out
    assert "1 files, 1 failed" in done.out
    (dead,) = json.loads(jobrt_command("--url", url, "jobs", "--state", "discarded", "--json").out)
    assert len(dead["attempts"]) == 3


def test_the_report_of_the_demo_follows_no_link(shop: Path, jobrt_command: Callable[..., Result]) -> None:
    """Links with the names of the report and of its unfinished file are replaced or left, and not written through."""
    (shop / "one").mkdir()
    (shop / "one" / "one.txt").write_text("one")
    other = shop / "precious"
    other.write_text("precious")
    for name in ("jobrt-demo.sha256", "jobrt-demo.sha256.part"):
        (shop / name).symlink_to(other)
    done = jobrt_command("--url", f"sqlite:///{shop}/demo.db", "demo", "one")
    assert "1 files, 0 failed" in done.out
    assert other.read_text() == "precious"
    assert not (shop / "jobrt-demo.sha256").is_symlink()
    assert [path.name for path in shop.iterdir() if path.name.startswith(".jobrt-demo")] == []


async def test_a_release_needs_no_time_to_open_the_storage(tmp_path: Path) -> None:
    """It is held open during a stop. Before, or if that fails, a release opens one."""
    app = jobrt.App(f"sqlite:///{tmp_path}/jobs.db", migrate=True)
    storages = Storages(app)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storages.hold)
            while storages._held is None:
                await trio.lowlevel.checkpoint()
            async with storages.use() as one, storages.use() as other:
                assert one is other is storages._held
            nursery.cancel_scope.cancel()
        async with storages.use() as one:
            assert one is not storages._held
            assert await one.workers.all() == ()


async def test_a_storage_that_cannot_be_held_does_not_end_the_parent(tmp_path: Path) -> None:
    """The release reports what is wrong."""
    storages = Storages(jobrt.App(f"sqlite:///{tmp_path}/nowhere/jobs.db"))
    await storages.hold()
    with pytest.raises(StorageError, match="there is no folder"):
        async with storages.use():
            pass  # pragma: no cover - it is not opened
