"""Turns Python values into JSON that PostgreSQL can hold, and back into what they were.

Plain JSON stays plain, so that people can query it. What JSON cannot say is marked with `$type`
(`serialization.documents.forms`). A value comes back without its constructor or validators
(`object_state`), what it holds twice is held twice again, and encoding has a result for every
object there is (`encoding`). What would not come back as it was is, in the first execution already,
what a replay makes of the record (`survival`). What JSONB cannot hold is kept as text
(`serialization.documents.json_text`).

A document is data. Only what `encode` can have made is decoded (`decoding`): objects of exactly
`$type` and `value`, whose type is one of a closed list (`serialization.leaf_types`,
`serialization.registered_types`). Everything else is what it is, whatever its keys.
"""

from timestep.serialization.documents.forms import (
    Json,
    escaped,
    has_text,
    is_encoded,
    is_state,
    is_typed,
    unescaped,
    unlinked,
)
from timestep.serialization.documents.json_text import (
    dumps,
    exact_text,
    is_plain,
    kept_exactly,
    plain_text,
    restored,
    storable,
)
from timestep.serialization.values.columns import column_of
from timestep.serialization.values.decoding import decode, decode_fields
from timestep.serialization.values.earlier_forms import encoded_before
from timestep.serialization.values.encoding import encode, encode_fields, text_of
from timestep.serialization.values.survival import survives, text_instead

__all__ = [
    "Json",
    "column_of",
    "decode",
    "decode_fields",
    "dumps",
    "encode",
    "encode_fields",
    "encoded_before",
    "escaped",
    "exact_text",
    "has_text",
    "is_encoded",
    "is_plain",
    "is_state",
    "is_typed",
    "kept_exactly",
    "plain_text",
    "restored",
    "storable",
    "survives",
    "text_instead",
    "text_of",
    "unescaped",
    "unlinked",
]
