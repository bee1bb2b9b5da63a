"""A host says at its start which entrypoints have what it could not record."""

from __future__ import annotations

import pytest

from tests.operations.test_entrypoints_check_their_input import Project, project
from timestep.errors import EntrypointError
from timestep.operations import recordable_types

__all__ = ["project"]

JOBS = """
import dataclasses, datetime, decimal, enum, uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional
from dbos import DBOS, WorkflowSerializationFormat
from pydantic import BaseModel, Field, HttpUrl, SecretStr

class Size(enum.Enum):
    SMALL = 1

class Order(BaseModel):
    page: HttpUrl = HttpUrl("http://example.com")
    folder: Path = Path()
    hidden: int = Field(0, exclude=True)
    _private: int = 0

class Spot(NamedTuple):
    size: Size
    of: Order | None = None

@dataclasses.dataclass
class Vague:
    of: "Nowhere" = None
    times: dataclasses.InitVar[int] = 1

class Client:
    pass

@DBOS.step()
async def used(client: Client, _: Iterator[int]) -> Order: ...

@DBOS.workflow()
async def fine(
    a: Order, b: list[Spot | None], c: Annotated[int, Field(gt=0)], d: Literal["x", 1],
    e: Optional[set[Size]], f: tuple[uuid.UUID, ...], g: Mapping[str, Sequence[decimal.Decimal]],
    h: datetime.timedelta, i: bytes, j: Any, k, l: dict = {}, *m: str, **n: float,
) -> frozenset[datetime.date] | Vague | None: ...

@DBOS.workflow()
async def nothing(): ...

@DBOS.step()
def called(client: Client) -> list[Client]: ...

@DBOS.workflow()
async def keys(words: dict[str, SecretStr]) -> "Iterator[int] | Client": ...

def made():
    @dataclasses.dataclass
    class Inner:
        x: int
    return Inner
Inner = made()

@DBOS.workflow()
async def inner(a: Inner) -> None: ...

@DBOS.workflow()
async def _child(one: Client, *several: list[Client]) -> None: ...

@DBOS.workflow(serialization_type=WorkflowSerializationFormat.NATIVE)
async def _native() -> None: ...
"""


def test_each_part_that_cannot_be_recorded_is_named_with_its_place(project: Project) -> None:
    found = project(jobs=JOBS)
    with pytest.raises(EntrypointError) as refused:
        recordable_types.check(found.values())
    native, *named = refused.value.message.split("; ")
    assert native.startswith("the workflow '_native' is decorated with serialization_type=NATIVE")
    sentences = {one.partition(": its ")[2].partition(":")[0]: one for one in named}
    client = "is of the class workflows.jobs.Client, which is none of the classes whose values can"
    expected = {
        f"result[...] {client} be made again": "the step 'called' of workflows.jobs cannot",
        f"result {client} be made again": "the entrypoint 'keys' in workflows/jobs.py cannot",
        f"parameter one {client} be made again": "the workflow '_child' of workflows.jobs cannot",
        f"parameter several[...][...] {client} be made again": "the workflow '_child' of",
        "parameter words[...] is of the class pydantic.types.SecretStr, which is a secret, which "
        "no record may hold": "the entrypoint 'keys'",
        "result is of the class collections.abc.Iterator, which can be read only once": "the entry",
        "parameter a is of the class workflows.jobs.made.<locals>.Inner, which is defined inside a "
        "function, where no other process finds it": "the entrypoint 'inner'",
    }
    assert sentences.keys() == expected.keys()
    for sentence, beginning in expected.items():
        assert sentences[sentence].startswith(beginning)


def test_what_can_be_recorded_is_not_refused(project: Project) -> None:
    head, _, _ = JOBS.partition("@DBOS.step()\ndef called")
    found = project(jobs=head)
    assert found.keys() == {"fine", "nothing"}
    recordable_types.check(found.values())
