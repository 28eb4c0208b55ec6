"""URLs of databases."""

from __future__ import annotations

import pytest

import jobrt
from jobrt._core.database_url import parse_url
from jobrt._storage.open import DEFAULT_URL, database_url
from jobrt.errors import InvalidSetting, StorageError


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db?mode=ro", "sqlite:////var/x.db?", "sqlite:///:memory:?cache=shared"]
)
def test_options_of_a_sqlite_url_are_refused(url: str) -> None:
    """They would become a part of the name of the file."""
    with pytest.raises(StorageError, match="takes no options after a question mark: use sqlite:///"):
        parse_url(url)


@pytest.mark.parametrize("url", ["", 3, b"sqlite:///x.db"])
def test_an_empty_url_is_not_the_default(url: str) -> None:
    """It is a setting that is missing somewhere else."""
    with pytest.raises(InvalidSetting, match="url is"):
        jobrt.App(url)


def test_the_default_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of the environment, unless it is empty."""
    monkeypatch.setenv("JOBRT_URL", "sqlite:///other.db")
    assert (database_url(None), database_url("sqlite:///x.db")) == ("sqlite:///other.db", "sqlite:///x.db")
    monkeypatch.setenv("JOBRT_URL", "")
    assert database_url(None) == DEFAULT_URL
