"""Worker and server under one supervisor.

The server enqueues a job for each line that it receives, and answers with the job's result. The supervisor restarts
whatever fails, and stops its children in reverse order.

Run it with ``python examples/embedded.py``.
"""

import trio

import jobrt

app = jobrt.App("sqlite:///:memory:", queues={"default": 4})


@app.job
async def shout(ctx: jobrt.Context, text: str) -> str:
    """Return the text in capitals."""
    return text.upper() + "!"


class Server:
    """Server that answers each line with the result of a job."""

    def __init__(self, jobs: jobrt.Client) -> None:
        self.jobs = jobs
        self.port = 0

    async def answer(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        async for chunk in stream:
            for line in chunk.decode().splitlines():
                handle = await self.jobs.enqueue(shout.new(line))
                await stream.send_all((await handle.result() + "\n").encode())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self.answer, [listener])


async def main() -> None:
    """Start both services and send the server two lines."""
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        server = Server(jobs)
        services = jobrt.Supervisor("shop")
        services.add(app.run_worker, name="worker")
        services.add(server.run, name="server")
        await nursery.start(services.run)
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            for word in ("hello", "world"):
                await stream.send_all(f"{word}\n".encode())
                print((await stream.receive_some()).decode().strip())
        for child in services.statistics().children:
            print(f"{child.name}: {child.state}, {child.restarts} restarts")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
