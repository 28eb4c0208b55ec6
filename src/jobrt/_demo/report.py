"""Report of the demo: totals, failed files, and a file of digests for ``sha256sum --check``."""

import hashlib
import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import jobrt

Counted: TypeAlias = Sequence[tuple[Path, jobrt.JobRecord]]
"""Files with the records of their jobs, all of which have ended."""

_KIND_LIMIT = 10
"""Number of kinds of files in a report: those with the most bytes."""
_FAILURE_LIMIT = 100
"""Number of failed files in a report."""


def _totals(results: Sequence[dict[str, Any]]) -> dict[str, int]:
    sums = {name: sum(result[name] for result in results) for name in ("bytes", "lines", "tokens")}
    return {"files": len(results), **sums}


def summarize(counted: Counted) -> dict[str, Any]:
    """Return the totals of all files and of each kind, and the failed files."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    failed: list[dict[str, Any]] = []
    for path, record in counted:
        if record.state is not jobrt.State.COMPLETED:
            reason = record.attempts[-1].message if record.attempts else record.cancel_reason
            failed.append({"path": _printable(path), "reason": reason})
            continue
        by_kind.setdefault(path.suffix.lower() or "(none)", []).append(record.result)
    kinds: list[dict[str, Any]] = [{"kind": kind, **_totals(results)} for kind, results in by_kind.items()]
    return {
        "total": _totals([result for results in by_kind.values() for result in results]),
        "kinds": sorted(kinds, key=lambda row: -row["bytes"])[:_KIND_LIMIT],
        "failed": failed[:_FAILURE_LIMIT],
        "failed_count": len(failed),
    }


def write_digests(output: Path, counted: Counted) -> str:
    """Write the digests of all completed files, atomically; return the digest of the written file."""
    digest = hashlib.sha256()
    with _new_file_beside(output) as (file, part):
        for path, record in counted:
            if record.state is jobrt.State.COMPLETED:
                line = sha256_line(record.result["sha256"], path)
                digest.update(line)
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
        part.replace(output)
    return digest.hexdigest()


@contextmanager
def _new_file_beside(output: Path) -> Generator[tuple[BinaryIO, Path]]:
    """Provide a new file in the same folder, and remove it if the block raises.

    Its name cannot be guessed, and it is created or the call fails: a link that somebody has put there is never
    followed. The mode is that of any new file, so the report can be read by those who can read other files.
    """
    part = output.with_name(f".{output.name}.{secrets.token_hex(8)}.part")
    with part.open("xb") as file:
        try:
            yield file, part
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def is_written(output: Path, record: jobrt.JobRecord) -> bool:
    """Return whether the report is completed and the file that it wrote is unchanged."""
    if record.state is not jobrt.State.COMPLETED:
        return False
    try:
        with output.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    return bool(found == record.result["digests_sha256"])


def sha256_line(digest: str, path: Path) -> bytes:
    """Return a line as ``sha256sum`` writes it: a name with a line break or a backslash is escaped, after a mark."""
    name = os.fsencode(path)
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return mark + digest.encode() + b"  " + escaped + b"\n"


def _printable(path: Path) -> str:
    """Return a path as one line of text, with escapes as in Python's strings."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
