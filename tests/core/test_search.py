"""Tests of what a search for a text looks for."""

from __future__ import annotations

import pytest

from jobrt._core.search import Needle, needle
from jobrt.errors import InvalidFilter


def test_a_text_is_searched_as_it_is_and_as_in_json() -> None:
    """Letters of ASCII are in lower case, and others as they are."""
    assert needle('Say "É"') == Needle('say "É"', ('say \\"É\\"', 'say \\"\\u00c9\\"'))


@pytest.mark.parametrize(("text", "error"), [("", "0 characters"), ("x" * 201, "201"), ("\0", "no job has")])
def test_a_text_that_no_job_has_is_refused(text: str, error: str) -> None:
    """The error says why."""
    with pytest.raises(InvalidFilter, match=error):
        needle(text)
