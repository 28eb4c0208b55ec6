"""Texts that no sensible program writes, drawn at random: what a database cannot hold, and what nobody expects."""

from __future__ import annotations

from hypothesis import strategies as st

_ODD = st.sampled_from(
    [
        "\0",
        "\udce9",
        "\ud83d\ude00",
        "\ud800",
        "\x1b]0;x\x07",
        "\r\n",
        "\u202e",
        "😀",
        "'; --",
        "{}",
        "\\",
        '"',
    ]
)
_PIECES = st.one_of(_ODD, st.text(st.characters(), max_size=5))


class Text(str):
    """Text that is not shown in full when a test fails."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the beginning."""
        return f"{str.__repr__(self[:200])} ({len(self)} characters)"


@st.composite
def hostile(draw: st.DrawFn, *, size: int = 200_000) -> str:
    """Draw a text of odd pieces; one in ten is long."""
    text = "".join(draw(st.lists(_PIECES, max_size=8)))
    if text and draw(st.integers(0, 9)) == 0:
        text *= max(1, size // len(text))
    return Text(text)
