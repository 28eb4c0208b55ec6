"""A job and its descendants as lines."""

from collections.abc import Iterator, Sequence

import attrs

from jobrt._core.job import JobRecord


@attrs.frozen
class FamilyLine:
    """Member of a family; ``last`` is true for the last of its siblings, ``above`` for each ancestor below the root."""

    job: JobRecord
    depth: int
    last: bool
    above: tuple[bool, ...] = ()

    @property
    def branch(self) -> str:
        """The lines of the tree in front of the job."""
        if not self.depth:
            return ""
        return "".join("   " if last else "│  " for last in self.above) + ("└─ " if self.last else "├─ ")


def family_lines(jobs: Sequence[JobRecord]) -> Iterator[FamilyLine]:
    """Yield the lines of a family, given as `Client.tree` returns it: the first job is the root."""
    children: dict[int | None, list[JobRecord]] = {}
    for job in jobs[1:]:
        children.setdefault(job.parent, []).append(job)
    waiting = [FamilyLine(jobs[0], 0, last=True)]
    while waiting:
        line = waiting.pop()
        yield line
        below = children.pop(line.job.id, [])
        above = (*line.above, line.last) if line.depth else ()
        lines = [FamilyLine(job, line.depth + 1, last=job is below[-1], above=above) for job in below]
        waiting += reversed(lines)
