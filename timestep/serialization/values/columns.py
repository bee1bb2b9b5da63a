"""Makes the JSON text that a statement is given of a table's rows."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_json


def column_of(rows: list[dict[str, Any]]) -> str:
    """JSON text of rows whose values are storable, or have a text of their own."""
    try:
        return to_json(rows, fallback=str).decode()
    except PydanticSerializationError:  # such as a lone surrogate: PostgreSQL refuses it
        return json.dumps(rows, default=str)
