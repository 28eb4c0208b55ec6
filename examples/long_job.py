"""Long job that continues after a deployment, with steps, checkpoints and progress.

Run it with ``python examples/long_job.py``.
"""

import tempfile
from pathlib import Path

import trio

import jobrt

FILES, QUARTER, WORDS = 20, 5, 40


class Index(jobrt.Job):
    """Job that counts the words of each file in a folder."""

    folder: str

    async def run(self, ctx: jobrt.Context) -> dict[str, int]:
        """List the files once, then continue from the last checkpoint."""
        async with ctx.step("list") as step:
            if step.todo:
                step.value = sorted(path.name for path in await trio.Path(self.folder).iterdir())
                print(f"listed {len(step.value)} files")
        found: dict[str, int] = ctx.saved or {}
        for name in step.value[len(found) :]:
            if ctx.shutting_down.is_set():
                print(f"asked to stop after {len(found)} files")
                return jobrt.Snooze(0)  # type: ignore[return-value]  # the next worker continues; no attempt used
            text = await trio.Path(self.folder, name).read_text()
            await trio.sleep(0.02)
            found[name] = len(text.split())
            await ctx.checkpoint(found)
            ctx.progress(len(found), len(step.value), name)
            if len(found) == QUARTER:
                ctx.state.set()
        return found


def write_files(folder: str) -> None:
    """Write the files to index."""
    for number in range(FILES):
        Path(folder, f"{number:02}.txt").write_text("word " * WORDS)


async def main() -> None:
    """Start a worker, stop it before the job is done, start another worker."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        write_files(folder)
        app = jobrt.App(f"sqlite:///{home}/jobs.db", jobs=[Index], state=trio.Event)
        async with app.open_client() as jobs:
            handle = await jobs.enqueue(Index(folder), max_attempts=1)
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                await worker.state.wait()
                await worker.stop(grace=5)
            print("the first worker has stopped; the job is", (await jobs.get(handle.id)).state)
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.run_worker)
                result = await handle.result()
                await worker.stop()
            record = await jobs.get(handle.id)
            print(f"{len(result)} files, {sum(result.values())} words, attempt {record.attempt}")


if __name__ == "__main__":
    trio.run(main)
