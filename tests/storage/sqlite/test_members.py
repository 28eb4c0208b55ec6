"""Members of a nursery whose rows are damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from jobrt._core.scopes import Child
from jobrt._storage.sqlite import open_sqlite
from tests.conformance.build import job, ref, start

if TYPE_CHECKING:
    from pathlib import Path

    from jobrt._core.scopes import Member


async def test_identities_that_are_no_text_are_read_in_pages(tmp_path: Path) -> None:
    """Each is in one page, and the job goes on."""
    path = tmp_path / "jobs.db"
    async with open_sqlite(path) as storage:
        parent = await start(storage, job("parent"))
        await storage.scopes.open(ref(parent), "n", on_failure="cancel", seconds=None)
        children = [Child(f"key:{number}", job()) for number in range(5)]
        inserted = await storage.scopes.enqueue(ref(parent), "n", children)
        with closing(sqlite3.connect(path, isolation_level=None)) as damage:
            for number, damaged in enumerate(("ff", "6b65793aff", "6b65793a00", "6b65793ac3")):
                damage.execute(
                    f"UPDATE jobrt_member SET identity = CAST(x'{damaged}' AS TEXT) WHERE identity = 'key:{number}'"
                )
        pages: list[Member] = []
        while page := await storage.scopes.members(
            ref(parent), "n", after=pages[-1].identity if pages else "", limit=1
        ):
            pages += page
        assert [one.id for one in sorted(pages)] == [one.id for one in inserted]
