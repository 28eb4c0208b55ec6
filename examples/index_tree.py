"""Long job that indexes a directory tree and survives cancellation, deployments and crashes.

The job lists the files once, indexes them in parts, and merges the parts once. Each part is written to its own file.
After each part the job saves a checkpoint, from which the next attempt continues. You can stop this program in any way,
even with kill -9. When you start it again, it continues.

Run it with ``python examples/index_tree.py [FOLDER OUT]``. Both folders must exist. By default it indexes jobrt.
"""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

import jobrt

FILES_AT_ONCE = 25
LARGEST = 200_000


class IndexTree(jobrt.Job):
    """Job that writes ``index.json``: for each word, the positions in ``files.json`` of the files that contain it."""

    MAX_ATTEMPTS = 20

    folder: str
    out: str

    async def run(self, ctx: jobrt.Context) -> Any:
        """List, index from the last checkpoint on, and merge; return the number of files and words."""
        async with ctx.step("list") as step:
            if step.todo:
                await trio.to_thread.run_sync(list_files, self.folder, self.out)
        names, done = json.loads(await trio.Path(self.out, "files.json").read_text()), ctx.saved or 0
        while done < len(names):
            if ctx.shutting_down.is_set():
                return jobrt.Snooze(0)  # runs again immediately on another worker, and uses no attempt
            paths = [Path(self.folder, name) for name in names[done : done + FILES_AT_ONCE]]
            await trio.to_thread.run_sync(index_part, paths, done, Path(self.out, f"{done:09}.part"))
            done += len(paths)
            await ctx.checkpoint(done)
            ctx.progress(done, len(names), "files")
        async with ctx.step("merge") as step:
            if step.todo:
                step.value = await trio.to_thread.run_sync(merge, self.out)
        return {"files": len(names), "words": step.value}


def list_files(folder: str, out: str) -> None:
    """Write the list of files."""
    root, target = Path(folder), Path(out)
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(target))
    files = (path.relative_to(root).as_posix() for path in found if path.stat().st_size <= LARGEST)
    write(target / "files.json", sorted(files))


def index_part(paths: list[Path], first: int, file: Path) -> None:
    """Index some files. A repetition writes the same part again."""
    part: dict[str, list[int]] = {}
    for number, path in enumerate(paths, first):
        for word in set(re.findall(r"[a-z]{3,}", path.read_text(encoding="utf-8", errors="ignore").lower())):
            part.setdefault(word, []).append(number)
    write(file, part)


def merge(out: str) -> int:
    """Merge the parts and return the number of words."""
    index: dict[str, list[int]] = {}
    for path in sorted(Path(out).glob("*.part")):
        for word, numbers in json.loads(path.read_text()).items():
            index.setdefault(word, []).extend(numbers)
    write(Path(out, "index.json"), index)
    return len(index)


def write(path: Path, value: Any) -> None:
    """Write a file atomically. `json.dump` writes piecewise, so that other threads can run in between."""
    with path.with_suffix(".new").open("w") as file:
        json.dump(value, file, sort_keys=True)
    path.with_suffix(".new").replace(path)


async def main(folder: str, out: str) -> None:
    """Enqueue the job, unless it exists already, and run a worker until it is done."""
    app = jobrt.App(f"sqlite:///{out}/jobs.db", jobs=[IndexTree])
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        handle = await jobs.enqueue(IndexTree(folder, out), unique=jobrt.Unique(key=folder))
        worker = await nursery.start(app.run_worker)
        print("indexed:", json.dumps(await handle.result()), "by job", handle.id)
        await worker.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        trio.run(main, *(sys.argv[1:] or (str(Path(jobrt.__file__).parent), home)))
