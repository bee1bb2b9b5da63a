"""Turns exceptions into JSON, and back into the class they were.

Pickling loses many of them (openai's status errors, the SDK's tripwires), and replays them
as something else. An envelope keeps the class, its arguments, attributes and slots, its text, its
notes, and the errors that belong to it: causes, contexts, members of groups, those that it holds
alone or in a list. An HTTP response is kept as its status, body and the headers that say when to
try again; no request is kept, so no key is.

An envelope is data, as every recorded document: its class is one of those that are imported
already, and neither that class's own code nor that of its attributes is called. It is opened once
when it is sealed. What would not come back as it was is a `RecordedError`, which is an instance of
the nearest class that can: `survives` gives it, for the first execution to go on with, too.

Begin with `sealing` and `opening`.
"""

from timestep.serialization.documents.envelopes import short_type, summary
from timestep.serialization.exceptions.opening import opened, raise_as_it_is
from timestep.serialization.exceptions.sealing import lost, seal, stand_in, survives
from timestep.serialization.exceptions.texts import (
    in_log,
    logs_leave_data_out,
    name_of,
    one_line,
    shortened,
    shown,
    told_by,
)

__all__ = [
    "in_log",
    "logs_leave_data_out",
    "lost",
    "name_of",
    "one_line",
    "opened",
    "raise_as_it_is",
    "seal",
    "short_type",
    "shortened",
    "shown",
    "stand_in",
    "summary",
    "survives",
    "told_by",
]
