# ruff: noqa: D103 - a program as a user writes it
# pyright: strict
"""A user's job functions, as the documentation writes them."""

from typing import assert_type

import tenacity

import jobrt

app = jobrt.App("sqlite:///:memory:")


@app.job
async def resize(ctx: jobrt.Context, path: str, width: int = 800, *, keep: bool = False) -> str:
    return f"{path} {width} {ctx.job.id} {keep}"


@app.job(
    name="count", queue="slow", max_attempts=3, timeout=5, backoff=tenacity.wait_fixed(2), run_in="thread"
)
def count_words(ctx: jobrt.Context, text: str) -> int:
    return len(text.split())


@app.job(unique=jobrt.Unique(key="one"), retry=None, max_concurrency=1, priority=-1)
async def tidy(ctx: jobrt.Context) -> None: ...


@app.job(backoff=lambda job: job.attempt * 2.0)
async def patient(ctx: jobrt.Context) -> None: ...


async def main(ctx: jobrt.Context) -> None:
    job: jobrt.Job = resize.new(path="cat.png")
    assert_type(job.with_options(priority=3).job.QUEUE, str)
    assert_type(count_words(ctx, "a b c"), int)
    assert_type(await resize(ctx, "cat.png", keep=True), str)
    async with app.open_client() as jobs:
        await jobs.enqueue(resize.new("cat.png", 640), schedule_in=3600, priority=5)
        await jobs.enqueue(resize.new("cat.png", keep=True).with_options(tags=["x"]))
        await jobs.enqueue_many([tidy.new(), count_words.new(text="a b")])
