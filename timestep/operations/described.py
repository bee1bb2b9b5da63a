"""Lets whoever describes answers, such as the HTTP API, say of each field what its text says."""

from __future__ import annotations

from typing import Any, ClassVar


class Described:
    """Is the base of dataclasses that are answered: pydantic reads the texts below their fields.

    Each field is always there, also one with a default.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "json_schema_serialization_defaults_required": True,
        "use_attribute_docstrings": True,
    }
