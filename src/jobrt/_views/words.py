"""Values as text."""

from collections.abc import Mapping
from datetime import datetime

from jobrt._core.job import JobRecord, Progress
from jobrt._core.states import UNSTARTED
from jobrt._core.worker_info import Notice
from jobrt._records import Waiting

PHASES: Mapping[str | None, str] = {
    None: "requested; the worker has not confirmed it yet",
    "received": "received",
    "cleaning": "cleaning up",
    "stuck": "stuck: the job does not stop",
}
"""Texts for the phases of cancelling a running job."""

_REASONS = {
    "blocking": "blocked the event loop for {seconds:.1f} s",
    "uncancellable": "has ignored its cancellation for at least {seconds:.0f} s",
    "slow": "has run for at least {seconds:.0f} s, far longer than usual",
}
"""Texts for the watchdog's notices about a job."""


def age(seconds: float | None) -> str:
    """Return a duration in its two largest units: ``3 h 12 min``."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // smaller)} {name}"
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """Return a number of bytes: ``12 B``, ``3.4 MiB``."""
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units[:-1]:
        if value < 1024:  # noqa: PLR2004 - the definition of the units
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} {units[-1]}"


def since(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was."""
    return age(max(0.0, (now - moment).total_seconds()))


def count_in_words(count: int, noun: str, *, more: bool = False) -> str:
    """Return ``1 slot``, ``2 slots``, or ``2+ slots`` if there are ``more``."""
    return f"{count}{'+' * more} {noun}{'' if count == 1 and not more else 's'}"


def jobs_in_words(count: int) -> str:
    """Return ``1 job``, ``2 jobs``."""
    return count_in_words(count, "job")


def due_in_words(job: JobRecord, now: datetime) -> str:
    """Return how long a waiting job has been due, or ``in`` how long it will be due; ``-`` for other jobs."""
    if job.state not in UNSTARTED:
        return "-"
    ahead = (job.schedule_at - now).total_seconds()
    return f"in {age(ahead)}" if ahead > 0 else age(-ahead)


_WAITS = {
    "children": "the children of its nursery {name}",
    "child": "its child {name}",
    "message": "a message {name}",
    "sleep": "the end of its sleep {name}",
    "close": "its descendants to end; then it is {name}",
}


def wait_in_words(waiting: Waiting, now: datetime) -> str:
    """Return what a job waits for, and since when: ``a message approval, for 3 min, at most 2 h more``."""
    what = _WAITS.get(waiting.kind, waiting.kind).format(name=waiting.name).strip()
    words = [what, f"for {since(waiting.since, now)}"]
    if waiting.until is not None:
        left = (waiting.until - now).total_seconds()
        words.append(f"at most {age(left)} more" if left > 0 else "which has ended")
    if waiting.worker is not None:
        words.append(f"parked in {waiting.worker}")
    return ", ".join(words)


def attempt_in_words(job: JobRecord) -> str:
    """Return the attempt number and its limit: ``2/5``, ``2/∞``."""
    return f"{job.attempt}/{'∞' if job.max_attempts is None else job.max_attempts}"


def progress_in_words(progress: Progress) -> str:
    """Return the progress and its note: ``3/4 (75%) nearly``."""
    done, total = progress.done, progress.total
    share = f"{done:g}" if not total else f"{done:g}/{total:g} ({done / total:.0%})"
    return f"{share} {progress.note}"


def notice_in_words(notice: Notice) -> str:
    """Return a recent watchdog notice as a sentence about a job or a queue."""
    ago = f" ({age(notice.ago)} ago)"
    if notice.what == "stalled":
        due, free = count_in_words(notice.due or 0, "due job"), count_in_words(notice.free or 0, "free slot")
        queue = f"queue {notice.queue} had {due} and {free} but claimed nothing"
        return f"{queue}; its fetcher was restarted{ago}"
    if notice.what == "hook":
        remedy = "its jobs wait, and no attempt is used: fix it and restart the worker"
        return f"hook {notice.name} {notice.problem}; {remedy}{ago}"
    seconds = notice.seconds or 0.0
    if notice.what == "blocking" and not notice.job:
        blocked = f"the event loop was blocked for {seconds:.1f} s while no job ran on it"
        return f"{blocked}: a thread held the interpreter lock, or the machine was overloaded{ago}"
    where = f", in {notice.at}" if notice.at else ""
    reason = _REASONS.get(notice.what, notice.what).format(seconds=seconds)
    return f"job {notice.job} ({notice.name}) {reason}{where}{ago}"
