"""Savepoints for work on many jobs, of which the database may refuse some."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from jobrt._storage.apart import Doing, Refused, halves
from jobrt._storage.sqlite.connection import of_a_row
from jobrt._storage.sqlite.transaction import Transaction

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@attrs.define(eq=False)
class Apart:
    """Work on jobs of which some may be refused; those are collected in ``refused``."""

    tx: Transaction
    doing: Doing
    refused: list[Refused] = attrs.field(factory=list[Refused], init=False)

    def __call__(
        self,
        items: Sequence[ItemT],
        work: Callable[[Sequence[ItemT]], ResultT],
        *,
        job: Callable[[ItemT], int],
    ) -> list[ResultT]:
        """Work on items; if that fails, on each half separately, down to the item that is the cause.

        Returns the results of the parts that were done; `job` gives the id of an item's job.
        """
        if not items:
            return []
        self.tx.run("SAVEPOINT jobrt_apart")
        try:
            result = work(items)
        except Exception as error:
            if not (self.tx.connection.in_transaction and of_a_row(error)):
                raise
            self.tx.run("ROLLBACK TO jobrt_apart")
            self.tx.run("RELEASE jobrt_apart")
            if len(items) == 1:
                self.refused.append(Refused(job(items[0]), self.doing, str(error)))
                return []
        else:
            self.tx.run("RELEASE jobrt_apart")
            return [result]
        return [one for part in halves(items) for one in self(part, work, job=job)]
