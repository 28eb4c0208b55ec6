"""``python -m tests.chaos --seconds 600``: inject faults on both engines; exits with 1 if there were violations."""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.chaos.disk import small_disk
from tests.chaos.run import Run, run_chaos
from tests.support.postgres import Cluster, destroy, find_programs
from tests.support.shared import Clusters

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK = {"sqlite": 16, "postgres": 600}
"""Megabytes of the disk of the database for a short run; with PostgreSQL a server and its standby."""
GROWTH = 0.15
"""Megabytes for each second: the jobs, their changes, and the copies for restores."""


def run_on(engine: str, options: argparse.Namespace, folder: Path) -> Run:
    """Run the chaos test on one engine."""
    run = partial(
        run_chaos,
        folder=folder,
        seconds=options.seconds,
        seed=options.seed,
        workers=options.workers,
        stop_early=options.stop_early,
        families=options.families,
    )
    with small_disk(DISK[engine] + round(GROWTH * options.seconds)) as disk:
        if disk.refused:
            print(f"{engine}: the disk is not filled: {disk.refused}", flush=True)
        full = None if disk.refused else disk
        if engine == "sqlite":
            return trio.run(partial(run, f"sqlite:///{disk.folder}/jobs.db", disk=full))
        with server_on(disk.folder) as cluster:
            url = cluster.server.create_database("chaos")
            return trio.run(partial(run, url, cluster=cluster, disk=full))


@contextmanager
def server_on(disk: Path) -> Iterator[Cluster]:
    """Run a server with its files on a disk, and with fsync, so that it recovers what it has confirmed."""
    clusters = Clusters.of_this_run()
    cluster = Cluster(disk / "server", find_programs(clusters.home))
    try:
        cluster.create(
            {"fsync": "on", "full_page_writes": "on", "max_wal_size": "64MB", "min_wal_size": "32MB"}
        )
        cluster.start()
        yield cluster
    finally:
        destroy(cluster.home)
        clusters.destroy()


def report(engine: str, run: Run, limit: int) -> None:
    """Print the result of a run."""
    counts = ", ".join(f"{count} {what}" for what, count in run.counts.items())
    injected = ", ".join(f"{what} {count}" for what, count in sorted(run.injected.items()))
    print(f"{engine}: {run.seconds:.0f} s; {counts}; faults: {injected}")
    print(f"{engine}: violations: {', '.join(f'{kind} {len(texts)}' for kind, texts in run.found.items())}")
    for kind, texts in run.found.items():
        for text in texts[:limit]:
            print(f"  {kind}: {text}")


def main() -> int:
    """Run the chaos test on each engine."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the faults for each engine")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--workers", type=int, default=3, help="worker processes")
    parser.add_argument("--engine", choices=["postgres", "sqlite", "both"], default="both")
    parser.add_argument("--families", action="store_true", help="also run jobs with nurseries")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    parser.add_argument("--stop-early", action="store_true", help="stop at the first violation")
    parser.add_argument("--show", type=int, default=10, help="number of violations of each kind to print")
    options = parser.parse_args()
    print(f"seed {options.seed}, load {os.getloadavg()[0]:.1f}", flush=True)
    failed = False
    for engine in ("postgres", "sqlite") if options.engine == "both" else (options.engine,):
        folder = Path(tempfile.mkdtemp(prefix=f"jobrt-chaos-{engine}-"))
        run = run_on(engine, options, folder)
        report(engine, run, options.show)
        failed = failed or bool(run.violations)
        if options.keep:
            print(f"{engine}: the logs are in {folder}")
        else:
            shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
