"""Turn job values into JSON text and back, checked both ways.

The text of equal values is equal (keys sorted, no spaces), so that uniqueness can compare it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json import encoder as json_encoder
from typing import Any, Final

import attrs

from jobrt._payload.codecs import CodecError, Scope, is_array, is_dict, shown
from jobrt._payload.fields import Field, fields_of
from jobrt._payload.leaves import plain_json
from jobrt._payload.records import codec_of_fields
from jobrt._payload.shapes import codec_for
from jobrt.errors import InvalidJob, InvalidResult, UndecodablePayload

__all__ = ["RESULT_LIMIT", "Payload", "encode_json", "encode_result", "payload_of"]

RESULT_LIMIT: Final = 256 * 1024
"""Bytes of UTF-8 that a job's result may take, by the contract."""


@attrs.frozen(eq=False)
class Payload:
    """How the values of one job class are stored.

    Args:
        label: the class's name, for messages.
        fields: in the order of the class.
        encode: job value to JSON text; raises `InvalidJob` with the path of what does not fit.
        decode: JSON text, or what `json.loads` makes of it, to job value; raises `UndecodablePayload`.

    """

    label: str
    fields: tuple[Field, ...]
    encode: Callable[[Any], str]
    decode: Callable[[str | Mapping[str, Any]], Any]

    def parse(self, words: Mapping[str, str]) -> Any:
        """Return the job whose fields are given as words, such as those of a command line.

        A word is taken as it stands where its field takes a text, else read as JSON.

        Raises:
            UndecodablePayload: a word does not fit, a field is missing or unknown.

        """
        codecs = {field.name: field.codec for field in self.fields}
        return self.decode({name: _read_word(codecs.get(name), word) for name, word in words.items()})


def payload_of(cls: type, *, local: Mapping[str, Any]) -> Payload:
    """Return how a job class's values are stored.

    Args:
        cls: the job class, an attrs class by now.
        local: names of the functions around it.

    Raises:
        CodecError: a field cannot be stored, or its default does not fit it.

    """
    fields = fields_of(cls, Scope(codec_for, local))
    for field in fields:
        _check_default(field)
    codec, label = codec_of_fields(cls, fields), cls.__name__
    return Payload(
        label,
        tuple(fields),
        _encoder(codec.encode, label),
        _decoder(codec.decode, label),
    )


def _check_default(field: Field) -> None:
    if field.default is attrs.NOTHING:
        return
    try:
        field.codec.encode(field.default)
    except CodecError as misfit:
        text = misfit.describe("its default").removeprefix("its default: ")
        raise CodecError(f"its default does not fit: {text}").under(f".{field.name}") from None


def _read_word(codec: Any, word: str) -> Any:
    try:
        codec.decode(word)
    except CodecError:
        try:
            return _load(word)
        except ValueError:
            pass
    except AttributeError:  # no such field; decode says so
        pass
    return word


# --------------------------------------------------------------------------------------------------- there


def _no_default(value: object) -> object:
    raise CodecError.expected("JSON", value)  # codecs leave nothing else


def _make_writer() -> Callable[[Any], str]:
    """Return a function that writes JSON: sorted keys, no spaces, UTF-8 as it is.

    `JSONEncoder.encode` makes a new C encoder for each call, which takes longer than the encoding does
    (2.8 µs and 1.2 µs for two short fields); this keeps one.
    """
    make: Any = getattr(json_encoder, "c_make_encoder", None)
    if make is None:  # no C accelerator
        return json.JSONEncoder(
            sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode
    write = make(None, _no_default, json_encoder.encode_basestring, None, ":", ",", True, False, False)  # noqa: FBT003 - sort_keys, skipkeys, allow_nan
    join = "".join

    def encode(value: Any) -> str:
        return join(write(value, 0))

    return encode


_write: Final = _make_writer()


def _checked_text(value: Any) -> str:
    """Write JSON that both engines can hold: no NUL, no lone surrogates, no numbers beyond Python's own limit.

    Raises:
        CodecError: with the path of the culprit.

    """
    try:
        text = _write(value)
    except ValueError:
        _find_unwritable(value)
        raise
    if "\\u0000" in text or not (text.isascii() or _is_unicode(text)):
        _find_unwritable(value)
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _find_unwritable(value: Any) -> None:
    """Raise `CodecError` for the first text or number in JSON-able `value` that cannot be stored, if there is one."""
    if isinstance(value, str):
        if "\0" in value:
            raise CodecError.expected("text without NUL characters (PostgreSQL cannot store them)", value)
        if not _is_unicode(value):
            raise CodecError.expected("text without lone surrogates (they are not Unicode)", value)
    elif isinstance(value, int):
        try:
            str(value)
        except ValueError:
            raise CodecError("expected an int of at most 4300 digits") from None
    elif is_dict(value):
        for key, part in value.items():
            _find_under(f".{key}" if key.isidentifier() else f"[{shown(key)}]", key, part)
    elif is_array(value, tuples=True):
        for index, part in enumerate(value):
            _find_under(f"[{index}]", part)


def _find_under(step: str, *parts: Any) -> None:
    try:
        for part in parts:
            _find_unwritable(part)
    except CodecError as misfit:
        misfit.under(step)
        raise


def _encoder(encode: Callable[[Any], Any], label: str) -> Callable[[Any], str]:
    def encode_job(job: Any) -> str:
        try:
            return _checked_text(encode(job))
        except CodecError as misfit:
            raise InvalidJob(misfit.describe(label)) from None
        except RecursionError:
            raise InvalidJob(_too_deep(label)) from None

    return encode_job


def _too_deep(label: str) -> str:
    return f"{label}: nested too deeply, or containing itself"


def encode_json(value: Any, *, label: str) -> str:
    """Return plain JSON as text, as a payload's is; `label` names it in messages. Tuples become lists.

    Raises:
        InvalidJob: it is not JSON, with the path of what is not.

    """
    try:
        return _checked_text(plain_json(value, tuples=True))
    except CodecError as misfit:
        raise InvalidJob(misfit.describe(label)) from None
    except RecursionError:
        raise InvalidJob(_too_deep(label)) from None


def encode_result(value: Any) -> str:
    """Return what a job returned as JSON text. Tuples become lists.

    Raises:
        InvalidResult: it is not JSON, or takes more than `RESULT_LIMIT` bytes.

    """
    try:
        text = encode_json(value, label="result")
    except InvalidJob as error:
        raise InvalidResult(str(error)) from None
    size = len(text) if text.isascii() else len(text.encode())
    if size > RESULT_LIMIT:
        msg = (
            f"result: {size:,} bytes of JSON, but at most {RESULT_LIMIT:,} are kept; "
            "store it elsewhere and return where it is"
        )
        raise InvalidResult(msg)
    return text


# -------------------------------------------------------------------------------------------------- and back


def _refuse_constant(name: str) -> Any:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_decoder_of_text: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _load(text: str) -> Any:
    """Parse JSON; raise ValueError if it is not."""
    try:
        value, end = _decoder_of_text.raw_decode(text)  # the half of `decode` that does not look for spaces
    except ValueError:
        return _decoder_of_text.decode(text)
    return value if end == len(text) else _decoder_of_text.decode(text)


def _decoder(decode: Callable[[Any], Any], label: str) -> Callable[[str | Mapping[str, Any]], Any]:
    def decode_job(args: str | Mapping[str, Any]) -> Any:
        try:
            return decode(_load(args) if isinstance(args, str) else dict(args))
        except CodecError as misfit:
            raise UndecodablePayload(misfit.describe(label)) from misfit.__cause__
        except ValueError as error:
            msg = f"{label}: the stored payload is not JSON ({error})"
            raise UndecodablePayload(msg) from error
        except RecursionError:
            raise UndecodablePayload(_too_deep(label)) from None

    return decode_job
