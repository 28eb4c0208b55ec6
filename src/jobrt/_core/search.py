"""Search for a text in jobs: in the name, the payload, and the errors of attempts.

Letters of ASCII match in either case; both engines know those alone. The payload is JSON text, in which a character may
be written as it is or escaped, so it is searched for both.
"""

import json
from string import ascii_lowercase, ascii_uppercase
from typing import Final

import attrs

from jobrt._core.text import is_storable
from jobrt.errors import InvalidFilter

LONGEST: Final = 200
"""Characters of a text to search for."""
PAYLOAD: Final = 8192
"""Characters of a payload that are searched. Larger ones would take most of the time."""
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


@attrs.frozen
class Needle:
    """A text to search for, in lower case; ``escaped`` are the forms that it may have in JSON."""

    plain: str
    escaped: tuple[str, str]


def needle(text: str) -> Needle:
    """Return what to search for; raise `InvalidFilter` for a text that no job can have."""
    if not text or len(text) > LONGEST:
        raise InvalidFilter(f"text has {len(text)} characters: search for 1 to {LONGEST}")
    if not is_storable(text):
        raise InvalidFilter("text has characters that no job has: search for printable ones")
    forms = (json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    return Needle(text.translate(_LOWER), (forms[0].translate(_LOWER), forms[1].translate(_LOWER)))
