"""Keys by which the jobs of a queue are limited, as they are stored with each job.

A stored key begins with the field that it was made of. So a key of an earlier setting is never taken for one of
today's: a claim reads only the range of its own setting.
"""

import hashlib
from functools import lru_cache
from typing import Final

from jobrt._core.limits import limit_key

_LONGEST: Final = 60
"""Characters of a field or a value above which its digest is stored: an index entry must be short."""

_DIGITS: Final = 32
"""Hexadecimal digits of a digest: that two values share one by chance is out of the question."""


def stored_key(path: str, name: str, *, args: str, metadata: str) -> str:
    """Return the key to store with a job of a queue whose key is `path`."""
    return labelled(path, limit_key(path, name, args=args, metadata=metadata))


def labelled(path: str, value: str) -> str:
    """Return the stored key of jobs for which `limit_key` returns a value."""
    return key_range(path)[0] + _short(value)


@lru_cache(maxsize=256)
def key_range(path: str) -> tuple[str, str]:
    """Return the least text that a stored key of this field can be, and the least text that is after all of them."""
    label = _short(path)
    return label + "=", label + ">"


def _short(text: str) -> str:
    if len(text) <= _LONGEST and text.isascii() and text.isprintable():
        return text
    return "#" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
