"""Fixtures for all tests: databases of both engines, created for a test and removed after it.

`JOBRT_TEST_POSTGRES` is a PostgreSQL server to use instead of the tests' own. It is the URL or connection string of
a user who may create databases. The tests use only databases named `jobrt_test_…` there.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
import trio

from jobrt._client import unknown_queues
from tests.support.pgbouncer import find_pgbouncer, open_pgbouncer, through
from tests.support.postgres import Cluster, Server
from tests.support.process_state import ProcessState
from tests.support.reused import ReusedDatabase
from tests.support.shared import Clusters, sweep

_CLUSTERS: Final = pytest.StashKey[Clusters]()
_NEED_POSTGRES: Final = frozenset({"postgres_server", "postgres_url", "new_postgres_url", "private_postgres"})
_ENGINES: Final = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))
_SECONDS_TO_MIGRATE: Final = 60


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the run: create a folder for its servers or, in a worker of pytest-xdist, use that of the run."""
    # A shell starts background processes with SIGINT ignored; tests of Ctrl-C need the default handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    workerinput = getattr(config, "workerinput", None)
    if workerinput is None:
        sweep()
        config.stash[_CLUSTERS] = Clusters.of_this_run()
    else:
        config.stash[_CLUSTERS] = Clusters(Path(workerinput["jobrt_clusters"]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Pass the folder of this run's servers to a worker of pytest-xdist."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    node.workerinput["jobrt_clusters"] = str(config.stash[_CLUSTERS].home)  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove this run's servers."""
    if not hasattr(config, "workerinput"):
        config.stash[_CLUSTERS].destroy()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need PostgreSQL, so that `-m "not postgres"` deselects them."""
    for item in items:
        if not _NEED_POSTGRES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session", autouse=True)
def busy_machine() -> Iterator[None]:
    """Disable reports about a blocked event loop: on a busy machine they do not depend on the test.

    The thread that watches the loop measures real time, even with virtual time. Its own tests reset the limit.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobrt._runtime.watchdog._BLOCKED_AFTER", 600.0)
        yield


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Fail a test that leaves the process in another state: others would depend on it in some orders."""
    before = ProcessState.now()
    yield
    if changed := before.difference(ProcessState.now()):
        before.restore()
        pytest.fail(f"the test leaves this changed: {changed}")


@pytest.fixture(autouse=True)
def no_accepted_queues() -> None:
    """Forget the unknown queues that a test before this one was told of: each is checked once per process."""
    unknown_queues._accepted.clear()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Server:
    """A PostgreSQL server shared with other tests, which create and drop databases."""
    admin = os.environ.get("JOBRT_TEST_POSTGRES")
    return Server(admin) if admin else pytestconfig.stash[_CLUSTERS].shared()


@pytest.fixture
def new_postgres_url(postgres_server: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database for this test, without jobrt's tables. It takes half a second."""
    name = f"jobrt_test_{uuid4().hex}"
    try:
        yield postgres_server.create_database(name)
    finally:
        postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def reused_database(postgres_server: Server) -> Iterator[ReusedDatabase]:
    """A database with jobrt's tables, which tests use one after the other."""
    template = f"jobrt_test_{uuid4().hex}"
    database = ReusedDatabase(postgres_server, template)
    try:
        trio.run(_migrate, postgres_server.create_database(template))
        yield database
    finally:
        database.drop()
        postgres_server.drop_database(template)


async def _migrate(url: str) -> None:
    from jobrt._storage.postgres import open_postgres

    with trio.fail_after(_SECONDS_TO_MIGRATE):
        async with open_postgres(url, listen=False) as storage:
            await storage.schema.migrate()


@pytest.fixture
def postgres_url(reused_database: ReusedDatabase) -> Iterator[str]:
    """The URL of a PostgreSQL database with jobrt's tables and no rows, for this test alone."""
    yield reused_database.lend()
    reused_database.take_back()


@pytest.fixture
def private_postgres(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A running server for this test, which it may stop, kill and start again. It takes a second."""
    with pytestconfig.stash[_CLUSTERS].private({}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pgbouncer_port(postgres_server: Server) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode for the shared server; skips if it is not installed."""
    if find_pgbouncer() is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    with open_pgbouncer(postgres_server.admin) as port:
        yield port


@pytest.fixture
def pgbouncer_url(pgbouncer_port: int, postgres_url: str) -> str:
    """The URL of the database of `postgres_url` through PgBouncer in transaction mode."""
    return through(pgbouncer_port, postgres_url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet, for this test."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture(params=_ENGINES)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without jobs for this test, which runs once for each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=_ENGINES)
def new_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, without jobrt's tables, for this test, which runs once for each engine."""
    name = "sqlite_url" if request.param == "sqlite" else "new_postgres_url"
    url: str = request.getfixturevalue(name)
    return url
