"""A host says at its start which entrypoints have what it could not record."""

from __future__ import annotations

import pytest

from tests.operations.test_entrypoints_check_their_input import Project, project
from timestep.errors import EntrypointError
from timestep.operations import recordable_types

__all__ = ["project"]

JOBS = """
import dataclasses, datetime, decimal, enum, uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
from dbos import DBOS, WorkflowSerializationFormat
from pydantic import BaseModel, Field, HttpUrl
from typing_extensions import TypedDict

class Size(enum.Enum):
    SMALL = 1

class Order(BaseModel):
    page: HttpUrl = HttpUrl("http://example.com")
    folder: Path = Path()

@dataclasses.dataclass
class Line:
    size: Size
    of: Order | None = None

@dataclasses.dataclass
class Vague:
    of: "Nowhere" = None

@dataclasses.dataclass
class Parcel:
    line: Line
    place: Path

class Both(TypedDict):
    parcels: dict[str, list[Parcel]]

@DBOS.workflow()
async def fine(
    a: Order, b: list[Line | None], c: Annotated[int, Field(gt=0)], d: Literal["x", 1],
    e: Optional[set[Size]], f: tuple[uuid.UUID, ...], g: Mapping[str, Sequence[decimal.Decimal]],
    h: datetime.datetime, i: bytes, j: Any, k, l: dict = {}, *m: str, **n: float,
) -> frozenset[datetime.date] | Vague | None: ...

@DBOS.workflow()
async def nothing(): ...

@DBOS.workflow()
async def places(a: Path, b: Both) -> Path: ...

@DBOS.workflow()
async def lasts(a: datetime.timedelta) -> "Parcel": ...

def made():
    @dataclasses.dataclass
    class Inner:
        x: int
    return Inner
Inner = made()

@DBOS.workflow()
async def inner(a: Inner) -> None: ...

@DBOS.workflow(serialization_type=WorkflowSerializationFormat.NATIVE)
async def _native() -> None: ...
"""


def test_each_workflow_that_cannot_be_recorded_is_named(project: Project) -> None:
    found = project(jobs=JOBS)
    with pytest.raises(EntrypointError) as refused:
        recordable_types.check(found.values())
    native, places, lasts, inner = refused.value.message.split("; ")
    assert native.startswith("the workflow '_native' is decorated with serialization_type=NATIVE")
    assert "entrypoint 'inner' in workflows/jobs.py has a parameter 'a' of" in inner
    assert "(defined inside a function), of which no value can be recorded" in inner
    assert "a parameter 'a' of datetime:timedelta, a result of pathlib:Path," in lasts
    assert "a parameter 'a' of pathlib:Path, a parameter 'b' of pathlib:Path, a result of" in places


def test_what_can_be_recorded_is_not_refused(project: Project) -> None:
    head, _, _ = JOBS.partition("@DBOS.workflow()\nasync def places")
    recordable_types.check(project(jobs=head).values())
