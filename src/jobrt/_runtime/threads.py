"""Threads that jobs have left behind: they keep a process from ending, and nobody waits for them."""

import concurrent.futures.thread as pool
import sys
import threading
from collections.abc import Collection
from types import FrameType


def threads_left(before: Collection[threading.Thread] = ()) -> tuple[str, ...]:
    """Return the names of the running threads that keep the process alive, other than those in `before`.

    Daemon threads end with the process. So do idle threads of a `ThreadPoolExecutor`.
    """
    frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented for exactly this
    return tuple(
        thread.name
        for thread in threading.enumerate()
        if thread not in before
        and not thread.daemon
        and thread is not threading.main_thread()
        and thread is not threading.current_thread()
        and not _is_idle(frames.get(thread.ident or 0))
    )


def _is_idle(frame: FrameType | None) -> bool:
    """Return whether this is the frame of a pool's thread that waits for work: it is in no function of a job."""
    return (
        frame is not None and frame.f_code.co_filename == pool.__file__ and frame.f_code.co_name == "_worker"
    )
