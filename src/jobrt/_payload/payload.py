"""Payloads: values of a class as JSON text.

Equal values have equal text (keys sorted, no spaces), so that uniqueness can compare it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from jobrt._json import read_json
from jobrt._payload.codecs import Codec, CodecError, Scope
from jobrt._payload.dispatch import codec_for
from jobrt._payload.fields import Field, fields_of
from jobrt._payload.json_text import write_json
from jobrt._payload.leaves import plain_json
from jobrt._payload.records import codec_of_fields
from jobrt.errors import InvalidJob, InvalidResult, Problem, UndecodablePayload

_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, tuple, dict})

RESULT_LIMIT: Final = 256 * 1024
"""Maximum size of a result in bytes of UTF-8."""


@attrs.frozen(eq=False)
class Payload:
    """Conversion of the values of a class to JSON text and back.

    Args:
        label: name of the class, for messages.
        fields: fields in the order of the class.
        encode: value to JSON text; raises `InvalidJob` with the path of an invalid part.
        decode: JSON text or parsed JSON to value; raises `UndecodablePayload` with the path of each problem.
        structure: names and types of the fields, and of those of records in them, as JSON values.

    """

    label: str
    fields: tuple[Field, ...]
    encode: Callable[[Any], str]
    decode: Callable[[str | Mapping[str, Any]], Any]
    structure: list[Any]

    def parse(self, words: Mapping[str, str]) -> Any:
        """Return the value whose fields are words, for example of a command line.

        A word is used as a string if its field accepts that, and parsed as JSON otherwise.

        Raises:
            UndecodablePayload: a word is invalid, or a field is missing or unknown.

        """
        codecs = {field.name: field.codec for field in self.fields}
        return self.decode(
            {
                name: _parse_word(word, codecs[name]) if name in codecs else word
                for name, word in words.items()
            }
        )


def payload_of(cls: type, *, local: Mapping[str, Any]) -> Payload:
    """Return the payload of a job class, which is an attrs class; ``local`` has the names of functions around it.

    Raises:
        CodecError: a field cannot be stored, or its default is invalid.

    """
    scope = Scope(codec_for, local)
    fields = fields_of(cls, scope)
    for field in fields:
        _check_default(field)
    codec, label = codec_of_fields(cls, fields), cls.__name__
    structure = [_structure(label, fields)]
    structure += [_structure(str(record), fields_of(record, scope)) for record in tuple(scope.records)]
    return Payload(
        label, tuple(fields), _encoder(codec.encode, label), _decoder(codec.decode, label), structure
    )


def _structure(label: str, fields: Iterable[Field]) -> list[Any]:
    return [label, [[field.name, field.codec.name] for field in fields]]


def _check_default(field: Field) -> None:
    if field.default is attrs.NOTHING:
        return
    try:
        field.codec.encode(field.default)
    except CodecError as error:
        text = error.message("its default").removeprefix("its default: ")
        raise CodecError(f"its default is invalid: {text}").under(f".{field.name}") from None


def _parse_word(word: str, codec: Codec) -> Any:
    try:
        codec.decode(word)
    except CodecError:
        try:
            return read_json(word)
        except ValueError:
            pass  # the message then shows the word
    return word


def _encoder(encode: Callable[[Any], Any], label: str) -> Callable[[Any], str]:
    def encode_to_text(value: Any) -> str:
        try:
            return write_json(encode(value))
        except CodecError as error:
            raise InvalidJob(error.message(label)) from None
        except RecursionError:
            raise InvalidJob(_too_deep(label)) from None

    return encode_to_text


def _decoder(decode: Callable[[Any], Any], label: str) -> Callable[[str | Mapping[str, Any]], Any]:
    def decode_args(args: str | Mapping[str, Any]) -> Any:
        value: Any = args
        try:
            value = read_json(args) if isinstance(args, str) else dict(args)
            return decode(value)
        except CodecError as error:
            no_object = not isinstance(value, dict)
            problem: Problem = "text" if no_object else "fields" if error.unknown else "value"
            raise UndecodablePayload(error.message(label), problem) from error.__cause__
        except ValueError as error:
            message = f"{label}: the stored payload is not JSON ({error})"
            raise UndecodablePayload(message, "text") from error
        except RecursionError:
            raise UndecodablePayload(_too_deep(label)) from None

    return decode_args


def _decoder_of_text(codec: Codec, label: str) -> Callable[[str], Any]:
    def decode_text(text: str) -> Any:
        try:
            return codec.decode(read_json(text))
        except CodecError as error:
            raise UndecodablePayload(error.message(label), "value") from error.__cause__
        except RecursionError:
            raise UndecodablePayload(_too_deep(label)) from None

    return decode_text


def _too_deep(label: str) -> str:
    return f"{label}: nested too deeply, or contains itself"


def _allow_tuples(value: Any) -> Any:
    return plain_json(value, tuples=True)


def encode_json(value: Any, *, label: str) -> str:
    """Return a JSON value as text like that of a payload; tuples become lists.

    Raises:
        InvalidJob: it is not JSON; the message has the path, which starts with ``label``.

    """
    return _encoder(_allow_tuples, label)(value)


_encode_result: Final = _encoder(_allow_tuples, "result")


def encode_result(value: Any) -> str:
    """Return the result of a job as JSON text; tuples become lists.

    Raises:
        InvalidResult: it is not JSON, or larger than `RESULT_LIMIT`.

    """
    try:
        text = _encode_result(value)
    except InvalidJob as error:
        raise InvalidResult(str(error)) from None
    size = len(text) if text.isascii() else len(text.encode())
    if size > RESULT_LIMIT:
        raise InvalidResult(
            f"result: {size:,} bytes of JSON, but at most {RESULT_LIMIT:,} are allowed; "
            "store it elsewhere and return its location"
        )
    return text


def decode_value(annotation: Any, text: str, *, label: str) -> Any:
    """Return the value of a JSON text as a type that a payload may have; `label` begins messages.

    Raises:
        InvalidJob: the type cannot be stored.
        UndecodablePayload: the value does not fit the type; the message has the path.

    """
    try:
        codec = codec_for(annotation, Scope(codec_for, {}))
    except CodecError as error:
        raise InvalidJob(error.message(label)) from None
    return _decoder_of_text(codec, label)(text)


def encode_value(value: Any, *, label: str) -> str:
    """Return a value of any type that a payload may have as JSON text; plain JSON is written as it is."""
    kind = type(value)
    try:
        codec = codec_for(Any if kind in _PLAIN else kind, Scope(codec_for, {}))
    except CodecError as error:
        raise InvalidJob(error.message(label)) from None
    return _encoder(codec.encode, label)(value)
