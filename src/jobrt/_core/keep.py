"""Retention of finished jobs: the user's settings, and the rules that a storage executes.

A user writes a `Keep`; `plan` converts it to a `PruneRule` for the storage. A rule means: *a finished job is
deleted if it finished more than `age` ago and is not one of the newest `keep_at_least` jobs of its name*.

========================  ==============================================================================
``Keep(age=a)``           jobs that finished more than ``a`` ago are deleted
``Keep(count=n)``         the newest ``n`` jobs of each name are kept, others are deleted
``Keep(age=a, count=n)``  as ``Keep(age=a)``, but the newest ``n`` jobs of each name are kept
``Keep()``                all jobs are kept
``Keep(age=0)``           all jobs are deleted at the next pruning
========================  ==============================================================================

Only finished jobs (`jobrt._core.states.FINAL`) are pruned. No setting can delete other jobs.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias, cast

import attrs

from jobrt._core.arguments import checked_count, checked_duration, refused, shown
from jobrt._core.states import FINAL, State
from jobrt.errors import InvalidSetting


def _age(value: timedelta | float | None) -> timedelta | None:
    return None if value is None else checked_duration("Keep.age", value, zero=True)


def _count(value: int | None) -> int | None:
    return None if value is None else checked_count("Keep.count", value, least=0)


def _name(job: object) -> str:
    """Return the stored name of `job`: a name, a job class or a decorated function."""
    name = job if isinstance(job, str) else getattr(job, "NAME", getattr(job, "__name__", None))
    if isinstance(name, str) and name:
        return name
    raise refused("Keep.only or Keep.except_", job, use="job names or job classes", error=InvalidSetting)


def _names(jobs: object) -> tuple[str, ...]:
    """Return the names of a job or of several jobs, sorted and without duplicates."""
    if isinstance(jobs, str | type) or not isinstance(jobs, Iterable):
        return (_name(jobs),)
    return tuple(sorted({_name(job) for job in cast("Iterable[object]", jobs)}))


@attrs.frozen
class Keep:
    """Retention of finished jobs in one state; see the table of the module.

    Args:
        age: maximum time since the job finished, as a timedelta or seconds; ``None`` for no maximum.
        count: number of jobs to keep of each name, the newest first; 0 keeps none.
        only: names or classes of the jobs to which this applies; empty: all jobs.
        except_: names or classes of the jobs to which this does not apply. Not together with `only`.

    Raises:
        InvalidSetting: a limit is invalid, a name is invalid, or both `only` and `except_` are set.

    """

    age: timedelta | None = attrs.field(default=None, converter=_age)
    count: int | None = attrs.field(default=None, kw_only=True, converter=_count)
    only: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_names)
    except_: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_names)

    def __attrs_post_init__(self) -> None:
        if self.only and self.except_:
            raise InvalidSetting("Keep has only= and except_=: use only one of them")

    @property
    def forever(self) -> bool:
        """Whether all jobs are kept."""
        return self.age is None and self.count is None


KeepByState: TypeAlias = Mapping[str, Keep | Sequence[Keep]]
"""Retention by state; a state can have several `Keep`, for different jobs (``only``, ``except_``)."""


@attrs.frozen(kw_only=True)
class PruneRule:
    """Rule for deleting finished jobs: those that are covered, old enough, and not among the newest.

    *Newest* means by ``finished_at``, then by ``id``, separately for each name, among the covered jobs.

    Args:
        state: the final state covered.
        age: minimum time since a job finished; ``None`` for no minimum.
        keep_at_least: number of the newest jobs of each name that are kept.
        only: job names covered; empty: all.
        except_: job names not covered.
        queue: queue covered; ``None``: all.
        except_queues: queues not covered, because they have rules of their own.

    """

    state: State
    age: timedelta | None = None
    keep_at_least: int = 0
    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    queue: str | None = None
    except_queues: tuple[str, ...] = ()

    def covers(self, state: str, *, name: str, queue: str) -> bool:
        """Return whether the rule covers jobs of that state, name and queue."""
        return (
            state == self.state
            and (not self.only or name in self.only)
            and name not in self.except_
            and self.queue in {None, queue}
            and queue not in self.except_queues
        )

    def removes(self, finished_at: datetime, *, newer: int, now: datetime) -> bool:
        """Return whether to delete a covered job; `newer` is the number of newer covered jobs of its name."""
        old = self.age is None or finished_at < now - self.age
        return old and newer >= self.keep_at_least


def default_keep() -> KeepByState:
    """Return the default retention: completed jobs a day, cancelled jobs a week, discarded jobs a month.

    Completed jobs show for a day that they ran. Cancelled jobs can be wanted back within a week. Discarded jobs
    wait for a rerun, and the person who reruns them can be on holiday.
    """
    return {
        State.COMPLETED: Keep(timedelta(days=1)),
        State.CANCELLED: Keep(timedelta(days=7)),
        State.DISCARDED: Keep(timedelta(days=30)),
    }


def plan(
    keep: KeepByState | None = None, *, queues: Mapping[str, KeepByState | None] | None = None
) -> tuple[PruneRule, ...]:
    """Return the rules for the retention of an app and its queues.

    For each state, the retention of the queue applies, else that of the app, else `default_keep`.

    Args:
        keep: retention of the app by state.
        queues: retention of each queue by state; ``None`` for a queue without its own.

    Raises:
        InvalidSetting: a state is not final, or a value is neither a `Keep` nor a sequence of `Keep`.

    """
    of_queues = {
        queue: _by_state(f"queue {queue!r}: keep", of_queue)
        for queue, of_queue in (queues or {}).items()
        if of_queue
    }
    of_app = {**_by_state("default", default_keep()), **_by_state("keep", {} if keep is None else keep)}
    rules: list[PruneRule] = []
    for state, keeps in of_app.items():
        others = tuple(sorted(queue for queue, of_queue in of_queues.items() if state in of_queue))
        rules += [_rule(state, item, except_queues=others) for item in keeps if not item.forever]
    for queue, of_queue in of_queues.items():
        items = [(state, item) for state, keeps in of_queue.items() for item in keeps if not item.forever]
        rules += [_rule(state, item, queue=queue) for state, item in items]
    return tuple(rules)


def _by_state(where: str, keep: Any) -> dict[State, tuple[Keep, ...]]:
    """Return a checked retention setting; `where` starts the error message."""
    if not isinstance(keep, Mapping):
        raise refused(where, keep, use="a mapping from a state to a jobrt.Keep", error=InvalidSetting)
    checked: dict[State, tuple[Keep, ...]] = {}
    for state, value in cast("Mapping[str, object]", keep).items():
        if state not in FINAL:
            states = ", ".join(sorted(FINAL))
            raise InvalidSetting(f"{where} has {shown(state)}: only finished jobs are pruned; use {states}")
        keeps = tuple(cast("Sequence[object]", value)) if isinstance(value, Sequence) else (value,)
        checked[State(state)] = tuple(item for item in keeps if isinstance(item, Keep))
        if len(checked[State(state)]) < len(keeps):
            raise refused(
                f"{where}[{str(state)!r}]", value, use="a jobrt.Keep or a list of them", error=InvalidSetting
            )
    return checked


def _rule(
    state: State, keep: Keep, *, queue: str | None = None, except_queues: tuple[str, ...] = ()
) -> PruneRule:
    return PruneRule(
        state=state,
        age=keep.age,
        keep_at_least=keep.count or 0,
        only=keep.only,
        except_=keep.except_,
        queue=queue,
        except_queues=except_queues,
    )
