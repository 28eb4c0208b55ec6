"""A job that needs an asyncio library: its `run` is a coroutine of asyncio, in the same worker.

The worker opens one asyncio loop inside Trio when the first such job comes. When the attempt is cancelled, by its
timeout here, the coroutine gets its ``CancelledError``.

Run it with ``python examples/asyncio_library.py``.
"""

import asyncio

import trio

import jobrt


class Fetch(jobrt.Job):
    """Ask a server, with asyncio's streams."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 1
    TIMEOUT = 5

    question: str

    async def run(self, ctx: jobrt.Context) -> str:
        """Start a server and ask it: all of it asyncio."""
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(f"{self.question}\n".encode())
            answer = await asyncio.wait_for(reader.readline(), timeout=2)
            writer.close()
            await writer.wait_closed()
        return answer.decode().strip()


class Hang(jobrt.Job):
    """Wait for something that never comes."""

    RUN_IN = "asyncio"
    MAX_ATTEMPTS = 1
    TIMEOUT = 0.1

    async def run(self, ctx: jobrt.Context) -> None:
        """Clean up when cancelled, as any coroutine of asyncio."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled, cleaning up")
            raise


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one line."""
    writer.write(b"you said: " + await reader.readline())
    writer.close()


app = jobrt.App("sqlite:///:memory:", jobs=[Fetch, Hang])


async def main() -> None:
    """Run both."""
    async with app.open_client() as jobs:
        fetch, hang = await jobs.enqueue_many([Fetch("hello"), Hang()])
        await app.drain()
        print(await fetch.result())
        print([one.end for one in (await jobs.get(hang.id)).attempts])


if __name__ == "__main__":
    trio.run(main)
