"""Say how long finished jobs are kept, and turn that into rules that a storage can carry out.

A `Keep` is what a user writes; a `PruneRule` is what `plan` makes of it, and all that a storage sees. A rule
has one meaning, whatever it was made from: *a finished job goes when it finished longer ago than `age` and is
not among the newest `keep_at_least` of its name*.

========================  ==============================================================================
``Keep(age=a)``           what finished longer ago than ``a`` goes
``Keep(count=n)``         the newest ``n`` of each job name stay, the others go at once
``Keep(age=a, count=n)``  what finished longer ago than ``a`` goes, but the newest ``n`` of each name stay
``Keep()``                nothing goes
``Keep(age=0)``           everything goes, at the next pruning
========================  ==============================================================================

Only finished jobs are pruned (`jobrt._core.states.FINAL`): no setting can lose a live one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, TypeGuard, cast

import attrs

from jobrt._core.states import FINAL, State
from jobrt.errors import InvalidSetting

__all__ = ["Keep", "KeepByState", "PruneRule", "default_keep", "plan"]

# A century. More is a slip, and `now - age` has to be a time that Python and the databases can hold.
_LONGEST: Final = timedelta(days=36_525)


def _is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` is an int or a float; True and False are neither, here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _age(value: timedelta | float | None) -> timedelta | None:
    """Return `value`, a timedelta or seconds, as a timedelta."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    if _is_number(seconds) and 0 <= seconds <= _LONGEST.total_seconds():
        return timedelta(seconds=seconds)
    msg = f"Keep.age is {value!r}: give a timedelta, or seconds, between 0 and a century"
    raise InvalidSetting(msg)


def _count(value: int | None) -> int | None:
    """Return `value` if it is a number of jobs."""
    if value is None or (_is_number(value) and isinstance(value, int) and value >= 0):
        return value
    msg = f"Keep.count is {value!r}: give how many jobs of each name stay, 0 or more"
    raise InvalidSetting(msg)


def _name(job: object) -> str:
    """Return the name under which `job` (a name, a job class, a decorated function) is stored."""
    name = job if isinstance(job, str) else getattr(job, "NAME", getattr(job, "__name__", None))
    if isinstance(name, str) and name:
        return name
    msg = f"Keep.only and Keep.except_ take job names or job classes, not {job!r}"
    raise InvalidSetting(msg)


def _names(jobs: object) -> tuple[str, ...]:
    """Return the names that one job, or several, stand for; sorted, each once."""
    if isinstance(jobs, str | type) or not isinstance(jobs, Iterable):
        return (_name(jobs),)
    return tuple(sorted({_name(job) for job in cast("Iterable[object]", jobs)}))


@attrs.frozen
class Keep:
    """How long the finished jobs of one state are kept; the module's table says how the two limits combine.

    Args:
        age: a timedelta, or seconds, since the job finished; ``None``: age alone removes nothing.
        count: how many of each job name stay, the newest first; 0 keeps none.
        only: names or classes of the jobs that this is about; empty: all.
        except_: names or classes of the jobs that it is not about; give this or `only`, not both.

    Raises:
        InvalidSetting: a limit is negative or no number, a name is none, or both kinds of name are given.

    """

    age: timedelta | None = attrs.field(default=None, converter=_age)
    count: int | None = attrs.field(default=None, kw_only=True, converter=_count)
    only: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_names)
    except_: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_names)

    def __attrs_post_init__(self) -> None:
        if self.only and self.except_:
            msg = f"Keep(only={self.only!r}, except_={self.except_!r}): give one of them, not both"
            raise InvalidSetting(msg)

    @property
    def forever(self) -> bool:
        """Return whether this removes nothing."""
        return self.age is None and self.count is None


KeepByState: TypeAlias = Mapping[str, Keep | Sequence[Keep]]
"""Retention by state name; several `Keep` for one state are for different jobs (``only``, ``except_``)."""


@attrs.frozen(kw_only=True)
class PruneRule:
    """One thing to delete: the final jobs of `state` that are covered, old enough, and not among the newest.

    *Newest* is by ``finished_at``, then ``id``, counted for each job name over all that the rule covers.

    Args:
        state: the state, a final one.
        age: how long ago a job must have finished to go; ``None``: at any time.
        keep_at_least: how many of the newest of each name never go.
        only: the job names covered; empty: all.
        except_: the job names not covered.
        queue: the queue covered; ``None``: all.
        except_queues: the queues not covered, because they have rules of their own.

    """

    state: State
    age: timedelta | None = None
    keep_at_least: int = 0
    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    queue: str | None = None
    except_queues: tuple[str, ...] = ()

    def covers(self, state: str, *, name: str, queue: str) -> bool:
        """Return whether a job of that state, name and queue is counted and judged by this rule."""
        return (
            state == self.state
            and (not self.only or name in self.only)
            and name not in self.except_
            and self.queue in {None, queue}
            and queue not in self.except_queues
        )

    def removes(self, finished_at: datetime, *, newer: int, now: datetime) -> bool:
        """Return whether a covered job goes, when `newer` covered jobs of its name finished after it."""
        old = self.age is None or finished_at < now - self.age
        return old and newer >= self.keep_at_least


def default_keep() -> KeepByState:
    """Return what applies where an app says nothing: a day for completed, a week, a month for dead letters.

    A day of completed jobs answers "did it run?"; a cancelled one was somebody's wish, who may want it back
    within the week; discarded ones are there to be rerun, and whoever does that may be on holiday.
    """
    return {
        State.COMPLETED: Keep(timedelta(days=1)),
        State.CANCELLED: Keep(timedelta(days=7)),
        State.DISCARDED: Keep(timedelta(days=30)),
    }


def plan(
    keep: KeepByState | None = None, *, queues: Mapping[str, KeepByState | None] | None = None
) -> tuple[PruneRule, ...]:
    """Return the rules that an app's retention and that of its queues amount to.

    A state that `keep` leaves out has `default_keep`; a state that a queue leaves out has the app's. What a
    queue says about a state replaces what the app says about it, for that queue.

    Args:
        keep: the app's retention by state.
        queues: the retention of queues that have their own (``None``: has not).

    Raises:
        InvalidSetting: a state that is not final, or a value that is neither a `Keep` nor several.

    """
    own = {
        name: _by_state(f"queue {name!r}: keep", theirs) for name, theirs in (queues or {}).items() if theirs
    }
    general = {**_by_state("default", default_keep()), **_by_state("keep", keep or {})}
    rules: list[PruneRule | None] = []
    for state, keeps in general.items():
        others = tuple(sorted(name for name, theirs in own.items() if state in theirs))
        rules += [_rule(state, one, except_queues=others) for one in keeps]
    for name, theirs in own.items():
        rules += [_rule(state, one, queue=name) for state, keeps in theirs.items() for one in keeps]
    return tuple(rule for rule in rules if rule is not None)


def _by_state(where: str, keep: Any) -> dict[State, tuple[Keep, ...]]:
    """Check a retention setting, whatever it is; `where` begins the message."""
    if not isinstance(keep, Mapping):
        msg = f"{where} is {keep!r}: give a mapping from a state to a jobrt.Keep"
        raise InvalidSetting(msg)
    checked: dict[State, tuple[Keep, ...]] = {}
    for state, value in cast("Mapping[str, object]", keep).items():
        if state not in FINAL:
            msg = f"{where}[{state!r}]: only finished jobs are pruned; use {', '.join(sorted(FINAL))}"
            raise InvalidSetting(msg)
        keeps = tuple(cast("Sequence[object]", value)) if isinstance(value, Sequence) else (value,)
        checked[State(state)] = tuple(one for one in keeps if isinstance(one, Keep))
        if len(checked[State(state)]) < len(keeps):
            msg = f"{where}[{str(state)!r}] is {value!r}: give a jobrt.Keep, or several"
            raise InvalidSetting(msg)
    return checked


def _rule(
    state: State, keep: Keep, *, queue: str | None = None, except_queues: tuple[str, ...] = ()
) -> PruneRule | None:
    """Return the rule that `keep` means for `state`, or None if it removes nothing."""
    if keep.forever:
        return None
    return PruneRule(
        state=state,
        age=keep.age,
        keep_at_least=keep.count or 0,
        only=keep.only,
        except_=keep.except_,
        queue=queue,
        except_queues=except_queues,
    )
