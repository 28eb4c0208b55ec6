"""The check that Trio awaits a call of a storage, and not asyncio."""

import trio
from sniffio import thread_local

from jobrt.errors import WrongEventLoop


def refuse_asyncio() -> None:
    """Raise `WrongEventLoop` if something else than Trio awaits the caller; asyncio under trio-asyncio counts as such.

    Without this, asyncio throws an error about a bad ``yield`` into the call.
    """
    if thread_local.name == "trio":
        return
    if trio.lowlevel.in_trio_run():
        raise WrongEventLoop(
            "asyncio awaits a call that only Trio can: in a job, `await trio_asyncio.trio_as_aio(FUNCTION)(…)`,"
            " for example with ctx.client.get; elsewhere use jobrt.aio.Client"
        )
    raise WrongEventLoop(
        "clients and workers of a jobrt.App need Trio, which does not run here: use trio.run, or"
        " jobrt.aio.Client in asyncio"
    )
