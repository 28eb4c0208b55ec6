"""Findings about waiting jobs and cron entries whose payloads this application cannot decode."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from jobrt._core import where
from jobrt._core.cron import CronEntry, orphaned
from jobrt._core.job import JobRecord
from jobrt._registry import Registry, UndecodablePayload
from jobrt._storage.contract import CronRow, JobStore
from jobrt._views.findings import Finding
from jobrt._views.words import jobs_in_words
from jobrt.errors import InvalidSetting, Problem

_SAMPLE: Final = 500
"""Waiting jobs that are examined: so many of the oldest, and as many of the newest."""

_REMEDIES: Final[Mapping[Problem, str]] = {
    "text": "they are discarded when they are due",
    "fields": "they wait for a worker of newer code: start one, or add fields that were removed to REMOVED",
    "value": "they are tried again, and discarded a day after the first try: correct the class, or update the jobs",
}


async def examine_payloads(jobs: JobStore, registry: Registry) -> list[Finding]:
    """Return a finding for each name and problem, from a sample of the waiting jobs."""
    waiting = where.state("scheduled", "available", "retryable")
    found: dict[int, JobRecord] = {}
    for order in ("id", "-id"):
        records = await jobs.query(waiting, order_by=order, limit=_SAMPLE, details=False)
        found |= {record.id: record for record in records}
    return list(_findings(found, registry))


def examine_crons(
    rows: Iterable[CronRow], registry: Registry, *, declared: Container[str]
) -> Iterator[Finding]:
    """Yield a finding for each entry whose job this application knows and cannot make; `declared` is in its code."""
    for row in rows:
        if row.paused or "undecodable" in row.spec:
            continue
        try:
            entry = CronEntry.from_spec(row.name, row.spec)
        except InvalidSetting as error:
            yield Finding(wrong=True, text=f"{error}: it does not tick: declare or delete it")
            continue
        if entry.job not in registry or orphaned(entry, declared):
            continue
        try:
            registry.get(entry.job).read(entry.args, entry.version)
        except UndecodablePayload as error:
            remedy = "start a worker of newer code" if error.problem == "fields" else "declare or delete it"
            yield Finding(wrong=True, text=f"cron entry {row.name} does not tick ({error}): {remedy}")


def _findings(records: Mapping[int, JobRecord], registry: Registry) -> Iterator[Finding]:
    errors: dict[tuple[str, Problem], tuple[int, UndecodablePayload]] = {}
    counts: Counter[tuple[str, Problem]] = Counter()
    for record in records.values():
        error = _error(record, registry)
        if error is not None:
            key = (record.name, error.problem)
            counts[key] += 1
            errors.setdefault(key, (record.id, error))
    for (name, problem), (job_id, error) in sorted(errors.items()):
        number = jobs_in_words(counts[name, problem])
        text = f"{number} of {name} cannot be decoded, such as job {job_id} ({error}): {_REMEDIES[problem]}"
        yield Finding(wrong=True, text=text)


def _error(record: JobRecord, registry: Registry) -> UndecodablePayload | None:
    """Return why a job cannot be decoded; None if it can, or if a listing does not have the whole payload."""
    if record.name not in registry or record.args.keys() == {"truncated"}:
        return None
    if record.args.keys() == {"undecodable"}:
        return UndecodablePayload(f"{record.name}: the stored payload is not a JSON object", "text")
    try:
        registry.get(record.name).read(record.args, record.version)
    except UndecodablePayload as error:
        return error
    return None
