"""Measure jobrt on a SQLite file: ``python tests/bench/sqlite.py``.

Default settings, synchronous FULL, no-op jobs, one worker process; a job counts when its end is committed. Figures are
medians of some rounds, with the lowest and the highest. A job's start is measured with client and worker in one
program, as SQLite is mostly used, and with the client in a process of its own.
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
    """Do nothing but tell when."""

    number: int
    pad: str = "x" * 64

    async def run(self, ctx: jobrt.Context) -> None:
        """Tell when it began."""
        begun[self.number] = time.perf_counter()


async def start_in_one_program(url: str, jobs: int) -> Figures:
    """Measure milliseconds from the call of enqueue to the first line of the body, at random intervals."""
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
    """Return the figures of one round."""
    figures = one_by_one(bench, who, seconds=options.seconds)
    figures |= drain(bench, who, jobs=options.jobs, limit=300)
    figures |= pulse(bench, who, jobs=options.pulses, idle=options.idle)
    with bench.databases.fresh() as database:
        figures |= trio.run(start_in_one_program, database.url, options.pulses)
    return {name: figure for name, figure in figures.items() if figure == figure}  # noqa: PLR0124 - not nan


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, help="rounds; figures are their medians")
    parser.add_argument("--jobs", type=int, default=100_000, help="per drain")
    parser.add_argument("--pulses", type=int, default=200, help="jobs for an idle worker's latency")
    parser.add_argument("--seconds", type=float, default=3.0, help="for enqueueing one by one")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of measuring an idle worker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all rounds")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the code."""
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
    """Measure and print."""
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
        + markdown(("figure", "median (lowest-highest)"), [(name, str(one)) for name, one in medians.items()])
    )
    print("\n" + report(verdicts))
    if options.json:
        figures = {name: attrs.asdict(one) for name, one in medians.items()}
        met = {one.target.what: one.met for one in verdicts}
        everything = {"about": about, "rounds": rounds, "figures": figures, "met": met}
        options.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
