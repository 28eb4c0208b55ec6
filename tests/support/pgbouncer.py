"""PgBouncer for tests, in transaction mode, if it is installed, for example from Debian's package."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from tests.support.postgres import HOST, free_port, runner

__all__ = ["find_pgbouncer", "open_pgbouncer", "through"]

_SECONDS: Final = 20.0

# Round robin: each transaction uses another session, so that code that relies on its own session fails.
_SETTINGS: Final = """
[databases]
* = {server}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
min_pool_size = 5
server_round_robin = 1
max_client_conn = 500
query_wait_timeout = 30
"""


def find_pgbouncer() -> str | None:
    """Return the path of PgBouncer, or None if it is not installed. Folders of daemons are often not in PATH."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def open_pgbouncer(admin: str) -> Generator[int]:
    """Run PgBouncer for the server of a URL or conninfo during the block, and yield its port."""
    program = find_pgbouncer()
    assert program is not None
    params = {key: conninfo_to_dict(admin).get(key) for key in ("host", "port", "user", "password")}
    server = " ".join(f"{key}={value}" for key, value in params.items() if value)
    port, owner = free_port(), runner()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # it refuses to run as root, so another user reads the file
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(_SETTINGS.format(server=server, host=HOST, port=port), encoding="utf-8")
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [program, "--quiet", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                user=owner,
                group=owner,
                extra_groups=None if owner is None else (),
            )
            try:
                _wait_until_up(process, port)
                yield port
            finally:
                process.kill()
                process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"pgbouncer did not start: status {process.poll()}")


def through(port: int, url: str) -> str:
    """Return the URL of the same database through PgBouncer."""
    user = conninfo_to_dict(url).get("user")
    name = f"{user}@" if user else ""
    return urlsplit(url)._replace(scheme="postgresql", netloc=f"{name}{HOST}:{port}", query="").geturl()
