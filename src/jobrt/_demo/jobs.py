"""Jobs of the demo: one for each file, and one for the report."""

from __future__ import annotations

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
_EVER = jobrt.Unique(by=("name", "args"), states="all")


def files_of(root: str) -> jobrt.where.Where:
    """Return a filter for the jobs of the files below `root`."""
    return where.name("CountFile") & where.args("root", root)


class CountFile(jobrt.Job):
    """Hash a file and count its lines and tokens, in a thread."""

    QUEUE: ClassVar[str] = "files"
    MAX_ATTEMPTS: ClassVar[int | None] = 3
    BACKOFF: ClassVar[Any] = tenacity.wait_fixed(0.2)
    UNIQUE: ClassVar[jobrt.Unique | None] = _EVER

    root: str
    path: Path

    def run(self, ctx: jobrt.Context) -> dict[str, Any]:  # noqa: ARG002 - every job is given its context
        """Return the file's sha256, bytes, lines and tokens: what stands between blanks."""
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
                    tokens -= 1  # the border between the chunks cut a token in two
                last = chunk[-1:]
        lines += bool(last) and last != b"\n"
        return {"sha256": digest.hexdigest(), "bytes": size, "lines": lines, "tokens": tokens}


class Report(jobrt.Job):
    """Wait for all files, then write the digests and sum up; one job for each directory."""

    QUEUE: ClassVar[str] = "report"
    UNIQUE: ClassVar[jobrt.Unique | None] = _EVER

    root: str
    output: Path

    async def run(self, ctx: jobrt.Context) -> dict[str, Any] | jobrt.After:
        """Return the summary. While files are being counted, hold no slot: run again after the last of them."""
        unfinished = files_of(self.root) & ~where.state("completed", "cancelled", "discarded")
        waiting = await ctx.client.query(unfinished, limit=None, details=False)
        if waiting:
            return jobrt.After(waiting)
        records = await ctx.client.query(files_of(self.root), order_by="id", limit=None)
        counted = [(_path_of(record), record) for record in records]
        written = await trio.to_thread.run_sync(write_digests, self.output, counted)
        return {**summarize(counted), "digests_sha256": written}


def _path_of(record: jobrt.JobRecord) -> Path:
    """Return the path in a job's payload; its name may be no text."""
    job: CountFile = definition_of(CountFile).decode(record.args)
    return job.path
