"""Measure jobrt on PostgreSQL: ``python tests/bench/postgres.py [--peers pgqueuer,procrastinate]``.

Starts a server of its own with durable commits, and every client and worker in a process of its own. A job counts
when its end is committed. Compare figures of one run only: machines differ, and drift. The load of the machine is
printed with them.

Besides the table: ``--snapshot`` holds a transaction open while jobs pass, ``--backlog N`` (repeat it) puts N jobs
behind those that are run, ``--finished N`` as many finished ones beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.peers import PEERS, Peer
from tests.bench.peers.harness import Marks
from tests.support.shared import Clusters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.postgres import Cluster

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
PATIENCE = 600.0
"""Seconds for one measurement."""
MIB = 2**20


@attrs.define(eq=False)
class Bench:
    """A server and a folder."""

    cluster: Cluster
    folder: Path
    made: int = 0

    def database(self, peer: Peer) -> str:
        """Make a database with a peer's tables and return its URL."""
        self.made += 1
        url = self.cluster.server.create_database(f"bench{self.made}")
        self.ask(peer, "setup", url)
        return url

    def ask(self, peer: Peer, *arguments: str) -> Any:
        """Run an adapter's command and return what it printed."""
        done = subprocess.run(
            [peer.python(), str(peer.script), *arguments],
            stdout=subprocess.PIPE,
            check=True,
            timeout=PATIENCE,
        )
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def working(self, peer: Peer, url: str, *, setting: str, until: int = 0) -> Iterator[Working]:
        """Run a worker for the length of a block; stop it gracefully."""
        path = self.folder / "marks"
        marks = Marks(path, clear=True)
        process = psutil.Popen(
            [peer.python(), str(peer.script), "work", url, setting],
            env={**os.environ, "MARKS": str(path), "MARKS_UNTIL": str(until)},
            stdout=subprocess.DEVNULL,
        )
        try:
            yield Working(marks, process)
            process.terminate()
            process.wait(20)
        except psutil.TimeoutExpired:
            pass
        finally:
            if process.is_running():
                process.kill()
                process.wait()

    def sql(self, url: str, query: str) -> Any:
        """Return the first value of a query."""
        rows = self.cluster.server.execute(query, url=url)
        return rows[0][0] if rows else None

    def settle(self, url: str) -> None:
        """Let every drain begin in the same state."""
        self.sql(url, "vacuum analyze")
        self.sql(url, "checkpoint")

    def cpu(self) -> float:
        """Return the CPU seconds of the server, ended backends included."""
        server = psutil.Process(int((self.cluster.data / "postmaster.pid").read_text().split()[0]))
        times = server.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in server.children():
            try:
                total += sum(child.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return float(total)


@attrs.frozen
class Working:
    """A worker process and what its jobs left."""

    marks: Marks
    process: psutil.Popen

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        return float(sum(self.process.cpu_times()[:2]))

    def peak(self) -> float:
        """Return its peak memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def until(self, reached: Callable[[], object]) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the worker ended or hung: {self.process}")
            time.sleep(0.005)


def enqueue_one(bench: Bench, peer: Peer, seconds: float) -> dict[str, float]:
    """Return jobs enqueued one by one in a second."""
    said = bench.ask(peer, "one", bench.database(peer), str(seconds))
    return {"enqueue one /s": said["jobs"] / said["seconds"]}


def drain(bench: Bench, peer: Peer, *, setting: str, jobs: int, url: str | None = None) -> dict[str, float]:
    """Return what it costs to run many no-op jobs, and how fast they were enqueued."""
    url = url or bench.database(peer)
    said = bench.ask(peer, "many", url, str(jobs))
    bench.settle(url)
    commits = bench.sql(url, "select xact_commit from pg_stat_database where datname = current_database()")
    wal = bench.sql(url, "select pg_current_wal_insert_lsn() - '0/0'")
    with bench.working(peer, url, setting=setting, until=jobs) as worker:
        worker.until(lambda: worker.marks.first)
        cpu, server_cpu = worker.cpu(), bench.cpu()
        worker.until(lambda: worker.marks.count >= jobs)
        worker.until(lambda: bench.sql(url, peer.unfinished) is None)
        seconds = (time.monotonic_ns() - worker.marks.first) / 1e9
        cpu, server_cpu, peak = worker.cpu() - cpu, bench.cpu() - server_cpu, worker.peak()
        wal = bench.sql(url, "select pg_current_wal_insert_lsn() - '0/0'") - wal
    after = bench.sql(url, "select xact_commit from pg_stat_database where datname = current_database()")
    dead = bench.sql(url, "select sum(n_dead_tup) from pg_stat_user_tables")
    return {
        "enqueue many /s": said["jobs"] / said["seconds"],
        "drain /s": jobs / seconds,
        "worker CPU s/1k": cpu / jobs * 1000,
        "server CPU s/1k": server_cpu / jobs * 1000,
        "WAL B/job": float(wal) / jobs,
        "commits/job": (after - commits) / jobs,
        "dead rows/job": float(dead) / jobs,
        "peak MiB": peak,
    }


def pulse(bench: Bench, peer: Peer, *, setting: str, jobs: int) -> dict[str, float]:
    """Return milliseconds from the commit of an enqueue to the first line of the body, on an idle worker."""
    url, warm = bench.database(peer), 20
    with bench.working(peer, url, setting=setting) as worker:
        bench.ask(peer, "pulse", url, str(warm))  # until it is up: the jobs of this round are not looked at
        worker.until(lambda: bench.sql(url, peer.unfinished) is None)
        committed = bench.ask(peer, "pulse", url, str(jobs))
        worker.until(lambda: bench.sql(url, peer.unfinished) is None)
        waits = [(worker.marks.started(job) - at) / 1e6 for job, at in enumerate(committed)]
        cpu, begin = worker.cpu(), time.monotonic()
        time.sleep(3)
        idle = (worker.cpu() - cpu) / (time.monotonic() - begin) * 100
    cuts = statistics.quantiles(waits, n=100)
    return {"start p50 ms": cuts[49], "start p95 ms": cuts[94], "start p99 ms": cuts[98], "idle CPU %": idle}


def measure(bench: Bench, peer: Peer, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the figures of a peer, for each of its settings, the best of several runs being their median."""
    figures = {}
    one = median([enqueue_one(bench, peer, options.seconds) for _ in range(options.runs)])
    for setting in peer.settings:
        drains = median([drain(bench, peer, setting=setting, jobs=options.jobs) for _ in range(options.runs)])
        pulses = median(
            [pulse(bench, peer, setting=setting, jobs=options.pulses) for _ in range(options.runs)]
        )
        figures[f"{peer.name} {setting}"] = one | drains | pulses
    return figures


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def show(figures: dict[str, dict[str, float]]) -> None:
    """Print one line per figure, one column per peer and setting, and how many times jobrt's it is."""
    names = list(figures)
    print(f"{'':>18}" + "".join(f"{name:>26}" for name in names))
    for key, ours in figures[names[0]].items():
        cells = [f"{ours:>26,.3f}"]
        for name in names[1:]:
            theirs = figures[name][key]
            ratio = f" (jobrt x{ours / theirs:.2f})" if theirs else ""
            cells.append(f"{theirs:,.3f}{ratio}".rjust(26))
        print(f"{key:>18}" + "".join(cells))


def snapshot(bench: Bench, jobs: int) -> None:
    """Drain with and without a transaction held open elsewhere, and print how much slower it became."""
    peer = PEERS["jobrt"]
    rates = {}
    for held in (False, True):
        url = bench.database(peer)
        with psycopg.connect(url) as reader:
            if held:
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select count(*) from jobrt.job")
            rates[held] = drain(bench, peer, setting="default", jobs=jobs, url=url)["drain /s"]
    print(
        f"{jobs:,} jobs: {rates[False]:,.0f}/s, with a snapshot held open {rates[True]:,.0f}/s:"
        f" {100 * (1 - rates[True] / rates[False]):.1f} % slower"
    )


FINISHED = """
    insert into jobrt.job (lease, schedule_at, created_at, started_at, finished_at, priority, attempt, max_attempts,
                           state, queue, name, worker, args)
    select -g, t, t, t, t, 0, 1, 20, 'completed', 'default', 'Noop', 'somebody', '{"number":1,"pad":"x"}'
      from generate_series(1, %d) g, (select now() - interval '1 hour') past(t)
"""


def backlog(bench: Bench, waiting: int, *, finished: int, sample: int = 20_000) -> None:
    """Print what a job costs while so many wait behind it, and so many have finished."""
    peer = PEERS["jobrt"]
    url = bench.database(peer)
    if finished:
        bench.sql(url, FINISHED % finished)
    bench.ask(peer, "many", url, str(waiting + sample + 2000))
    bench.settle(url)
    with bench.working(peer, url, setting="default", until=1 << 40) as worker:
        worker.until(lambda: worker.marks.count >= 1000)
        cpu, server = worker.cpu(), bench.cpu()
        worker.until(lambda: worker.marks.count >= 1000 + sample)
        cpu, server = worker.cpu() - cpu, bench.cpu() - server
        seconds = (worker.marks.thousand(1 + sample // 1000) - worker.marks.thousand(1)) / 1e9
    print(
        f"{waiting:>12,} waiting {finished:>12,} finished: {sample / seconds:>8,.0f}/s, CPU s/1k:"
        f" worker {cpu / sample * 1000:.4f}, server {server / sample * 1000:.4f}"
    )


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--peers", default="", help=f"of {', '.join(name for name in PEERS if name != 'jobrt')}"
    )
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs per drain")
    parser.add_argument("--pulses", type=int, default=200, help="jobs for the latency of an idle worker")
    parser.add_argument("--seconds", type=float, default=5.0, help="for enqueueing one by one")
    parser.add_argument("--runs", type=int, default=3, help="the figures are medians of so many")
    parser.add_argument("--snapshot", action="store_true", help="only: with a transaction held open")
    parser.add_argument("--backlog", type=int, action="append", default=[], help="only: with so many waiting")
    parser.add_argument("--finished", type=int, default=0, help="with --backlog: and so many finished")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    peers = [PEERS[name] for name in ("jobrt", *filter(None, options.peers.split(",")))]
    for peer in peers:
        peer.python()
    clusters = Clusters.of_this_run()
    try:
        with clusters.private(DURABLE) as cluster, tempfile.TemporaryDirectory() as folder:
            bench = Bench(cluster, Path(folder))
            print(
                f"Python {platform.python_version()}, {cluster.server.execute('show server_version')[0][0]},"
                f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
                file=sys.stderr,
            )
            if options.snapshot:
                snapshot(bench, options.jobs if options.jobs != 50_000 else 250_000)
            for waiting in options.backlog:
                backlog(bench, waiting, finished=options.finished)
            if not (options.snapshot or options.backlog):
                figures = {}
                for peer in peers:
                    figures |= measure(bench, peer, options)
                print(json.dumps(figures)) if options.json else show(figures)
            print(f"load at the end {os.getloadavg()[0]:.1f}", file=sys.stderr)
    finally:
        clusters.destroy()


if __name__ == "__main__":
    main()
