"""Saving and restoring a database while workers use it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from tests.support.postgres import PostgresError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Cluster

__all__ = ["RESTORE_ERRORS", "all_have_beaten", "next_lease", "save", "set_back"]

RESTORE_ERRORS = (sqlite3.OperationalError, PostgresError)


def save(url: str, copy: Path, cluster: Cluster | None) -> None:
    """Copy the database as it is now."""
    if cluster is None:
        with closing(_open(url)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    else:
        _run(cluster, ["pg_dump", "--format=custom", f"--file={copy}", url])


def set_back(url: str, copy: Path, cluster: Cluster | None) -> None:
    """Replace the database by the copy, in one transaction."""
    if cluster is None:
        with closing(sqlite3.connect(copy)) as source, closing(_open(url)) as target:
            source.backup(target)
    else:
        options = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"]
        _run(cluster, ["pg_restore", *options, f"--dbname={url}", str(copy)])


def next_lease(cluster: Cluster | None) -> int:
    """Return a lease that is higher than all that were given so far, and at most two milliseconds ahead of the clock.

    Leases of SQLite are microseconds, those of PostgreSQL rounded milliseconds and 20 bits of a sequence.
    """
    if cluster is None:
        return time.time_ns() // 1_000 + 1
    return (time.time_ns() // 1_000_000 + 2) << 20


def all_have_beaten(url: str, since: float) -> bool:
    """Return whether each living worker has sent a heartbeat since a time, by the wall clock.

    A copy that is made and restored between two heartbeats is not noticed, as `design/leases.md` says.
    """
    if url.startswith("sqlite"):
        with closing(_open(url)) as conn:
            found = conn.execute(
                "select min(beat_at) from jobrt_worker where expires_at > ?", [time.time() * 1e6]
            ).fetchone()
            return found[0] is None or found[0] > since * 1e6
    try:
        with psycopg.connect(url, connect_timeout=5) as postgres:
            waiting = "select from jobrt.worker where expires_at > clock_timestamp() and beat_at <= to_timestamp(%s)"
            return postgres.execute(waiting, [since]).fetchone() is None
    except psycopg.Error as error:
        raise PostgresError(str(error)) from error


def _open(url: str) -> sqlite3.Connection:
    return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)


def _run(cluster: Cluster, command: list[str]) -> None:
    done = subprocess.run(
        [cluster.programs / command[0], *command[1:]],
        env={**os.environ, "PGCONNECT_TIMEOUT": "5", "PGOPTIONS": "-c lock_timeout=5s"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise PostgresError(f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}")
