"""Entrypoints: how they are found, and how their input is checked."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.workflows_package import own_workflows
from timestep.errors import EntrypointError, InvalidInputError, UnknownEntrypointError
from timestep.operations.entrypoints import Entrypoint, find, lookup, named

Project = Callable[..., dict[str, Entrypoint]]

HEAD = "from dbos import DBOS\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Writes modules of a package `workflows` and finds its entrypoints."""
    monkeypatch.chdir(tmp_path)

    def make(**modules: str) -> dict[str, Entrypoint]:
        for name, text in {"__init__": "", **modules}.items():
            file = tmp_path.joinpath("workflows", *name.split("__in__")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return find()

    with own_workflows():
        yield make


def one(project: Project, signature: str, head: str = "") -> Entrypoint:
    """The entrypoint whose function has this signature."""
    text = f"{HEAD}{head}\n@DBOS.workflow()\nasync def job{signature}:\n    '''Do a job.'''\n"
    return project(jobs=text)["job"]


def test_every_module_is_looked_into(project: Project) -> None:
    found = project(
        b=HEAD + "@DBOS.workflow()\nasync def second(x: int) -> int:\n    return x\n",
        a=HEAD
        + "@DBOS.workflow(name='other')\n"
        + "async def first() -> None:\n    '''Do it.\n\n    More.'''\n"
        + "@DBOS.workflow()\nasync def _inner() -> None: ...\n"
        + "@DBOS.step()\nasync def step() -> None: ...\n"
        + "async def helper() -> None: ...\n",
        c="from workflows.b import second\nagain = second\n",
        deep__in____init__="",
        deep__in__d=HEAD + "@DBOS.workflow()\ndef third() -> None: ...\n",
    )
    assert list(found) == ["first", "second", "third"]
    first = found["first"]
    assert (first.workflow_name, first.description) == ("other", "Do it.")
    assert (first.file, found["third"].file) == ("workflows/a.py", "workflows/deep/d.py")
    assert first.validate({}) == {}
    assert named(found, "second") is found["second"]
    assert lookup("second").function is found["second"].function
    assert lookup(found["second"].function).name == "second"


def test_the_schema_says_what_an_input_is(project: Project) -> None:
    job = one(project, "(name: str, times: int = 1, rest=None)")
    assert job.input_schema == {
        "title": "job",
        "type": "object",
        "properties": {
            "name": {"title": "Name", "type": "string"},
            "times": {"title": "Times", "type": "integer", "default": 1},
            "rest": {"title": "Rest", "default": None},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    assert job.description == "Do a job."


def test_a_generic_model_may_be_named_in_a_text(project: Project) -> None:
    """Pydantic puts the class that such an annotation makes into the module that names it."""
    text = (
        "from __future__ import annotations\n"
        "from typing import Generic, TypeVar\n"
        "from dbos import DBOS\n"
        "from pydantic import BaseModel\n"
        "T = TypeVar('T')\n"
        "class Page(BaseModel, Generic[T]):\n"
        "    items: list[T]\n"
        "@DBOS.workflow()\n"
        "async def pages(page: Page[int]) -> int:\n"
        "    return len(page.items)\n"
    )
    assert list(project(jobs=text)) == ["pages"]


def test_a_default_stays_the_function_s(project: Project) -> None:
    job = one(project, "(name: str, when: object = object())")
    assert job.validate({"name": "x"}) == {"name": "x"}
    assert "default" not in job.input_schema["properties"]["when"]


def test_values_arrive_as_their_annotations_say(project: Project) -> None:
    head = (
        "from __future__ import annotations\nimport datetime\nfrom dbos import DBOS\n"
        "from pydantic import BaseModel\nclass Order(BaseModel):\n    item: str\n"
    )
    signature = "(order: Order, day: datetime.date, json: dict[str, int])"
    text = f"{head}@DBOS.workflow()\nasync def job{signature}: ...\n"
    job = project(jobs=text)["job"]
    given = {"order": {"item": "tea"}, "day": "2026-01-02", "json": {"copy": 1}}
    found = job.validate(given)
    assert (found["order"].item, found["day"]) == ("tea", datetime.date(2026, 1, 2))
    assert found["json"] == {"copy": 1}
    assert job.differing(found, (), found) == []
    assert job.differing(found, tuple(found.values()), {}) == []
    assert job.differing(found, (), given) == []
    assert job.differing(found, (), {**found, "json": {}}) == ["json"]
    assert job.differing(found, (1, 2, 3, 4), {}) == list(found)


@pytest.mark.parametrize(
    ("signature", "given", "reason"),
    [
        ("(n: int)", {"n": "x"}, "'n': input should be a valid integer, unable to parse string "
            "as an integer, not \"x\""),
        ("(n: int)", {}, "'n' is missing"),
        ("(n: int)", {"n": 1, "m": 2}, "there is no parameter 'm': it takes 'n'"),
        ("()", {"m": 2}, "there is no parameter 'm': it takes nothing"),
        ("(n: list[int])", {"n": [1, None]}, "'n.1': input should be a valid integer, not null"),
        ("(n: int)", [1], "is an object with its parameters as keys ('n'), not [1]"),
        ("(n: int)", {"n": {1, 2}}, "the input of 'job' is not JSON: Object of type set"),
        ("(n: float)", {"n": float("nan")}, "the input of 'job' is not JSON"),
        ("(n: str)", {"n": ["x" * 99]}, '["xxx'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(
    project: Project, signature: str, given: Any, reason: str
) -> None:
    job = one(project, signature)
    with pytest.raises(InvalidInputError) as raised:
        job.validate(given)
    assert reason in raised.value.message
    assert "\n" not in raised.value.message
    assert len(raised.value.message) < 250


def test_many_problems_are_counted(project: Project) -> None:
    job = one(project, "(a: int, b: int, c: int, d: int, e: int)")
    with pytest.raises(InvalidInputError, match=r"'c' is missing; and 2 more$"):
        job.validate({})


def test_other_keywords_are_let_through_where_the_function_takes_them(project: Project) -> None:
    job = one(project, "(n: int, *others, **rest)")
    assert job.validate({"n": 1, "m": [2]}) == {"n": 1, "m": [2]}


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ("(n, /)", "parameter 'n' of the entrypoint 'job' in workflows/jobs.py is positional-only"),
        ("(n: 'Nothing')", "an annotation of the entrypoint 'job' in workflows/jobs.py cannot be"),
        (
            "(n: list[Thing])",
            r"a parameter of the entrypoint 'job' in workflows/jobs.py cannot be given as JSON: "
            r"n\[...\] is of the class workflows.jobs.Thing, .*: make it a dataclass",
        ),
        ("(n: bytearray)", "schema for <class 'bytearray'>: annotate it with what pydantic makes"),
    ],
)
def test_a_signature_that_no_input_fits_is_an_error(
    project: Project, signature: str, reason: str
) -> None:
    with pytest.raises(EntrypointError, match=reason):
        one(project, signature, head="class Thing: ...\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\nimport nowhere\n", ", line 2 cannot be imported: ModuleNotFoundError: No module named"),
        ("def broken(:\n", " cannot be imported: SyntaxError: "),
        ("raise SystemExit('stop')\n", ", line 1 cannot be imported: SystemExit: stop"),
        ("raise ValueError('a\\nb')\n", ", line 1 cannot be imported: ValueError: a b"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    project: Project, text: str, reason: str
) -> None:
    with pytest.raises(EntrypointError) as raised:
        project(bad=text)
    assert raised.value.message.startswith(f"workflows/bad.py{reason}")
    assert "\n" not in raised.value.message


def test_two_entrypoints_of_one_name_are_named(project: Project) -> None:
    text = HEAD + "@DBOS.workflow(name='{}')\nasync def same(): ...\n"
    with pytest.raises(EntrypointError) as raised:
        project(a=text.format("one"), b=text.format("two"))
    assert raised.value.message == (
        "two entrypoints are named 'same', one in workflows/a.py and one in workflows/b.py: "
        "rename one"
    )


def test_two_workflows_of_one_name_are_named(project: Project) -> None:
    text = HEAD + "@DBOS.workflow()\nasync def same(): ...\n"
    with pytest.raises(EntrypointError) as raised:
        project(a=text, b=text)
    assert "workflows/b.py, line 2 cannot be imported: DBOSException: " in raised.value.message
    assert "workflows/a.py" in raised.value.message


def test_a_folder_without_workflows_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EntrypointError, match="there is no folder 'workflows' in "):
        find()


def test_an_unknown_entrypoint_is_told_with_those_that_are_there(project: Project) -> None:
    one(project, "()")
    with pytest.raises(UnknownEntrypointError, match="no entrypoint 'nope': there are 'job'"):
        lookup("nope")
    with pytest.raises(UnknownEntrypointError, match="'find' is not a workflow"):
        lookup(find)


def test_a_function_that_lacks_its_decorator_is_told(project: Project) -> None:
    text = HEAD + "async def plain(): ...\n@DBOS.workflow()\nasync def job(): ...\n"
    project(a=text)
    with pytest.raises(UnknownEntrypointError) as raised:
        lookup("plain")
    assert raised.value.message == (
        "there is no entrypoint 'plain': there are 'job'; the function 'plain' of workflows.a "
        "lacks @DBOS.workflow()"
    )
    for name in ("DBOS", "nope", "_hidden"):
        with pytest.raises(UnknownEntrypointError, match=r"there are 'job'$"):
            lookup(name)


@pytest.mark.parametrize("decorator", ["workflow", "step"])
def test_a_decorator_without_parentheses_is_told(project: Project, decorator: str) -> None:
    with pytest.raises(EntrypointError) as raised:
        project(a=HEAD + f"@DBOS.{decorator}\nasync def job(): ...\n")
    assert raised.value.message.startswith("workflows/a.py, line 2 cannot be imported: TypeError")
    assert raised.value.message.endswith(f": write @DBOS.{decorator}(), with its parentheses")


def test_another_package_of_that_name_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    (other / "workflows").mkdir(parents=True)
    (other / "workflows" / "__init__.py").touch()
    monkeypatch.syspath_prepend(other)
    (tmp_path / "workflows").mkdir()
    sys.path.append(str(tmp_path))
    with pytest.raises(EntrypointError, match=r"add an empty workflows/__init__\.py"):
        find()
