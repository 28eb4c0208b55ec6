"""The databases that tests are given are what they claim to be; else many a test would prove nothing."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import trio
from trio.testing import MockClock

from tests.support.postgres import Cluster, Server
from tests.support.shared import Clusters, sweep


def test_postgres_url_is_an_empty_database(postgres_url: str, postgres_server: Server) -> None:
    """It has no tables and speaks UTF-8."""
    tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    assert postgres_server.execute(tables, url=postgres_url) == [(0,)]
    assert postgres_server.execute("show server_encoding", url=postgres_url) == [("UTF8",)]


def test_connection_strings_are_taken_too(postgres_url: str) -> None:
    """A server named by a libpq connection string gives URLs that psycopg understands."""
    with psycopg.connect(postgres_url) as connection:
        server = Server(f"{connection.info.dsn} application_name='a b/c'")
        name = connection.info.dbname
    assert server.execute("show application_name", url=server.url(name)) == [("a b/c",)]


def test_a_private_server_keeps_its_data_over_a_kill(private_postgres: Cluster) -> None:
    """What was committed is there after the server was killed and started again, on the same port."""
    server, port = private_postgres.server, private_postgres.port
    url = server.create_database("kept")
    server.execute("create table t as select 42 as n", url=url)
    private_postgres.kill()
    assert not private_postgres.running
    with pytest.raises(psycopg.OperationalError):
        server.execute("select 1")
    private_postgres.start()
    assert (private_postgres.port, server.execute("select n from t", url=url)) == (port, [(42,)])


def test_servers_of_killed_runs_are_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a run whose process is gone is removed, that of a living one stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alive = Clusters.of_this_run()
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = tmp_path / f"jobrt-pg-{int(gone.stdout)}-abc"
    (dead / "shared" / "data").mkdir(parents=True)
    sweep()
    assert [alive.home] == list(tmp_path.iterdir())


def test_a_database_for_each_engine(database_url: str) -> None:
    """Tests that ask for `database_url` run on SQLite and on PostgreSQL."""
    assert database_url.startswith(("sqlite:///", "postgresql://"))


async def test_async_tests_run_under_trio(autojump_clock: MockClock) -> None:
    """A coroutine is run by Trio, with the clock that it asks for: an hour passes at once."""
    await trio.sleep(3600)
    assert trio.current_time() == autojump_clock.current_time()
