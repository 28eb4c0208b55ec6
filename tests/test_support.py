"""What tests are given is what it claims to be, and what they leave behind is found; else many would prove nothing."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import trio
from trio.testing import MockClock

from tests.support.postgres import Cluster, Server
from tests.support.process_state import ProcessState, own_state
from tests.support.reused import ReusedDatabase
from tests.support.shared import Clusters, sweep


def test_a_new_database_is_empty(new_postgres_url: str, postgres_server: Server) -> None:
    """It has no tables and speaks UTF-8."""
    tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    assert postgres_server.execute(tables, url=new_postgres_url) == [(0,)]
    assert postgres_server.execute("show server_encoding", url=new_postgres_url) == [("UTF8",)]


def test_a_database_has_tables_without_rows(postgres_url: str, postgres_server: Server) -> None:
    """Tests need not migrate it, and find no job of others."""
    assert postgres_server.execute("select count(*) from jobrt.job", url=postgres_url) == [(0,)]


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


def test_a_new_database_for_each_engine(new_database_url: str) -> None:
    """Tests that ask for `new_database_url` do, too."""
    assert new_database_url.startswith(("sqlite:///", "postgresql://"))


async def test_async_tests_run_under_trio(autojump_clock: MockClock) -> None:
    """A coroutine is run by Trio, with the clock that it asks for: an hour passes at once."""
    await trio.sleep(3600)
    assert trio.current_time() == autojump_clock.current_time()


def test_a_test_must_leave_the_process_as_it_was(pytester: pytest.Pytester) -> None:
    """One that does not has an error that names the change. It is undone, so that no other test sees it."""
    pytester.makepyfile("""
        import logging
        import os

        import pytest
        from tests.support.fixtures import unchanged_process

        @pytest.mark.parametrize("turn", [1, 2])
        def test_leaves_much(turn):
            assert "JOBRT_LEFT" not in os.environ
            assert logging.getLogger("jobrt").level == logging.NOTSET
            os.environ["JOBRT_LEFT"] = "x"
            os.chdir("/")
            logging.getLogger("jobrt").setLevel(logging.INFO)
    """)
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*environment*JOBRT_LEFT*folder*levels*"])


def test_what_runs_with_its_own_state_leaves_nothing() -> None:
    """It may set up logging as a program does, without the handlers of pytest, and change the environment."""
    before = ProcessState.now()
    with own_state():
        logging.basicConfig(level=logging.DEBUG, format="%(message)s")
        logging.getLogger("jobrt").setLevel(logging.INFO)
        os.environ["JOBRT_LEFT"] = "x"
        sys.path.append("nowhere")
        os.chdir("/")
        assert len(logging.getLogger().handlers) == 1
        assert set(before.difference(ProcessState.now())) == {
            *("environment", "folder", "handlers", "levels", "path")
        }
    assert before.difference(ProcessState.now()) == {}


def test_a_reused_database_is_as_new(postgres_server: Server) -> None:
    """Rows and numbers are reset; after any other change, the next test gets another database."""
    name = f"jobrt_test_{uuid4().hex}"
    url = postgres_server.create_database(name)
    postgres_server.execute("create table kept (id serial, n int)", url=url)
    postgres_server.execute("create table empty (id serial, n int)", url=url)
    postgres_server.execute("insert into kept (n) values (7)", url=url)
    reused = ReusedDatabase(postgres_server, name)
    try:
        for change, same in {
            "insert into empty (n) select 1 from generate_series(1, 3)": True,
            "insert into empty (n) select 1 from generate_series(1, 20000)": True,
            "update kept set n = 8": False,
            "alter table empty alter n set not null": False,
            "create function odd() returns int language sql return 1": False,
            "alter database {name} set jit = off": False,
        }.items():
            url, before = reused.lend(), reused.name
            postgres_server.execute(change.format(name=before), url=url)
            reused.take_back()
            assert (reused.lend(), reused.name == before) == (postgres_server.url(str(reused.name)), same), (
                change
            )
            inserted = "insert into empty (n) values (1) returning id"
            assert postgres_server.execute(inserted, url=reused.lend()) == [(1,)]
            assert postgres_server.execute("select * from kept", url=reused.lend()) == [(1, 7)]
            reused.take_back()
    finally:
        reused.drop()
        postgres_server.drop_database(name)
