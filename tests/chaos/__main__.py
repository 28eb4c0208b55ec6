"""``python -m tests.chaos --seconds 600``: maltreat workers on both engines; the status is 1 if anything went wrong."""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import trio

from tests.chaos.run import Run, maltreat
from tests.support.shared import Clusters


def run_on(engine: str, options: argparse.Namespace, folder: Path) -> Run:
    """Run on one engine."""
    run = partial(
        maltreat, folder=folder, seconds=options.seconds, seed=options.seed, workers=options.workers
    )
    if engine == "sqlite":
        return trio.run(partial(run, f"sqlite:///{folder}/jobs.db"))
    clusters = Clusters.of_this_run()
    try:
        # What is killed is the server and not the machine, but a crash of it must find its files in order.
        with clusters.private({"fsync": "on", "full_page_writes": "on"}) as cluster:
            return trio.run(partial(run, cluster.server.create_database("chaos"), cluster=cluster))
    finally:
        clusters.destroy()


def tell(engine: str, run: Run) -> None:
    """Print how it went."""
    report = run.report
    done = ", ".join(f"{what} {count}" for what, count in sorted(run.deeds.items()))
    print(
        f"{engine}: {report.jobs} jobs, {report.bodies} bodies ({report.again} again, all on record); {done}"
    )
    print(
        f"{engine}: lost {len(report.lost)}, doubled {len(report.doubled)}, overlapping"
        f" {len(report.overlapping)}, stuck {len(report.stuck)}, processes that misbehaved {len(run.misbehaved)}"
    )
    for fault in run.faults:
        print(f"  {fault}")


def main() -> int:
    """Run and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of maltreatment, for each engine")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--workers", type=int, default=3, help="worker processes")
    parser.add_argument("--engine", choices=["postgres", "sqlite", "both"], default="both")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args()
    print(f"seed {options.seed}, load {os.getloadavg()[0]:.1f}", flush=True)
    wrong = False
    for engine in ("postgres", "sqlite") if options.engine == "both" else (options.engine,):
        folder = Path(tempfile.mkdtemp(prefix=f"jobrt-chaos-{engine}-"))
        run = run_on(engine, options, folder)
        tell(engine, run)
        wrong = wrong or bool(run.faults)
        if options.keep or run.faults:
            print(f"{engine}: the logs are in {folder}")
        else:
            shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
