"""Text of others, made harmless for terminals and text logs.

Names, errors and log messages come from jobs and from remote servers. Printed as they are, control characters would
act on the reader's terminal, and line breaks would forge lines. Every exit for text uses these functions; JSON
needs none, because its encoder escapes.
"""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), line and paragraph separators, controls of writing direction, and surrogates.

Controls of writing direction make a text look like another. Surrogates cannot be encoded. Joiners stay: emoji and
several scripts need them.
"""


def printable(text: str) -> str:
    r"""Return a text as one line: what is unsafe to print is written as in Python, such as ``\n`` and ``\x1b``.

    For readers only: a backslash of the text itself stays as it is, so the original cannot be restored.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def printable_json(text: str) -> str:
    r"""Return JSON with the same meaning, in which what is unsafe to print is escaped as in ``\u009b``."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def printable_lines(text: str, *, indent: str = "    ") -> str:
    """Return a text of several lines, each printable, and each after the first indented.

    Lines of a log are not indented, so a text of this form cannot forge one. Tabs become spaces.
    """
    first, *others = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return "\n".join([_line(first), *(indent + _line(line) for line in others)])


def _line(text: str) -> str:
    return printable(text.expandtabs(4))
