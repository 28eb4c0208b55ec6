"""Virtual environments of the peers, created once outside of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.peers import Peer

__all__ = ["NotInstalledError", "interpreter", "version"]

CACHE = Path(tempfile.gettempdir(), "jobrt-bench")
"""Folder of the environments; delete it to get the newest releases of the peers."""

_SECONDS = 600


class NotInstalledError(Exception):
    """Raised when a peer cannot be installed; the message has the reason."""


def interpreter(peer: Peer) -> str:
    """Return the Python with the peer's packages; create its environment if it does not exist.

    Raises:
        NotInstalledError: there is no suitable Python, or the packages cannot be installed.
    """
    if not peer.packages:
        return sys.executable
    base = _base(peer.python)
    number = _call([base, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    home = CACHE / f"{peer.name}-{number}"
    python, ready = home / "bin" / "python", home / "ready"
    packages = "\n".join(peer.packages)
    if not ready.exists() or ready.read_text(encoding="utf-8") != packages:
        print(f"installing {peer.name} for Python {number} in {home}", file=sys.stderr)
        _call([base, "-m", "venv", "--clear", str(home)])
        _call([str(python), "-m", "pip", "install", "--quiet", "--upgrade", *peer.packages])
        ready.write_text(packages, encoding="utf-8")
    return str(python)


def version(peer: Peer, python: str) -> str:
    """Return the versions of the peer and of its Python."""
    code = (
        "import sys, importlib.metadata as m;"
        "print(m.version(sys.argv[1]), 'on Python', sys.version.split()[0])"
    )
    return _call([python, "-c", code, peer.name])


def _base(oldest: tuple[int, int]) -> str:
    """Return this Python if it is new enough, so that peers share one if possible; otherwise a newer one."""
    if sys.version_info[:2] >= oldest:
        return sys.executable
    for candidate in _candidates(oldest):
        try:
            _call([candidate, "-c", "import venv, ensurepip"])
        except NotInstalledError:
            continue
        return candidate
    raise NotInstalledError(f"needs Python {oldest[0]}.{oldest[1]} or newer, and none was found")


def _candidates(oldest: tuple[int, int]) -> Iterator[str]:
    """Yield Pythons in PATH, then those next to this one, as pyenv, uv and others install them."""
    for minor in range(oldest[1], oldest[1] + 8):
        name = f"python{oldest[0]}.{minor}"
        if found := shutil.which(name):
            yield found
        yield from map(str, sorted(Path(sys.base_prefix).parent.glob(f"*/bin/{name}")))


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        output = str(getattr(error, "stderr", None) or error).strip()
        raise NotInstalledError(output.splitlines()[-1]) from error
    return done.stdout.strip()
