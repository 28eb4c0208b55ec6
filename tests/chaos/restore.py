"""Saving and restoring a database while workers use it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

from tests.support.postgres import PostgresError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Cluster

__all__ = ["RESTORE_ERRORS", "save", "set_back"]

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
