"""Mutants: small mistakes in jobrt, which the chaos test or the simulation must find. A test of these tests.

``python -m tests.chaos.mutants [NAME ...]`` runs them, and prints what found each after how many seconds. A mutant is
applied in the processes of a run, by the environment variable `VARIABLE`; the sources stay as they are. One that does
not fit the sources any more is an error.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._core.unique_batch import Batch
from jobrt._runtime.executors import Executors
from jobrt._runtime.heartbeat import Heartbeat
from jobrt._runtime.messages import Fence
from jobrt._runtime.name_limits import NameLimits
from jobrt._storage.postgres import names as postgres_names
from jobrt._storage.postgres.attempts import PostgresAttempts
from jobrt._storage.postgres.workers import PostgresWorkers
from jobrt._storage.sqlite import family, finish, scan
from jobrt._storage.sqlite.attempts import SqliteAttempts
from jobrt._storage.sqlite.transaction import SQL
from jobrt._storage.sqlite.workers import SqliteWorkers
from jobrt.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["MUTANTS", "apply_from_environment"]

VARIABLE = "JOBRT_CHAOS_MUTANT"
MUTANTS: dict[str, Callable[[], None]] = {}


def mutant(function: Callable[[], None]) -> Callable[[], None]:
    """Register a mutant under the name of the function."""
    MUTANTS[function.__name__] = function
    return function


def apply_from_environment() -> None:
    """Apply the mutant that the environment names, if it names one."""
    if name := os.environ.get(VARIABLE):
        MUTANTS[name]()


def replace(owner: Any, name: str, value: Any) -> None:
    """Replace a function or method, which must exist."""
    getattr(owner, name)
    setattr(owner, name, value)


def swap(statement: str, *changes: tuple[str, str], sqlite: bool) -> None:
    """Change the text of a statement; what is to be replaced must be in it."""
    statements: dict[str, str] = SQL if sqlite else postgres_names._FILES  # type: ignore[assignment]
    for old, new in changes:
        text = statements[statement]
        if old not in text:
            raise LookupError(f"{statement} has no {old!r}: the mutant must be adapted to it")
        statements[statement] = text.replace(old, new)


# ---------------------------------------------------------------------- leases


@mutant
def fence_does_not_cancel() -> None:
    """Let jobs run on when the lease is lost."""
    follow = Executors._follow
    replace(
        Executors, "_follow", lambda self, order: None if isinstance(order, Fence) else follow(self, order)
    )


@mutant
def fenced_too_late() -> None:
    """Let others take jobs after half of the lease that the worker trusts."""
    for workers in (SqliteWorkers, PostgresWorkers):
        for name in ("register", "beat"):
            replace(workers, name, _with_half_a_lease(getattr(workers, name)))


def _with_half_a_lease(method: Any) -> Any:
    @wraps(method)
    async def halved(self: Any, worker: str, *, lease: float, info: Any) -> Any:
        return await method(self, worker, lease=lease / 2, info=info)

    return halved


@mutant
def heartbeat_does_not_renew() -> None:
    """Believe in heartbeats that are never sent."""

    async def beat(self: Heartbeat, _limit: float) -> bool:
        self.renewed = trio.current_time()
        await trio.lowlevel.checkpoint()
        return True

    replace(Heartbeat, "_beat", beat)


@mutant
def outcome_of_any_attempt() -> None:
    """Write outcomes without looking at the lease."""
    _guard_outcomes(sqlite="", postgres="")


@mutant
def outcome_of_an_earlier_attempt() -> None:
    """Write outcomes for jobs that run, under whatever lease."""
    _guard_outcomes(sqlite=" AND state = 3", postgres=" and j.state = 'executing'")


def _guard_outcomes(*, sqlite: str, postgres: str) -> None:
    swap("attempts/finish_clean", (" AND jobrt_job.lease = :lease", sqlite), sqlite=True)
    swap(
        "attempts/finish_owned", ("WHERE jobrt_job.lease = outcome.value", f"WHERE true{sqlite}"), sqlite=True
    )
    swap(
        "attempts/finish_jobs",
        (" AND jobrt_job.lease = json_extract(new.value, '$[1]')", sqlite),
        sqlite=True,
    )
    for statement in ("attempts/finish_clean", "attempts/finish_mixed"):
        swap(statement, (" and j.lease = o.lease and o.lease > 0", postgres), sqlite=False)


@mutant
def rescue_of_the_living() -> None:
    """Take jobs from workers that are alive."""
    swap("workers/rescue_find", ("expires_at > :now", "false"), sqlite=True)
    for statement in ("workers/rescue_find", "workers/rescue_end"):
        swap(statement, ("w.expires_at > statement_timestamp()", "false"), sqlite=False)


@mutant
def unknown_claims_are_kept() -> None:
    """Never give back claims whose reply was lost."""

    async def release_unknown(*_args: Any, **_keywords: Any) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    for attempts in (SqliteAttempts, PostgresAttempts):
        replace(attempts, "release_unknown", release_unknown)


@mutant
def crash_does_not_count() -> None:
    """Lower the attempt of a job whose worker died."""
    swap("workers/rescue_end", ("lease = NULL", "lease = NULL, attempt = attempt - 1"), sqlite=True)
    swap("workers/rescue_end", ("lease = null", "lease = null, attempt = j.attempt - 1"), sqlite=False)


# ---------------------------------------------------------------------- claims


@mutant
def cluster_limit_off_by_one() -> None:
    """Run one job more than the limit of the cluster."""
    _with_demand("cluster_limit")


@mutant
def key_limit_off_by_one() -> None:
    """Run one job more than the limit of a key."""
    _with_demand("per_key")


def _with_demand(limit: str) -> None:
    """Let claims ask for one more than a limit."""

    def loosened(exchange: Any) -> Any:
        @wraps(exchange)
        async def asked(self: Any, outcomes: Any, demand: Any) -> Any:
            if getattr(demand, limit) is not None:
                demand = attrs.evolve(demand, **{limit: getattr(demand, limit) + 1})
            return await exchange(self, outcomes, demand)

        return asked

    for attempts in (SqliteAttempts, PostgresAttempts):
        replace(attempts, "exchange", loosened(attempts.exchange))


@mutant
def name_limit_off_by_one() -> None:
    """Run one job more than MAX_CONCURRENCY."""
    free = NameLimits.free
    replace(NameLimits, "free", lambda self: {name: count + 1 for name, count in free(self).items()})


@mutant
def priority_is_ignored() -> None:
    """Claim the jobs of the lowest priority first."""
    priorities = scan._priorities
    replace(scan, "_priorities", lambda tx, queue, below: reversed(list(priorities(tx, queue, below=below))))
    for statement in ("attempts/exchange_picked_one", "attempts/exchange_picked_several"):
        swap(statement, ("order by v.priority desc", "order by v.priority"), sqlite=False)


# ---------------------------------------------------------------------- jobs


@mutant
def uniqueness_is_not_checked() -> None:
    """Insert duplicates."""
    replace(Batch, "_find_stored", lambda _self, _rule: None)
    replace(Batch, "_find_new", lambda _self, _rule: None)


@mutant
def cron_fires_twice() -> None:
    """Let each worker fire a tick."""
    swap("crons/fire", ("last_tick < :tick", "last_tick <= :tick"), sqlite=True)
    swap("crons/fire", ("c.last_tick < :tick", "c.last_tick <= :tick"), sqlite=False)


@mutant
def running_jobs_are_not_told() -> None:
    """Ignore cancel requests for running jobs."""
    replace(Executors, "_cancel_requested", lambda _self: None)


@mutant
def transaction_without_its_outcome() -> None:
    """Write the outcome after the transaction of the job."""
    for attempts in (SqliteAttempts, PostgresAttempts):
        replace(attempts, "transaction", _transaction)


@asynccontextmanager
async def _transaction(self: Any, _ref: Any, outcome: Any) -> AsyncIterator[Any]:
    database = self._database
    if isinstance(self, SqliteAttempts):
        async with database.hold(lambda _tx: None, lambda _tx: None) as conn:
            yield conn
    else:
        async with database.plain.acquire() as conn, conn.transaction():
            yield conn
    if await self.finish([outcome]):
        raise LeaseLost("too late")


@mutant
def parent_does_not_wait() -> None:
    """Continue a job before its children have ended."""
    replace(finish, "wait_for_children", lambda *_args: False)
    text = postgres_names._FILES["attempts/finish_without_children"]
    guard = re.search(r"\s+and not exists \(.*\)", text)
    assert guard is not None, "the mutant must be adapted to finish_without_children.sql"
    swap("attempts/finish_without_children", (guard[0], ""), sqlite=False)


# ---------------------------------------------------------------------- families


@mutant
def children_end_unseen() -> None:
    """Wake no parent when its last child ends (SQLite)."""
    swap("scopes/wake", ("WHERE id = :id", "WHERE false AND id = :id"), sqlite=True)


@mutant
def parent_does_not_close() -> None:
    """Make a job final although its children live (SQLite)."""
    replace(family, "close", lambda *_args: frozenset())


# ---------------------------------------------------------------------- the program


@attrs.frozen
class Trial:
    """Result of a program that ran with a mutant."""

    found: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.found} after {self.seconds:.0f} s" if self.found else f"NOT FOUND in {self.seconds:.0f} s"
        )


def try_chaos(name: str, engine: str, *, seconds: float, seed: int) -> Trial:
    """Run the chaos test with a mutant."""
    options = [
        "--engine",
        engine,
        "--seconds",
        str(seconds),
        "--seed",
        str(seed),
        "--stop-early",
        "--families",
        "--show",
        "2",
    ]
    output, took = _run(name, ["tests.chaos", *options])
    kinds = re.search(r"violations: (.*)", output)
    if kinds is None:
        raise RuntimeError(f"the chaos test with {name} failed:\n{output}")
    return Trial(", ".join(text for text in kinds[1].split(", ") if not text.endswith(" 0")), took)


def try_simulation(name: str, *, seeds: int) -> Trial:
    """Run the simulation with a mutant, up to the first violation."""
    total = 0.0
    for cast in ([], ["--families"]):
        output, took = _run(name, ["tests.simulation", "--seeds", str(seeds), "--stop-early", *cast])
        total += took
        if " failed: " in output:
            return Trial(" ".join(["simulation", *cast]), total)
    return Trial("", total)


def _run(name: str, arguments: list[str]) -> tuple[str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, VARIABLE: name},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr, time.monotonic() - began


def main() -> int:
    """Run mutants, and return 1 if one was found neither by the chaos test nor by the simulation."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; all by default")
    parser.add_argument("--seconds", type=float, default=30.0, help="most seconds of faults for each engine")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of the simulation; 0 leaves it out")
    parser.add_argument("--engine", choices=["postgres", "sqlite", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    missed = 0
    for name in options.names or MUTANTS:
        trials = {"simulation": try_simulation(name, seeds=options.seeds)} if options.seeds else {}
        for engine in ("sqlite", "postgres") if options.engine == "both" else (options.engine,):
            trials[engine] = try_chaos(name, engine, seconds=options.seconds, seed=options.seed)
        missed += not any(trial.found for trial in trials.values())
        print(name, *(f"{where}: {trial}" for where, trial in trials.items()), sep=" | ", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
