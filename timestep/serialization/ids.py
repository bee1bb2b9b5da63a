"""Derives ids from what they stand for, so that each execution of a step has the same ones."""

from __future__ import annotations

import uuid


def derived(parent: uuid.UUID, key: str) -> uuid.UUID:
    """The id of a row, from its owner's id and its own key: the same in every execution."""
    return uuid.uuid5(parent, key)
