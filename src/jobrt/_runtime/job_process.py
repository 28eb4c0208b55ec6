"""A job's process and its worker: it ends with the worker, which gets its exceptions."""

import functools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import threading


@functools.cache
def end_with_the_worker() -> None:
    """Have this process end when the worker's does, so that no job runs on in a process that nobody owns."""
    worker = multiprocessing.parent_process()
    if worker is not None:
        threading.Thread(target=_end_after, args=(worker.sentinel,), name="jobrt: end", daemon=True).start()


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def pickled_error(error: BaseException) -> bytes | None:
    """Return an exception for the worker, where RETRY sees it; None if it could not be read there."""
    try:
        text = pickle.dumps(error)
        pickle.loads(text)  # noqa: S301 - made in the line above
    except BaseException:  # noqa: BLE001 - its class has its own ideas of pickling
        return None
    return text
