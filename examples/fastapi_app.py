"""FastAPI application that enqueues in the transaction of its own rows, and waits for results.

The web server runs on asyncio and uses `jobrt.aio.Client`. SQLAlchemy's session is the ``conn`` of the enqueue: order
and job are committed together. Workers are processes of their own: ``python -m jobrt --app fastapi_app:jobs worker``.

It needs ``pip install fastapi httpx sqlalchemy aiosqlite``. Run it with ``python examples/fastapi_app.py``.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
from fastapi import FastAPI, HTTPException
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import jobrt
from jobrt import aio

URL = "sqlite:///shop.db"
WAIT_SECONDS = 10

jobs = jobrt.App(URL)
engine = create_async_engine(URL.replace("sqlite:", "sqlite+aiosqlite:"))
client = aio.Client(URL)


@jobs.job
async def send_receipt(ctx: jobrt.Context, customer: str, total: int) -> str:
    """Return the receipt of an order."""
    return f"{customer} pays {total}"


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Open the client with the server, and close it with it."""
    async with client:
        yield
    await engine.dispose()


web = FastAPI(lifespan=lifespan)


@web.post("/orders/{customer}", status_code=202)
async def order(customer: str, total: int) -> dict[str, int]:
    """Store an order, and enqueue its receipt in the same transaction."""
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(text("CREATE TABLE IF NOT EXISTS orders (customer TEXT, total INTEGER)"))
        await session.execute(
            text("INSERT INTO orders VALUES (:customer, :total)"), {"customer": customer, "total": total}
        )
        handle = await client.enqueue(send_receipt.new(customer, total), conn=session)
        if total < 0:
            raise HTTPException(422, "nobody pays less than nothing")  # neither order nor job is stored
    return {"job": handle.id}


@web.get("/receipts/{job}")
async def receipt(job: int) -> dict[str, Any]:
    """Wait for a receipt; the end of the job wakes this request."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return {"receipt": await client.handle(job).result()}
    except TimeoutError:
        raise HTTPException(504, "the receipt is not ready yet") from None
    except jobrt.JobNotFound as error:
        raise HTTPException(404, str(error)) from None


async def main() -> None:
    """Order twice, run a worker until nothing is due, and read the receipt."""
    server = httpx.ASGITransport(web)
    async with lifespan(web), httpx.AsyncClient(transport=server, base_url="http://shop") as browser:
        print("refused:", (await browser.post("/orders/ada?total=-1")).json())
        ordered = (await browser.post("/orders/ada?total=1999")).json()
        waiting = asyncio.create_task(browser.get(f"/receipts/{ordered['job']}"))
        await asyncio.to_thread(lambda: trio.run(jobs.drain))
        print("answered:", (await waiting).json())
        print("jobs:", await client.count())


if __name__ == "__main__":
    asyncio.run(main())
