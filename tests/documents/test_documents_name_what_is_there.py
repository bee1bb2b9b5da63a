"""What the documents for engineers name is there: files, functions and tests."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "timestep"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# A path in capitals stands for one that its reader makes.
_PATH = re.compile(
    r"(?<![\w/.-])((?:[a-z_.][a-z0-9_.-]*/)*[a-z_][a-z0-9_.-]*"
    r"\.(?:py|sql|mjs|js|json|toml|yaml|lock|md))(?::([A-Za-z_][\w.]*))?(?![\w/-])"
)
_FOLDER = re.compile(r"`((?:[a-z_.][a-z0-9_.-]*/)+)`")
_TEST = re.compile(r"`(test_\w+)`")
_LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")


def found(path: str) -> Path | None:
    """The file, or the folder, that a document means."""
    places = (ROOT / path, PACKAGE / path)
    return next((place for place in places if place.exists()), None)


@functools.cache
def defined(file: Path) -> frozenset[str]:
    """What a Python file defines at its top level, and in the classes there as `Class.name`."""
    names: set[str] = set()

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(prefix + node.name)
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign):
                targets = [node.target]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    add(ast.parse(file.read_text()).body, "")
    return frozenset(names)


def missing(text: str) -> list[str]:
    """What a text names that is not there; where it links to is looked at by itself."""
    text = _LINK.sub("]", text)
    wrong = [name for name in _FOLDER.findall(text) if found(name) is None]
    for path, name in _PATH.findall(text):
        file = found(path)
        if file is None:
            wrong.append(path)
        elif name and file.suffix == ".py" and name not in defined(file):
            wrong.append(f"{path}:{name}")
    tests = frozenset[str]().union(*(defined(file) for file in (ROOT / "tests").rglob("*.py")))
    return [*wrong, *(name for name in _TEST.findall(text) if name not in tests)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_what_a_document_names_is_there(document: Path) -> None:
    assert missing(document.read_text()) == []


@pytest.mark.parametrize(
    "name",
    [
        "steps/performs.py",
        "`steps/performs/`",
        "steps/perform.py:performed",
        "journal/recorder.py:Recorder.commits",
        "tests/steps/test_nothing.py",
        "`test_nothing_of_the_kind`",
    ],
)
def test_what_is_not_there_is_told(name: str) -> None:
    assert missing(f"see {name}, or `steps/perform.py:perform`") == [name.strip("`")]


def anchors(page: Path) -> set[str]:
    """What links to a page may name after `#`, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCUMENTS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_every_page_is_linked_from_the_first() -> None:
    linked = {target for target, _ in _LINK.findall((ROOT / "README.md").read_text())}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - linked == set()


def test_every_package_is_in_the_drawing() -> None:
    drawing = ARCHITECTURE.read_text().split("```")[1]
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name in packages if f" {name}/" not in drawing} == set()
