"""Job classes, job functions, and the table from names to their definitions.

::

    new_jobs        job value -> what the storage inserts
    registry        name -> definition
    function_jobs   @app.job: function -> job class
    definition      Job: class -> definition
    options         with_options, enqueue            settings   constants and options, checked
    enqueueable     what type checkers know of results
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
