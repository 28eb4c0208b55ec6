"""JSON written as text: equal values have equal text, and both engines can store every value."""

import json
from collections.abc import Callable, Iterator
from json import encoder
from typing import Any, Final

from jobrt._json import DEPTH_LIMIT, TOO_DEEP, is_too_deep, is_unicode
from jobrt._payload.codecs import CodecError, short_repr


def write_json(value: Any) -> str:
    """Return JSON text with sorted keys and no spaces, UTF-8 as it is.

    Raises:
        CodecError: it has a NUL, a lone surrogate, or an int that is too long (the error has the path), or is nested
            more deeply than `DEPTH_LIMIT`.

    """
    try:
        text = _write(value)
    except ValueError:
        _check_storable(value)
        raise
    if "\\u0000" in text or not (text.isascii() or is_unicode(text)):
        _check_storable(value)  # only the value tells a NUL from the six characters \u0000
    if len(text) > DEPTH_LIMIT and is_too_deep(text):
        raise CodecError(TOO_DEEP)
    return text


def _refuse_value(value: object) -> object:
    raise CodecError.expected("JSON", value)  # what the codecs return is always JSON


def _make_writer() -> Callable[[Any], str]:
    """Return a function that writes JSON.

    `JSONEncoder.encode` makes a new C encoder for each call, which takes longer than the encoding does
    (2.8 µs and 1.2 µs for two short fields); this keeps one.
    """
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:  # no C accelerator
        return json.JSONEncoder(
            sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode
    write = make(None, _refuse_value, encoder.encode_basestring, None, ":", ",", True, False, False)  # noqa: FBT003 - sort_keys, skipkeys, allow_nan
    return lambda value: "".join(write(value, 0))


_write: Final = _make_writer()


def _check_storable(value: Any) -> None:
    """Raise `CodecError` for the first string or number in a JSON value that cannot be stored."""
    for path, part in _parts(value):
        if isinstance(part, str) and "\0" in part:
            expected = "text without NUL characters (PostgreSQL cannot store them)"
            raise CodecError.expected(expected, part).under(path)
        if isinstance(part, str) and not is_unicode(part):
            expected = "text without lone surrogates (they are not Unicode)"
            raise CodecError.expected(expected, part).under(path)
        if isinstance(part, int):
            try:
                str(part)
            except ValueError:
                raise CodecError("expected an int of at most 4300 digits").under(path) from None


def _parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and scalar values of a JSON value, each with its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            step = f".{key}" if key.isidentifier() else f"[{short_repr(key)}]"
            yield path + step, key
            yield from _parts(part, path + step)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _parts(part, f"{path}[{index}]")
    else:
        yield path, value
