"""Checks the tags of workflows: what people give to tell runs apart, such as a team or a customer.

They are what DBOS calls the attributes of a workflow, in its own table, which has an index on
them. All runs of a workflow have its tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from timestep.errors import InvalidQueryError, InvalidTagsError
from timestep.operations.arguments import check_filter, flaw
from timestep.runtime.terminal import quoted
from timestep.serialization.documents import json_text
from timestep.serialization.documents.json_text import TooDeep
from timestep.serialization.json_output import pointer

if TYPE_CHECKING:
    from timestep.store.reads.workflow_tags import Tag

MOST = 50
LONGEST_NAME = 100
LONGEST_VALUE = 1000
"""Characters."""

_OF_DBOS = "dbos."
"""How the names of attributes begin that DBOS makes for itself."""


def check_tags(tags: object) -> None:
    """Refuse what cannot be the tags of a workflow, all of it at once.

    Raises:
        InvalidTagsError: It is no mapping, has too many tags, or a name or value cannot be used.
    """
    if not isinstance(tags, Mapping):
        raise InvalidTagsError(f'tags {quoted(tags)} is no mapping such as {{"team": "billing"}}')
    if len(tags) > MOST:
        raise InvalidTagsError(f"tags has {len(tags)} tags, and may have {MOST}")
    reasons = {name: _flaw_of(name, value) for name, value in tags.items()}
    found = {name: reason for name, reason in reasons.items() if reason is not None}
    if found:
        raise InvalidTagsError(
            "; ".join(f"the tag {quoted(name)}: {reason}" for name, reason in found.items()),
            fields=[
                {"pointer": pointer([str(name)]), "detail": reason}
                for name, reason in found.items()
            ],
        )


def filters_of(given: str | Sequence[str] | None) -> tuple[Tag, ...]:
    """The tags that are looked for: `team:billing` one of this value, `team` any value.

    Args:
        given: One, or several, which runs have all; None: runs may have any.

    Raises:
        InvalidQueryError: One of them cannot be looked for.
    """
    several = [given] if isinstance(given, str) else given or ()
    return tuple(_filter(one) for one in several)


def named(text: str) -> tuple[str, str | None]:
    """The name and value that a text such as `team:billing` or `team=billing` gives.

    Returns:
        Both; a value of None: the text is a name alone.
    """
    place = min((place for one in ":=" if (place := text.find(one)) >= 0), default=None)
    return (text, None) if place is None else (text[:place], text[place + 1 :])


def shown(attributes: str | None) -> dict[str, Any]:
    """The tags of a workflow, of the text of its attributes: without what DBOS made for itself.

    What others gave DBOS as attributes may have values of any type of JSON's.
    """
    found = json_text.loads((attributes or "{}").encode())
    if isinstance(found, TooDeep):
        return {"…": str(found)}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if not name.startswith(_OF_DBOS)}


def _flaw_of(name: object, value: object) -> str | None:
    """Why a tag cannot be used; None: it can."""
    if (reason := flaw(name)) is not None:
        return f"its name {reason}"
    assert isinstance(name, str)
    if ":" in name or "=" in name:
        return "its name has a ':' or '=', which stand before a value"
    if name.startswith(_OF_DBOS):
        return f"its name begins with {_OF_DBOS!r}, as those do that DBOS makes"
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters, and may have {LONGEST_NAME}"
    if (reason := flaw(value)) is not None:
        return f"its value {quoted(value)} {reason}"
    assert isinstance(value, str)
    if len(value) > LONGEST_VALUE:
        return f"its value has {len(value)} characters, and may have {LONGEST_VALUE}"
    return None


def _filter(given: str) -> Tag:
    check_filter("tag", given)
    name, value = named(given)
    if not name.strip() or (value is not None and not value.strip()):
        raise InvalidQueryError(
            f"tag {quoted(given)} is neither NAME:VALUE nor NAME, such as team:billing or team"
        )
    return name, value
