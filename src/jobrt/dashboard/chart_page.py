"""The page of charts: a period, of one queue or job or of all, and a table that compares them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import attrs
from starlette.requests import Request
from starlette.responses import Response

from jobrt._core.stats import Numbers, total
from jobrt.dashboard.charts import Row, charts_of, labels_of, row_of, throughput, trend_of
from jobrt.dashboard.history import PERIODS, Counted, Group
from jobrt.dashboard.render import Site, is_live
from jobrt.errors import InvalidFilter

_SECONDS: Final = 0.015
"""Time for counting in a request for a page, which has to be quick."""
_SECONDS_MORE: Final = 0.25
"""Time for counting when our script asks for more: the page is there already."""
_COMPARED: Final = 30
_BY: Final[Mapping[str, Callable[[Group], str]]] = {
    "queue": lambda group: group[0],
    "job": lambda group: group[1],
}


@attrs.frozen
class _Shown:
    """What the address asks for."""

    period: str
    by: str
    queue: str | None
    name: str | None

    def includes(self, group: Group) -> bool:
        """Return whether a group is of the queue and the job that are shown."""
        queue, name = group
        return self.queue in {None, queue} and self.name in {None, name}

    def query(self, **changes: str | None) -> str:
        """Return the query of the address for this page with changes."""
        fields = {**attrs.asdict(self), **changes}
        return urlencode({key: value for key, value in fields.items() if value is not None})


async def counted_of(site: Site, request: Request, period: str) -> Counted:
    """Return what ended in a period, counted a little further."""
    seconds = _SECONDS_MORE if is_live(request) else _SECONDS
    return await site.history.count(PERIODS[period], await site.jobs.now(), seconds=seconds)


async def charts(site: Site, request: Request) -> Response:
    """Return the page of charts."""
    shown = _parse(request)
    counted = await counted_of(site, request, shown.period)
    slots = counted.columns(shown.includes)
    step = "%H:%M" if shown.period == "hour" else "%a %H:%M"
    return site.page(
        request,
        "charts.html",
        shown=shown,
        periods=list(PERIODS),
        counted=counted,
        missing=sum(start < counted.since for start in counted.starts),
        labels=labels_of(counted),
        charts=charts_of(slots),
        numbers=[row_of(f"{start:{step}}", slot) for start, slot in zip(counted.starts, slots, strict=True)],
        compared=_compared(counted, shown),
        limit=_COMPARED,
    )


async def overview_chart(site: Site, request: Request) -> Mapping[str, Any]:
    """Return the values for the chart of the last hour on the overview."""
    counted = await counted_of(site, request, "hour")
    slots = counted.columns(lambda _group: True)
    return {
        "counted": counted,
        "missing": sum(start < counted.since for start in counted.starts),
        "labels": labels_of(counted),
        "chart": throughput(slots),
        "numbers": [
            row_of(f"{start:%H:%M}", slot) for start, slot in zip(counted.starts, slots, strict=True)
        ],
    }


def _compared(counted: Counted, shown: _Shown) -> Sequence[Row]:
    """Return the queues or jobs with most ends, the first ones."""
    label = _BY[shown.by]
    found: dict[str, list[list[Numbers]]] = {}
    for index, groups in enumerate(counted.slots):
        for group, numbers in groups.items():
            if shown.includes(group):
                name = label(group)
                if name not in found:
                    found[name] = [[] for _ in counted.slots]
                found[name][index].append(numbers)
    rows = [_row(name, list(map(total, slots))) for name, slots in found.items()]
    return sorted(rows, key=lambda row: (-_ends(row.total), row.label))[:_COMPARED]


def _row(name: str, slots: Sequence[Numbers]) -> Row:
    return row_of(name, total(slots), trend_of(slots))


def _ends(numbers: Numbers) -> int:
    return numbers.completed + numbers.failed + numbers.dead + numbers.cancelled


def _parse(request: Request) -> _Shown:
    given = {key: value for key, value in request.query_params.multi_items() if value}
    known = [field.name for field in attrs.fields(_Shown)]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise InvalidFilter(f"unknown parameter {unknown[0]!r}: use {', '.join(known)}")
    period = _one_of("period", given.get("period", "hour"), PERIODS)
    return _Shown(period, _one_of("by", given.get("by", "queue"), _BY), given.get("queue"), given.get("name"))


def _one_of(name: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise InvalidFilter(f"{name} is {value!r}: use {', '.join(known)}")
    return value
