"""Job that uses an asyncio library: with ``RUN_IN = "asyncio"``, `run` is an asyncio coroutine.

The worker opens an asyncio loop inside Trio for the first such job. When an attempt is cancelled, here by its timeout,
asyncio raises ``CancelledError`` in the coroutine.

Run it with ``python examples/asyncio_library.py``.
"""

import asyncio

import trio

import jobrt


class Fetch(jobrt.Job):
    """Job that queries a server with asyncio streams."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 1
    TIMEOUT = 5

    question: str

    async def run(self, ctx: jobrt.Context) -> str:
        """Start an asyncio server, send it a line and return its answer."""
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(f"{self.question}\n".encode())
            answer = await asyncio.wait_for(reader.readline(), timeout=2)
            writer.close()
            await writer.wait_closed()
        return answer.decode().strip()


class Hang(jobrt.Job):
    """Job that waits forever."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 1
    TIMEOUT = 0.1

    async def run(self, ctx: jobrt.Context) -> None:
        """Clean up when cancelled, like any asyncio coroutine."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled, cleaning up")
            raise


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one line back."""
    writer.write(b"you sent: " + await reader.readline())
    writer.close()


app = jobrt.App("sqlite:///:memory:", jobs=[Fetch, Hang])


async def main() -> None:
    """Run both jobs."""
    async with app.open_client() as jobs:
        fetch, hang = await jobs.enqueue_many([Fetch("hello"), Hang()])
        await app.drain()
        print(await fetch.result())
        print([attempt.end for attempt in (await jobs.get(hang.id)).attempts])


if __name__ == "__main__":
    trio.run(main)
