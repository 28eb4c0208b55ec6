"""Tests of what a search for a text looks for, and where it goes on."""

from __future__ import annotations

import pytest

from jobrt._core.search import Needle, Search, needle, seen
from jobrt.errors import InvalidFilter


def test_a_text_is_searched_as_it_is_and_as_in_json() -> None:
    """Letters of ASCII are in lower case, and others as they are."""
    assert needle('Say "É"') == Needle('say "É"', ('say \\"É\\"', 'say \\"\\u00c9\\"'))


@pytest.mark.parametrize(("text", "error"), [("", "0 characters"), ("x" * 201, "201"), ("\0", "no job has")])
def test_a_text_that_no_job_has_is_refused(text: str, error: str) -> None:
    """The error says why."""
    with pytest.raises(InvalidFilter, match=error):
        needle(text)


def test_a_search_goes_on_behind_what_it_has_seen() -> None:
    """Behind the last job found, or the last one looked at; not if there are no more."""
    assert seen((9, 7), 2, 7, limit=2, scan=5) == Search((9, 7), 7)
    assert seen((9,), 5, 3, limit=2, scan=5) == Search((9,), 3)
    assert seen((9,), 4, 3, limit=2, scan=5) == Search((9,), None)
    assert seen((), 0, None, limit=2, scan=5) == Search((), None)
