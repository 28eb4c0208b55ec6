"""Say what to run: job classes, their payloads, and the table from names to definitions.

::

    registry        name -> definition; what to enqueue, taken apart
    function_jobs   @app.job: a function becomes a job class
    definition      Job: a class becomes a definition        options    with_options, enqueue
    payload         job value <-> JSON text                  settings   constants and options, checked
    shapes          annotation -> codec
    records · containers · unions · leaves                   fields   of records     annotations   what they mean
    codecs          what a codec is, and how it says no
"""

from jobrt._payload.payload import RESULT_LIMIT, Payload, encode_json, encode_result
from jobrt._registry.definition import Job, JobDefinition, definition_of
from jobrt._registry.enqueueable import AnyJob, Enqueueable, JsonT, ResultT, Verdict
from jobrt._registry.function_jobs import (
    FunctionCall,
    FunctionJob,
    JobDecorator,
    JobKeywords,
    make_function_job,
)
from jobrt._registry.new_jobs import UpdateKeywords, changed_job, new_job, stored_options, tick_job
from jobrt._registry.options import (
    UNSET,
    EnqueueKeywords,
    EnqueueOptions,
    JobWithOptions,
    Unset,
    enqueue_options,
)
from jobrt._registry.registry import Registry, take_apart
from jobrt._registry.settings import RunIn, Timeout
from jobrt.errors import UndecodablePayload

__all__ = [
    "RESULT_LIMIT",
    "UNSET",
    "AnyJob",
    "EnqueueKeywords",
    "EnqueueOptions",
    "Enqueueable",
    "FunctionCall",
    "FunctionJob",
    "Job",
    "JobDecorator",
    "JobDefinition",
    "JobKeywords",
    "JobWithOptions",
    "JsonT",
    "Payload",
    "Registry",
    "ResultT",
    "RunIn",
    "Timeout",
    "UndecodablePayload",
    "Unset",
    "UpdateKeywords",
    "Verdict",
    "changed_job",
    "definition_of",
    "encode_json",
    "encode_result",
    "enqueue_options",
    "make_function_job",
    "new_job",
    "stored_options",
    "take_apart",
    "tick_job",
]
