"""Messages to jobs: the checks that every client makes."""

from typing import Any

from jobrt._core.arguments import checked_key, checked_name
from jobrt._core.limits import check_payload
from jobrt._payload.payload import encode_value
from jobrt._registry.registry import Registry
from jobrt.errors import InvalidJob


def message_text(registry: Registry, name: object, value: Any, *, key: object) -> str:
    """Return the value of a message as JSON text.

    Raises:
        InvalidJob: an argument is invalid, or the value cannot be stored.

    """
    checked_name("send: name", name, error=InvalidJob)
    if key is not None:
        checked_key("send: key", key, error=InvalidJob)
    text = encode_value(value, label=f"send: value of {name!r}")
    check_payload(f"send: value of {name!r}", text, limit=registry.payload_limit)
    return text
