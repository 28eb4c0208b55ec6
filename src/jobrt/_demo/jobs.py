"""Jobs of the demo: a job for each file, and a job for the report."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import tenacity
import trio

import jobrt
from jobrt import where
from jobrt._demo.report import summarize, write_digests
from jobrt._registry import definition_of

_CHUNK = 1 << 20
_ONCE = jobrt.Unique(by=("name", "args"), states="all")


def files_of(root: str) -> jobrt.where.Where:
    """Return a filter for the jobs of the files below `root`."""
    return where.name("CountFile") & where.args("root", root)


class CountFile(jobrt.Job):
    """Job that hashes a file and counts its lines and tokens, in a thread."""

    QUEUE: ClassVar[str] = "files"
    MAX_ATTEMPTS: ClassVar[int | None] = 3
    BACKOFF: ClassVar[Any] = tenacity.wait_fixed(0.2)
    UNIQUE: ClassVar[jobrt.Unique | None] = _ONCE

    root: str
    path: Path

    def run(self, ctx: jobrt.Context) -> dict[str, Any]:  # noqa: ARG002 - every job gets its context
        """Return the file's SHA-256 digest and its number of bytes, lines and tokens (texts between whitespace)."""
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
                    tokens -= 1  # a token across both chunks was counted twice
                last = chunk[-1:]
        lines += bool(last) and last != b"\n"
        return {"sha256": digest.hexdigest(), "bytes": size, "lines": lines, "tokens": tokens}


class Report(jobrt.Job):
    """Job that writes the digests and adds up the counts when all files of a directory are done."""

    QUEUE: ClassVar[str] = "report"
    UNIQUE: ClassVar[jobrt.Unique | None] = _ONCE

    root: str
    output: Path

    async def run(self, ctx: jobrt.Context) -> dict[str, Any] | jobrt.After:
        """Return the summary. While jobs of files are unfinished, free the slot and run again after they have ended."""
        unfinished = files_of(self.root) & ~where.state("completed", "cancelled", "discarded")
        waiting = await ctx.client.query(unfinished, limit=None, details=False)
        if waiting:
            return jobrt.After(waiting)
        records = await ctx.client.query(files_of(self.root), order_by="id", limit=None)
        counted = [(_path_of(record), record) for record in records]
        written = await trio.to_thread.run_sync(write_digests, self.output, counted)
        return {**summarize(counted), "digests_sha256": written}


def _path_of(record: jobrt.JobRecord) -> Path:
    """Return the path in a job's payload. It may contain bytes that are not valid text."""
    job: CountFile = definition_of(CountFile).decode(record.args)
    return job.path
