"""Fixtures for every test: databases of both engines, made for one test and gone after it.

`JOBRT_TEST_POSTGRES` names a PostgreSQL server to use instead of the tests' own, as a URL or a connection
string of somebody who may create databases. Nothing but databases called `jobrt_test_…` is touched there.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.support.pgbouncer import find_pgbouncer, open_pgbouncer, through
from tests.support.postgres import Cluster, Server
from tests.support.shared import Clusters, sweep

_CLUSTERS: Final = pytest.StashKey[Clusters]()
_NEED_POSTGRES: Final = frozenset({"postgres_server", "postgres_url", "private_postgres"})


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the run; its servers' folder is a new one or, in a worker of pytest-xdist, the one it is given."""
    # A shell starts what it puts into the background with SIGINT ignored; tests that press Ctrl-C need it back.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(config, "workerinput", None)
    if given is None:
        sweep()
        config.stash[_CLUSTERS] = Clusters.of_this_run()
    else:
        config.stash[_CLUSTERS] = Clusters(Path(given["jobrt_clusters"]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker of pytest-xdist where this run's servers are."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    node.workerinput["jobrt_clusters"] = str(config.stash[_CLUSTERS].home)  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove this run's servers, however it ended."""
    if not hasattr(config, "workerinput"):
        config.stash[_CLUSTERS].destroy()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL, so that `-m "not postgres"` leaves it out."""
    for item in items:
        if not _NEED_POSTGRES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session", autouse=True)
def busy_machine() -> Iterator[None]:
    """A worker does not report that its event loop stands still: here that tells of the machine, not of the test.

    The thread that watches the loop goes by real seconds, also under virtual time. Who tests it sets them back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobrt._runtime.watchdog._BLOCKED_AFTER", 600.0)
        yield


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Server:
    """A PostgreSQL server, shared with other tests: create databases in it, and drop them."""
    given = os.environ.get("JOBRT_TEST_POSTGRES")
    return Server(given) if given else pytestconfig.stash[_CLUSTERS].shared()


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database for this test alone."""
    name = f"jobrt_test_{uuid4().hex}"
    try:
        yield postgres_server.create_database(name)
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def private_postgres(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A running server for this test alone, which it may stop, kill and start again. Takes a second."""
    with pytestconfig.stash[_CLUSTERS].private({}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pgbouncer_port(postgres_server: Server) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode before the shared server; skips where it is not installed."""
    if find_pgbouncer() is None:
        pytest.skip("pgbouncer is not installed here: apt-get install pgbouncer")
    with open_pgbouncer(postgres_server.admin) as port:
        yield port


@pytest.fixture
def pgbouncer_url(pgbouncer_port: int, postgres_url: str) -> str:
    """The URL of the database of `postgres_url`, behind a PgBouncer in transaction mode."""
    return through(pgbouncer_port, postgres_url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet, for this test alone."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database for this test alone, which runs once for each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
