"""Benchmark of jobrt on a SQLite file: ``python tests/bench/sqlite.py``.

It runs no-op jobs in one worker process with default settings and synchronous FULL. A job counts when its end is
committed. Figures are medians of several rounds, with the lowest and the highest. The start of a job is measured with
client and worker in the same program, the usual case, and with the client in another process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import trio

import jobrt

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench.measuring.databases import SqliteDatabases
from tests.bench.measuring.parts import Figures, drain, one_by_one, pulse
from tests.bench.measuring.processes import Bench, Contestant, memory
from tests.bench.measuring.rounds import say
from tests.bench.measuring.tables import markdown, spreads
from tests.bench.measuring.targets import OURS, Target, judge, report
from tests.bench.peers import PEERS

TARGETS = (
    Target("drained per second", "drain /s", least=20_000, rival=None),
    Target("enqueued in bulk per second", "bulk /s", least=50_000, rival=None),
    Target("idle start in one program, p50 in ms", "own p50 ms", most=3, rival=None),
    Target("CPU of an idle worker in %", "idle %", most=1, rival=None),
)

begun: dict[int, float] = {}


class Noop(jobrt.Job):
    """Job that only records its start."""

    number: int
    pad: str = "x" * 64

    async def run(self, ctx: jobrt.Context) -> None:
        """Record the time."""
        begun[self.number] = time.perf_counter()


async def start_in_one_program(url: str, jobs: int) -> Figures:
    """Measure the time from the call of enqueue to the start of the body, at random intervals."""
    begun.clear()
    chance, called = random.Random(42), []
    app = jobrt.App(url, jobs=[Noop])
    async with trio.open_nursery() as nursery, app.open_client() as client:
        worker = await nursery.start(app.run_worker)
        for number in range(jobs):
            await trio.sleep(chance.uniform(0.02, 0.08))
            called.append(time.perf_counter())
            await (await client.enqueue(Noop(number))).wait()
        await worker.stop()
    cuts = statistics.quantiles(((begun[job] - at) * 1000 for job, at in enumerate(called)), n=100)
    return {"own p50 ms": cuts[49], "own p95 ms": cuts[94], "own p99 ms": cuts[98]}


def measure(bench: Bench, who: Contestant, options: argparse.Namespace) -> Figures:
    """Return the figures of a round."""
    figures = one_by_one(bench, who, seconds=options.seconds)
    figures |= drain(bench, who, jobs=options.jobs, limit=300)
    figures |= pulse(bench, who, jobs=options.pulses, idle=options.idle)
    with bench.databases.fresh() as database:
        figures |= trio.run(start_in_one_program, database.url, options.pulses)
    return {name: figure for name, figure in figures.items() if figure == figure}  # noqa: PLR0124 - not nan


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of rounds; figures are medians")
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs per drain")
    parser.add_argument("--pulses", type=int, default=200, help="jobs for an idle worker's latency")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of enqueueing one by one")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to measure an idle worker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds to FILE")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """Return the properties of the machine that affect the figures."""
    return {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "jobrt": version("jobrt"),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "Trio": version("trio"),
        "synchronous": "FULL",
        "concurrency": 10,
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Run the benchmark."""
    options, about = parse(), machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    who, rounds = Contestant(PEERS["jobrt"], "default", sys.executable), []
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir=memory()) as folder:
        bench = Bench(SqliteDatabases(Path(disk)), Path(folder))
        for number in range(options.repeat):
            say(f"round {number + 1} of {options.repeat}, load {os.getloadavg()[0]:.1f}")
            rounds.append(measure(bench, who, options))
    medians = spreads(rounds)
    verdicts = judge({OURS: rounds}, TARGETS)
    print(
        "\n"
        + markdown(
            ("figure", "median (lowest-highest)"), [(name, str(spread)) for name, spread in medians.items()]
        )
    )
    print("\n" + report(verdicts))
    if options.json:
        figures = {name: attrs.asdict(spread) for name, spread in medians.items()}
        met = {verdict.target.what: verdict.met for verdict in verdicts}
        results = {"about": about, "rounds": rounds, "figures": figures, "met": met}
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
