"""Be the demo's jobs: one per file, and one for the report."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, ClassVar

import attrs
import tenacity
import trio

import jobrt
from jobrt import where
from jobrt._registry import definition_of

__all__ = ["CountFile", "Report", "files_of", "is_there", "sha256_line"]

_CHUNK = 1 << 20
_EVER = jobrt.Unique(by=("name", "args"), states="all")


def files_of(root: str) -> jobrt.where.Where:
    """Match the demo's jobs for the files below `root`."""
    return where.name("CountFile") & where.args("root", root)


class CountFile(jobrt.Job):
    """Hash a file and count its lines and tokens, in a thread."""

    QUEUE: ClassVar[str] = "files"
    MAX_ATTEMPTS: ClassVar[int | None] = 3
    BACKOFF: ClassVar[Any] = tenacity.wait_fixed(0.2)
    UNIQUE: ClassVar[jobrt.Unique | None] = _EVER

    root: str
    path: Path

    def run(self, ctx: jobrt.Context) -> dict[str, Any]:  # noqa: ARG002 - every job is given it
        """Return sha256, bytes, lines and tokens (what stands between blanks) of the file."""
        digest = hashlib.sha256()
        size = lines = tokens = 0
        last = b""
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                trio.from_thread.check_cancelled()
                digest.update(chunk)
                size += len(chunk)
                lines += chunk.count(b"\n")
                tokens += len(chunk.split())
                if last and not last.isspace() and not chunk[:1].isspace():
                    tokens -= 1  # the chunks' border cut it in two
                last = chunk[-1:]
        lines += bool(last) and last != b"\n"
        return {"sha256": digest.hexdigest(), "bytes": size, "lines": lines, "tokens": tokens}


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


class Report(jobrt.Job):
    """Wait for all files, then write the digests and sum up; exactly one job per directory."""

    QUEUE: ClassVar[str] = "report"
    UNIQUE: ClassVar[jobrt.Unique | None] = _EVER

    root: str
    output: Path

    async def run(self, ctx: jobrt.Context) -> Any:
        """Hold no slot while files are being counted: run again after the last one."""
        unfinished = files_of(self.root) & ~where.state("completed", "cancelled", "discarded")
        waiting = await ctx.client.query(unfinished, limit=None, details=False)
        if waiting:
            return jobrt.After(waiting)
        records = await ctx.client.query(files_of(self.root), order_by="id", limit=None)
        written = await trio.to_thread.run_sync(_write, self.output, records)
        return {**_summary(records), "digests_sha256": written}


def _summary(records: list[jobrt.JobRecord]) -> dict[str, Any]:
    total, by_kind = _Sum(), dict[str, _Sum]()
    failed = []
    for one in records:
        path = path_of(one)
        if one.state is not jobrt.State.COMPLETED:
            said = one.attempts[-1].message if one.attempts else one.cancel_reason
            failed.append({"path": _shown(path), "reason": said})
            continue
        total.add(one.result)
        by_kind.setdefault(path.suffix.lower() or "(none)", _Sum()).add(one.result)
    largest = sorted(by_kind.items(), key=lambda item: -item[1].bytes)[:10]
    return {
        "total": attrs.asdict(total),
        "kinds": [{"kind": kind, **attrs.asdict(one)} for kind, one in largest],
        "failed": failed[:100],
        "failed_count": len(failed),
    }


def _shown(path: Path) -> str:
    """Return a path as one line of text: what cannot be printed is written as Python would."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def path_of(record: jobrt.JobRecord) -> Path:
    """Return the path that a job's payload holds, whatever its name."""
    job: CountFile = definition_of(CountFile).decode(record.args)
    return job.path


def sha256_line(digest: str, path: Path) -> bytes:
    """Return a line as ``sha256sum`` writes it: names with a line break or backslash are escaped and marked."""
    name = os.fsencode(path)
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return mark + digest.encode() + b"  " + escaped + b"\n"


def _write(output: Path, records: list[jobrt.JobRecord]) -> str:
    """Write all digests, or leave what was there: never half a report. Return the digest of the file itself."""
    part = output.with_name(f"{output.name}.part")
    digest = hashlib.sha256()
    with part.open("wb") as file:
        for one in records:
            if one.state is jobrt.State.COMPLETED:
                line = sha256_line(one.result["sha256"], path_of(one))
                digest.update(line)
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
    part.replace(output)
    return digest.hexdigest()


def is_there(output: Path, record: jobrt.JobRecord) -> bool:
    """Say whether the report is completed and the file that it wrote still the same."""
    if record.state is not jobrt.State.COMPLETED:
        return False
    try:
        with output.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    return bool(found == record.result["digests_sha256"])
