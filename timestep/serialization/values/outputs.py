"""Makes the two columns that hold what a tool gave, one for people, one for a replay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from timestep.serialization.documents.forms import shown_of, unlinked, with_shown
from timestep.serialization.documents.json_text import exact_text, restored, storable
from timestep.serialization.values.encoding import Encoding


def columns_of(
    output: object, shown: Mapping[str, Any] | None, *, is_apart: bool
) -> dict[str, Any]:
    """The columns `output`, in JSONB, and `output_text`, where that is not all that there is.

    Args:
        output: What the tool gave.
        shown: The item by which the model was shown it.
        is_apart: Whether another text than the output's own was shown.
    """
    encoding = Encoding()
    encoded = encoding.of(output)
    text = exact_text(encoded)
    if encoding.is_plain and not is_apart:
        return {"output": storable(encoded), "output_text": text}
    if shown is not None:
        # The text of a set, or of a class that is another one by then, would be another text.
        text = json.dumps(with_shown(encoded, dict(shown)))
    elif not encoding.is_plain:
        text = json.dumps(encoded)
    return {"output": storable(unlinked(encoded)), "output_text": text}


def document_of(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """What is recorded of an output, and the item by which the model was shown it, or None."""
    exact = row["output_text"]
    return shown_of(restored(row["output"]) if exact is None else json.loads(exact))
