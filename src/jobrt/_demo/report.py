"""Report of the demo: totals, the failed files, and a file of digests that ``sha256sum --check`` reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs

import jobrt

Counted: TypeAlias = Sequence[tuple[Path, jobrt.JobRecord]]
"""Files with the records of their jobs, which have ended."""

_KINDS = 10
_FAILURES = 100
"""How many kinds of files, the largest, and how many failed files a report names."""


@attrs.define
class _Sum:
    files: int = 0
    bytes: int = 0
    lines: int = 0
    tokens: int = 0

    def add(self, result: dict[str, Any]) -> None:
        self.files += 1
        self.bytes += result["bytes"]
        self.lines += result["lines"]
        self.tokens += result["tokens"]


def summarize(counted: Counted) -> dict[str, Any]:
    """Return the totals of all files, by kind too, and the files that failed."""
    total, by_kind = _Sum(), dict[str, _Sum]()
    failed: list[dict[str, Any]] = []
    for path, record in counted:
        if record.state is not jobrt.State.COMPLETED:
            reason = record.attempts[-1].message if record.attempts else record.cancel_reason
            failed.append({"path": _printable(path), "reason": reason})
            continue
        total.add(record.result)
        by_kind.setdefault(path.suffix.lower() or "(none)", _Sum()).add(record.result)
    largest = sorted(by_kind.items(), key=lambda item: -item[1].bytes)[:_KINDS]
    return {
        "total": attrs.asdict(total),
        "kinds": [{"kind": kind, **attrs.asdict(sums)} for kind, sums in largest],
        "failed": failed[:_FAILURES],
        "failed_count": len(failed),
    }


def write_digests(output: Path, counted: Counted) -> str:
    """Write the digests of all completed files and return the digest of the file that holds them.

    The file is replaced at once: it is never half written.
    """
    part = output.with_name(f"{output.name}.part")
    digest = hashlib.sha256()
    with part.open("wb") as file:
        for path, record in counted:
            if record.state is jobrt.State.COMPLETED:
                line = sha256_line(record.result["sha256"], path)
                digest.update(line)
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
    part.replace(output)
    return digest.hexdigest()


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
    """Return a line as ``sha256sum`` writes it: a name with a line break or a backslash is escaped and marked."""
    name = os.fsencode(path)
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return mark + digest.encode() + b"  " + escaped + b"\n"


def _printable(path: Path) -> str:
    """Return a path as one line of text; what cannot be printed is written as in Python's strings."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
