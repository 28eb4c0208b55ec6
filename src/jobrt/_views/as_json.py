"""Records as JSON, as ``--json`` prints them and the dashboard's ``/api`` sends them."""

import math
from datetime import datetime
from typing import Any

import attrs


def jsonable(value: Any) -> Any:
    """Return a record as values that `json` can encode."""
    if attrs.has(type(value)):
        return {field.name: jsonable(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    return value.isoformat() if isinstance(value, datetime) else value
