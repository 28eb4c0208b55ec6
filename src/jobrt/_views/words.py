"""Put values into words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from jobrt._core.job import JobRecord, Progress

__all__ = [
    "PHASES",
    "age",
    "attempt_in_words",
    "due_in_words",
    "jobs_in_words",
    "notice_words",
    "progress_in_words",
    "since",
]

PHASES: Mapping[str | None, str] = {
    None: "asked; its worker has not said that it knows",
    "received": "received",
    "cleaning": "cleaning up",
    "stuck": "stuck: it does not end",
}
"""How far an operator's wish to cancel a running job has come."""

_WHY = {
    "blocking": "has blocked the event loop for {seconds:.1f} s",
    "uncancellable": "has ignored its cancellation for {seconds:.0f} s and longer",
    "slow": "is far past its usual time, at {seconds:.0f} s and more",
}


def age(seconds: float | None) -> str:
    """Return a length of time in its two largest units: ``3 h 12 min``."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // smaller)} {name}"
    return f"{seconds:.1f} s"


def since(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment is."""
    return age(max(0.0, (now - moment).total_seconds()))


def jobs_in_words(count: int) -> str:
    """Return ``1 job``, ``2 jobs``."""
    return f"{count} job{'' if count == 1 else 's'}"


def due_in_words(job: JobRecord, now: datetime) -> str:
    """Return how long a job has been due, or ``in`` how long it will be."""
    ahead = (job.schedule_at - now).total_seconds()
    return f"in {age(ahead)}" if ahead > 0 else age(-ahead)


def attempt_in_words(job: JobRecord) -> str:
    """Return ``2/5``, ``2/∞``."""
    return f"{job.attempt}/{'∞' if job.max_attempts is None else job.max_attempts}"


def progress_in_words(progress: Progress) -> str:
    """Return ``3/4 (75%) nearly``."""
    done, total = progress.done, progress.total
    share = f"{done:g}" if not total else f"{done:g}/{total:g} ({done / total:.0%})"
    return f"{share} {progress.note}"


def notice_words(notice: Mapping[str, Any]) -> str:
    """Return what a watchdog told lately, as a sentence about a job or a queue."""
    ago = f" ({age(notice['ago'])} ago)"
    if notice["what"] == "stalled":
        due, free = notice["due"], notice["free"]
        return f"queue {notice['queue']} had {due} due jobs, {free} free slots and no claim; it was repaired{ago}"
    if notice["what"] == "blocking" and not notice["job"]:
        said = f"the event loop stood still for {notice['seconds']:.1f} s with no job on it"
        return f"{said}: a thread kept Python busy, or others the machine{ago}"
    where = f", in {notice['at']}" if notice["at"] else ""
    return f"job {notice['job']} ({notice['name']}) {_WHY[notice['what']].format(**notice)}{where}{ago}"
