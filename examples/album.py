"""Album of files: one job for each file, on several workers, and a parent that waits for all of them.

The parent opens a nursery, as in Trio. Its block ends when the children are over, whichever worker runs them. Meanwhile
the parent holds no slot. If its process is killed, another worker goes on, and no file is read twice for that.

Run it with ``python examples/album.py``.
"""

import tempfile

import trio

import jobrt

FILES = {"ada.txt": b"a b c", "bob.txt": b"d e", "cat.txt": b"\xff\xfe", "dan.txt": b"f"}


class CountWords(jobrt.Job):
    """Job that counts the words of one file."""

    MAX_ATTEMPTS = 1

    path: str

    async def run(self, ctx: jobrt.Context) -> int:
        """Read the file; fail if it is not text."""
        text = await trio.Path(self.path).read_text(encoding="utf-8")
        return len(text.split())


class Album(jobrt.Job):
    """Job that counts the words of all files in a folder."""

    folder: str

    async def run(self, ctx: jobrt.Context) -> dict[str, int | str]:
        """Enqueue a child for each file, wait, and tell what became of each."""
        paths = sorted(await trio.Path(self.folder).iterdir())
        # With "continue", a bad file does not stop the others. Without it, the block would raise an ExceptionGroup.
        async with ctx.open_nursery("files", on_failure="continue") as nursery:
            await nursery.enqueue_many(CountWords(str(path)) for path in paths)
        return {
            path.name: child.result if child.state == "completed" else str(child.attempts[-1].error_type)
            for path, child in zip(paths, nursery.children, strict=True)
        }


async def main() -> None:
    """Run two workers with one slot each. Worker processes on other machines would do the same."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        for name, content in FILES.items():
            await trio.Path(folder, name).write_bytes(content)
        app = jobrt.App(f"sqlite:///{home}/jobs.db", jobs=[CountWords, Album], queues={"default": 1})
        async with app.open_client() as jobs, trio.open_nursery() as nursery:
            workers = [await nursery.start(app.run_worker) for _ in range(2)]
            album = await jobs.enqueue(Album(folder))
            print(await album.result())
            print("attempts used by the album:", (await jobs.get(album.id)).attempt)
            for worker in workers:
                await worker.stop()


if __name__ == "__main__":
    trio.run(main)
