"""Job classes, job functions, and the registry of their definitions by name.

::

    new_jobs        job value -> NewJob, which the storage inserts
    registry        name -> definition
    function_jobs   @app.job: function -> job class
    definition      Job: class -> definition
    options         options of enqueue and with_options
    settings        checks of constants and options
    versions        payloads of other versions of a class
    enqueueable     types of results, for type checkers
"""

from jobrt._payload.payload import encode_result
from jobrt._registry.definition import Job, JobDefinition, definition_of
from jobrt._registry.enqueueable import VERDICTS, Enqueueable, JsonT, ResultT, Verdict
from jobrt._registry.function_jobs import (
    FunctionCall,
    FunctionJob,
    JobDecorator,
    JobKeywords,
    make_function_job,
)
from jobrt._registry.messages import message_text
from jobrt._registry.new_jobs import (
    UpdateKeywords,
    changed_job,
    job_list,
    listed,
    new_job,
    new_jobs,
    stored_options,
    tick_job,
    with_options,
)
from jobrt._registry.options import EnqueueKeywords, JobWithOptions
from jobrt._registry.registry import Registry, registry_of, take_apart
from jobrt._registry.versions import fits_of
from jobrt.errors import UndecodablePayload

__all__ = [
    "VERDICTS",
    "EnqueueKeywords",
    "Enqueueable",
    "FunctionCall",
    "FunctionJob",
    "Job",
    "JobDecorator",
    "JobDefinition",
    "JobKeywords",
    "JobWithOptions",
    "JsonT",
    "Registry",
    "ResultT",
    "UndecodablePayload",
    "UpdateKeywords",
    "Verdict",
    "changed_job",
    "definition_of",
    "encode_result",
    "fits_of",
    "job_list",
    "listed",
    "make_function_job",
    "message_text",
    "new_job",
    "new_jobs",
    "registry_of",
    "stored_options",
    "take_apart",
    "tick_job",
    "with_options",
]
