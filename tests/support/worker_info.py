"""What workers tell about themselves, from the few values that a test is about."""

from __future__ import annotations

import json
from typing import Any

from jobrt._core.worker_info import WorkerInfo

__all__ = ["worker_info"]

_CHILD = {
    "state": "running",
    "restart": "permanent",
    "recent_restarts": 0,
    "restarts": 0,
    "last_error": None,
    "last_error_at": None,
    "since": None,
    "since_clock": None,
    "nested": None,
}


def worker_info(**values: Any) -> WorkerInfo:
    """Return a worker's information from JSON values; children of a tree need only a name."""
    if "tree" in values:
        values["tree"] = _tree(values["tree"])
    return WorkerInfo.from_json(json.dumps(values))


def _tree(tree: dict[str, Any]) -> dict[str, Any]:
    children: list[dict[str, Any]] = [{**_CHILD, **child} for child in tree.get("children", ())]
    for child in children:
        child["nested"] = None if child["nested"] is None else _tree(child["nested"])
    return {"name": "worker", "strategy": "one_for_one", "state": "running", **tree, "children": children}
