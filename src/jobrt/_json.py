"""Reading of JSON text that may be anything.

This is a low layer, because the payloads, the core and the storage read such text.
"""

import json
import re
from collections.abc import Callable
from json import scanner
from typing import Any, Final

DEPTH_LIMIT: Final = 128
"""Maximum depth of lists and objects in each other.

Without a limit, the depth that can be read depends on the caller's stack. A payload that was enqueued could not be
run or shown.
"""

TOO_DEEP: Final = f"nested more than {DEPTH_LIMIT} levels deep"

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")


def read_json(text: str) -> Any:
    """Parse JSON text; raise `ValueError`, and nothing else, for a text that jobrt would not write."""
    if not (text.isascii() or is_unicode(text)):
        raise ValueError("not UTF-8")
    if len(text) > DEPTH_LIMIT and is_too_deep(text):
        raise ValueError(TOO_DEEP)
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # a space before the value, or no value
        return _DECODER.decode(text)
    return value if end == len(text) else _DECODER.decode(text)


def is_unicode(text: str) -> bool:
    """Return whether a text has no lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_too_deep(text: str) -> bool:
    """Return whether JSON text is nested more deeply than `DEPTH_LIMIT`. A text with few brackets costs 0.1 µs."""
    if text.count("[") + text.count("{") <= DEPTH_LIMIT:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > DEPTH_LIMIT:
            return True
    return False


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
# The C function that `decode` calls; `decode` also searches for spaces with regular expressions (0.6 µs).
_make_scanner: Any = scanner.make_scanner  # typeshed gives its argument a wrong type
_scan: Final[Callable[[str, int], tuple[Any, int]]] = _make_scanner(_DECODER)
