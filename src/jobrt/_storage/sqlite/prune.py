"""Deletion of jobs, by a filter or by the retention rules."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from jobrt._core.keep import PruneRule
from jobrt._json import is_unicode
from jobrt._storage.apart import Refused
from jobrt._storage.sqlite.family import settle
from jobrt._storage.sqlite.rows import LARGEST, dumps, span
from jobrt._storage.sqlite.savepoints import Apart
from jobrt._storage.sqlite.states import CODES
from jobrt._storage.sqlite.stats import fold, roll_up
from jobrt._storage.sqlite.transaction import SQL, Transaction


def prune(tx: Transaction, rules: Sequence[PruneRule], *, limit: int, but: str) -> tuple[int, list[Refused]]:
    """Delete the jobs that the rules no longer keep, at most `limit`, but for the ids in `but`, and full buckets.

    Returns the number of jobs, and those that are refused.
    """
    apart = Apart(tx, "prune")
    gone: set[int] = set()
    for rule in rules:
        for name in _names(tx, rule):
            ids = _old(tx, rule, name, limit=limit - len(gone), but=but)
            gone.update(*apart(ids, partial(remove, tx), job=int))
            if len(gone) >= limit:
                return len(gone), apart.refused
    tx.run(SQL["attempts/limited_bucket_clean"], {"now": tx.now})
    fold(tx)
    return len(gone), apart.refused


def remove(tx: Transaction, ids: Sequence[int]) -> Sequence[int]:
    """Delete these jobs, their families and all their rows, but keep their counts for statistics; return the ids."""
    if ids:
        ids = tx.array(SQL["jobs/delete_family"], {"ids": dumps(ids)})
        roll_up(tx, ids)
        tx.run(SQL["jobs/delete"], (dumps(ids),))
        settle(tx, ids)
        tx.run(SQL["scopes/forget_members"], {"ids": dumps(ids)})
    return ids


def _names(tx: Transaction, rule: PruneRule) -> list[str]:
    """Return the job names that the rule covers."""
    found: list[str] = tx.array(SQL["jobs/prune_names"], {"state": CODES[rule.state]})
    known = [name for name in found if (not rule.only or name in rule.only) and name not in rule.except_]
    return [
        name for name in known if is_unicode(name)
    ]  # the driver takes no others: such jobs are deleted by id


def _old(tx: Transaction, rule: PruneRule, name: str, *, limit: int, but: str) -> list[int]:
    """Return jobs of one name that the rule removes, the oldest first."""
    covered: dict[str, Any] = {
        "state": CODES[rule.state],
        "name": name,
        "queue": rule.queue,
        "except_queues": dumps(rule.except_queues),
    }
    last_kept = (LARGEST, LARGEST)
    if rule.keep_at_least > 0:
        row = tx.row(SQL["jobs/prune_kept"], {**covered, "skip": rule.keep_at_least - 1})
        if row is None:
            return []
        last_kept = row
    before = LARGEST if rule.age is None else tx.now - span(rule.age)
    place = {"before": before, "kept_at": last_kept[0], "kept_id": last_kept[1], "limit": limit, "but": but}
    found: list[int] = tx.array(SQL["jobs/prune_old"], covered | place)
    return found
