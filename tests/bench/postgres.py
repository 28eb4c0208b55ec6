"""Benchmark of jobrt and its peers on a PostgreSQL server: ``python tests/bench/postgres.py``.

It requires Linux. It starts a server with durable commits, or uses that of --conninfo, whose user must be allowed to
create databases. Each client and worker is a process, and each measurement has a database of its own. A job counts
when its end is committed. Tables go to standard output, progress goes to standard error. Peers are installed at first
use, in a folder of the temporary folder. `design/benchmarks.md` explains the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.measuring.databases import PostgresDatabases
from tests.bench.measuring.flat import backlog, snapshot
from tests.bench.measuring.processes import Bench, Contestant, memory
from tests.bench.measuring.rounds import Results, Sizes, enter, run
from tests.bench.measuring.tables import cell, markdown, spreads
from tests.bench.measuring.targets import judge, report
from tests.bench.peers import PEERS
from tests.support.postgres import Server
from tests.support.shared import Clusters

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
TABLES = (
    ("jobs per second", ("one /s", "bulk /s", "drain /s", "drained %")),
    (
        "ms to the start of a job, idle",
        tuple(f"{since} p{p} ms" for since in ("call", "commit") for p in (50, 95, 99)),
    ),
    ("a job costs", ("client s/k", "server s/k", "WAL B", "commits", "dead rows", "peak MiB", "idle %")),
    (
        "an enqueued job costs",
        ("one client s/k", "one server s/k", "bulk client s/k", "bulk server s/k", "bulk WAL B"),
    ),
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    others = [name for name in PEERS if name != "jobrt"]
    sizes = Sizes()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=",".join(others), help="some of %(default)s; '' for jobrt only")
    parser.add_argument(
        "--settings", default="default,best", help="settings of the peers; jobrt has its defaults"
    )
    parser.add_argument(
        "--repeat", type=int, default=sizes.repeat, help="number of rounds; figures are medians"
    )
    parser.add_argument("--jobs", type=int, help=f"jobs per drain: {sizes.jobs:,}, with --snapshot 250,000")
    parser.add_argument("--pulses", type=int, default=sizes.pulses, help="jobs for an idle worker's latency")
    parser.add_argument(
        "--seconds", type=float, default=sizes.seconds, help="duration of enqueueing one by one"
    )
    parser.add_argument("--limit", type=float, default=sizes.limit, help="maximum seconds of a drain")
    parser.add_argument("--idle", type=float, default=sizes.idle, help="seconds to measure an idle worker")
    parser.add_argument("--conninfo", help="URL of another server")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to FILE")
    parser.add_argument("--snapshot", action="store_true", help="only: drain with a snapshot held open")
    parser.add_argument(
        "--backlog",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="only: drain with N waiting jobs; repeatable",
    )
    parser.add_argument(
        "--finished", type=int, default=0, metavar="M", help="with --backlog: also with M finished jobs"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Run the benchmark."""
    options = parse()
    names = ["jobrt", *filter(None, options.peers.split(","))]
    if unknown := sorted(set(names) - set(PEERS)):
        raise SystemExit(f"unknown peer {', '.join(unknown)}: use {', '.join(PEERS)}")
    alone = options.snapshot or options.backlog
    results = Results()
    peers = [PEERS[name] for name in names[: 1 if alone else None]]
    contestants = enter(peers, options.settings.split(","), results)
    with serving(options.conninfo) as server, tempfile.TemporaryDirectory(dir=memory()) as folder:
        databases = PostgresDatabases(server)
        bench = Bench(databases, Path(folder))
        about = machine(databases)
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        if alone:
            measured = flatness(bench, databases, contestants[0], options)
        else:
            run(bench, contestants, sizes(options), results)
            show(results)
            measured = record(results)
        about |= {"commit ms after": round(databases.commit_ms(), 3), "load after": os.getloadavg()[0]}
    if options.json:
        options.json.write_text(json.dumps({"about": about} | measured, indent=1), encoding="utf-8")
    if "jobrt default" in results.failures:
        raise SystemExit(1)


def flatness(
    bench: Bench, databases: PostgresDatabases, who: Contestant, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure jobrt with a snapshot held open, or with backlogs."""
    measured = {}
    if options.snapshot:
        measured["snapshot"] = snapshot(bench, who, jobs=options.jobs or 250_000, repeat=options.repeat)
    if options.backlog:
        cases = [
            (waiting, finished)
            for finished in dict.fromkeys((0, options.finished))
            for waiting in options.backlog
        ]
        measured["backlog"] = backlog(bench, databases, who, cases=cases, repeat=options.repeat)
    return measured


def sizes(options: argparse.Namespace) -> Sizes:
    """Return the sizes of the measurements."""
    return Sizes(
        repeat=options.repeat,
        jobs=options.jobs or Sizes().jobs,
        pulses=options.pulses,
        seconds=options.seconds,
        limit=options.limit,
        idle=options.idle,
    )


@contextmanager
def serving(conninfo: str | None) -> Generator[Server]:
    """Yield the server of `conninfo`, or a new one."""
    if conninfo:
        yield Server(conninfo)
        return
    clusters = Clusters.of_this_run()
    try:
        with clusters.private(DURABLE) as cluster:
            yield cluster.server
    finally:
        clusters.destroy()


def machine(databases: PostgresDatabases) -> dict[str, Any]:
    """Return the properties of machine and server that affect the figures."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "Python": platform.python_version(),
        **{f"PostgreSQL {key}": value for key, value in databases.about().items()},
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
        "commit ms before": round(databases.commit_ms(), 3),
    }


def show(results: Results) -> None:
    """Print the figures of each contestant, then the targets."""
    medians = {name: spreads(rounds) for name, rounds in results.rounds.items()}
    for title, figures in TABLES:
        rows = [
            (name, *(cell(figures_of, figure) for figure in figures)) for name, figures_of in medians.items()
        ]
        print(f"\n{markdown((title, *figures), rows)}")
    print("\n" + markdown(("measured", "release"), results.versions.items()))
    if results.failures:
        print("\n" + markdown(("failed", "reason"), results.failures.items()))
    print("\n" + report(judge(results.rounds)))


def record(results: Results) -> dict[str, Any]:
    """Return all results as JSON values."""
    return {
        "versions": results.versions,
        "rounds": results.rounds,
        "failures": results.failures,
        "figures": {
            name: {figure: attrs.asdict(spread) for figure, spread in spreads(rounds).items()}
            for name, rounds in results.rounds.items()
        },
        "targets": [
            {"what": verdict.target.what, "rival": verdict.rival}
            | {"needed": verdict.target.bound, "met": verdict.met}
            | attrs.asdict(verdict.value)
            for verdict in judge(results.rounds)
        ],
    }


if __name__ == "__main__":
    main()
