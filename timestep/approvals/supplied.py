"""Makes what is recorded of the results that people supply in place of calls."""

from __future__ import annotations

from typing import Any

from timestep.serialization.values import encode, storable, survives


def documents(results: dict[str, Any]) -> dict[str, Any]:
    """Each result as the column that holds it has it; what does not come back is its text."""
    return {name: storable(encode(survives(result))) for name, result in results.items()}
