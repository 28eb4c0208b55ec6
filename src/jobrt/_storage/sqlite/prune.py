"""Delete final jobs as the retention rules say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobrt._storage.sqlite.manage import remove
from jobrt._storage.sqlite.rows import CODES, dumps, span
from jobrt._storage.sqlite.stats import fold
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobrt._core.keep import PruneRule
    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["prune"]

_MOST: Final = 2**63 - 1


def prune(tx: Transaction, rules: Sequence[PruneRule], *, limit: int) -> int:
    """Delete what the rules let go, at most `limit` jobs; return how many."""
    gone: set[int] = set()
    for rule in rules:
        for name in _names(tx, rule):
            found = _old(tx, rule, name, limit=limit - len(gone))
            remove(tx, found)
            gone.update(found)
            if len(gone) >= limit:
                return len(gone)
    fold(tx)
    return len(gone)


def _names(tx: Transaction, rule: PruneRule) -> list[str]:
    """Return the names that have jobs which the rule may cover."""
    found: list[str] = tx.array(SQL["prune_names"], {"state": CODES[rule.state]})
    return [name for name in found if (not rule.only or name in rule.only) and name not in rule.except_]


def _old(tx: Transaction, rule: PruneRule, name: str, *, limit: int) -> list[int]:
    """Return jobs of one name that the rule removes, the oldest first."""
    covered: dict[str, Any] = {
        "state": CODES[rule.state],
        "name": name,
        "queue": rule.queue,
        "except_queues": dumps(rule.except_queues),
    }
    last_kept = (_MOST, _MOST)
    if rule.keep_at_least > 0:
        row = tx.row(SQL["prune_kept"], {**covered, "skip": rule.keep_at_least - 1})
        if row is None:
            return []
        last_kept = row
    before = _MOST if rule.age is None else tx.now - span(rule.age)
    place = {"before": before, "kept_at": last_kept[0], "kept_id": last_kept[1], "limit": limit}
    found: list[int] = tx.array(SQL["prune_old"], covered | place)
    return found
