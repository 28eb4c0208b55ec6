"""A standby of a test's PostgreSQL server, which takes over when the server has died."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.postgres import HOST, Cluster, destroy, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["promote", "standby_of"]


@contextmanager
def standby_of(primary: Cluster) -> Iterator[Cluster]:
    """Run a standby to which the primary replicates before it confirms a commit: what it has confirmed is on both."""
    standby = Cluster(Path(f"{primary.home}-standby"), primary.programs)
    try:
        _create(standby, primary)
        standby.start()
        primary.server.execute("alter system set synchronous_standby_names = '*'")
        primary.server.execute("select pg_reload_conf()")
        yield standby
    finally:
        destroy(standby.home)


def _create(standby: Cluster, primary: Cluster) -> None:
    standby.home.mkdir()
    owner = primary.home.stat()
    standby.home.chmod(owner.st_mode & 0o777)
    os.chown(standby.home, owner.st_uid, owner.st_gid)
    (standby.home / "port").write_text(str(free_port()))
    arguments = ["-X", "stream", "-c", "fast", "-R", "-h", HOST, "-p", str(primary.port), "-U", "postgres"]
    standby._run("pg_basebackup", *arguments)
    with (standby.data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(f"port = '{standby.port}'\nwal_retrieve_retry_interval = '200ms'\n")


def promote(standby: Cluster) -> None:
    """Make a standby a server that can write, and wait until it is."""
    standby._run("pg_ctl", "promote", "--wait", "--timeout=60")
