# ruff: noqa: D103 - a program as a user writes it
# pyright: strict
"""What a user gets wrong with job functions. Type checkers must complain about the marked lines, and no others."""

import jobrt

app = jobrt.App("sqlite:///:memory:")


@app.job(max_attempts=3)
async def resize(ctx: jobrt.Context, path: str, width: int = 800) -> None: ...


@app.job(queues="slow")  # refused: no such option
async def tidy(ctx: jobrt.Context) -> None: ...


@app.job(max_attempts="3")  # refused: wrong type
async def wait(ctx: jobrt.Context) -> None: ...


@app.job  # refused: no context
async def lonely() -> None: ...


async def main(ctx: jobrt.Context) -> None:
    resize.new()  # refused: a parameter is missing
    resize.new(path=3)  # refused: wrong type
    resize.new("cat.png", height=3)  # refused: no such parameter
    resize.new(ctx, "cat.png")  # refused: the context comes when it runs
    await resize(ctx)  # refused: a parameter is missing
    await resize(ctx, 3)  # refused: wrong type
    async with app.open_client() as jobs:
        await jobs.enqueue(resize)  # refused: a function, not a value
        await jobs.enqueue(resize(ctx, "cat.png"))  # refused: a call of it
