"""Finds the workflows that the package `workflows` defines, and checks what they are given."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired, Required

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from timestep.dbos_internals.process import registered
from timestep.errors import EntrypointError, InvalidInputError, UnknownEntrypointError
from timestep.operations.arguments import check_document, is_utf8
from timestep.operations.unrecordable_annotations import problems
from timestep.runtime.terminal import quoted
from timestep.serialization.exceptions import told_by
from timestep.serialization.json_output import pointer
from timestep.serialization.registered_types import declare

PACKAGE = "workflows"
_BARE = re.compile(r"DBOS\.(\w+)\(\) takes \d+ positional arguments? but 2 were given")
"""What DBOS's decorators say that are given the function itself."""
_SHOWN = 3
"""Problems of an input that an error's text tells."""
_FIELDS = 20
"""Those that it tells by their fields."""

_Parameter = inspect.Parameter
_typed_dict: Any = TypedDict
"""For shapes made at run time, which a type checker cannot follow."""


@dataclass(frozen=True)
class Entrypoint:
    """A workflow that can be started by name."""

    name: str
    """The function's name."""
    workflow_name: str
    """DBOS's name for it."""
    description: str
    """The first line of its docstring."""
    input_schema: dict[str, Any]
    """JSON Schema of its input: an object with the function's parameters as keys."""
    function: Callable[..., Any]
    """The decorated function."""
    file: str
    _adapter: TypeAdapter[dict[str, Any]]

    def validate(self, given: object) -> dict[str, Any]:
        """The arguments that an input stands for, as their annotations say.

        Args:
            given: An object of JSON's types with parameter names as keys.

        Raises:
            InvalidInputError: It does not fit; one line that names each parameter and its value,
                and `fields`.
        """
        if not isinstance(given, dict):
            raise InvalidInputError(
                f"the input of {self.name!r} is an object with its parameters as keys "
                f"({self._takes()}), not {_short(given)}"
            )
        check_document(f"the input of {self.name!r}", given)
        try:
            text = json.dumps(given, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"the input of {self.name!r} is not JSON: {error}") from error
        try:
            if is_utf8(text):
                return self._adapter.validate_json(text)
            # Half of a surrogate pair: pydantic reads no JSON with it.
            return self._adapter.validate_python(given)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            shown = problems[:_FIELDS]
            lines = [self._problem(problem) for problem in shown]
            places = [pointer(problem["loc"]) for problem in shown]
            more = len(problems) - _SHOWN
            raise InvalidInputError(
                f"the input does not fit {self.name!r}: {'; '.join(lines[:_SHOWN])}"
                + (f"; and {more} more" if more > 0 else ""),
                fields=[
                    {"pointer": place, "detail": line}
                    for place, line in zip(places, lines, strict=True)
                ],
            ) from error

    def differing(
        self, arguments: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[str]:
        """The parameters of which a workflow was given other arguments, as `args` and `kwargs`."""
        signature = inspect.signature(self.function)
        try:
            recorded = signature.bind(*args, **kwargs)
        except TypeError:
            return list(signature.parameters)
        given = signature.bind(**arguments)
        recorded.apply_defaults()
        given.apply_defaults()
        was, now = _plain(recorded.arguments), _plain(given.arguments)
        return [name for name in signature.parameters if was.get(name) != now.get(name)]

    def _problem(self, problem: Any) -> str:
        name = ".".join(str(part) for part in problem["loc"]) or "input"
        if problem["type"] == "missing":
            return f"{name!r} is missing"
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            return f"there is no parameter {name!r}: it takes {self._takes()}"
        reason = problem["msg"].removeprefix("Value error, ")
        return f"{name!r}: {reason[0].lower()}{reason[1:]}, not {_short(problem['input'])}"

    def _takes(self) -> str:
        names = [repr(name) for name in self.input_schema.get("properties", {})]
        return ", ".join(names) if names else "nothing"


def find(directory: Path | None = None) -> dict[str, Entrypoint]:
    """The entrypoints by name: every module of the package `workflows` is imported.

    An entrypoint is a function that is decorated with `@DBOS.workflow()` in one of those
    modules and whose name does not begin with an underscore.

    Args:
        directory: Where the package is; None: the current directory, as it is now.

    Raises:
        EntrypointError: There is no such package, a module cannot be imported, two entrypoints
            have one name, or a parameter cannot be given as JSON.
    """
    directory = (directory or Path.cwd()).resolve()
    found: dict[str, Entrypoint] = {}
    for module in _modules(directory):
        workflows = {id(function): name for name, function in registered().items()}
        # Reading an annotation may make a class of a generic model, in this very module.
        for function in list(vars(module).values()):
            if id(function) not in workflows or function.__module__ != module.__name__:
                continue
            name = function.__name__
            if name.startswith("_") or (name in found and found[name].function is function):
                continue
            file = _shown(Path(inspect.getfile(inspect.unwrap(function))), directory)
            if name in found:
                raise EntrypointError(
                    f"two entrypoints are named {name!r}, one in {found[name].file} and one in "
                    f"{file}: rename one"
                )
            found[name] = _entrypoint(name, workflows[id(function)], function, file)
    return found


def lookup(entrypoint: str | Callable[..., Any] | Entrypoint) -> Entrypoint:
    """An entrypoint by its name, or of any function decorated with `@DBOS.workflow()`.

    Raises:
        UnknownEntrypointError: There is no such entrypoint.
        EntrypointError: As `find` raises it.
    """
    if isinstance(entrypoint, Entrypoint):
        return entrypoint
    if isinstance(entrypoint, str):
        return named(find(), entrypoint)
    for workflow_name, function in registered().items():
        if function is entrypoint:
            file = inspect.getfile(inspect.unwrap(function))
            return _entrypoint(function.__name__, workflow_name, function, file)
    raise UnknownEntrypointError(
        f"{getattr(entrypoint, '__name__', entrypoint)!r} is not a workflow: decorate it with "
        "@DBOS.workflow()"
    )


def named(found: dict[str, Entrypoint], name: str) -> Entrypoint:
    """The entrypoint with this name.

    Raises:
        UnknownEntrypointError: There is none.
    """
    if name in found:
        return found[name]
    known = ", ".join(repr(other) for other in sorted(found)) or "none"
    raise UnknownEntrypointError(
        f"there is no entrypoint {quoted(name)}: there are {known}{_undecorated(name)}"
    )


def _undecorated(name: str) -> str:
    """What to do where a function of the package has the name, and is no workflow."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.partition(".")[0] == PACKAGE and not name.startswith("_"):
            it = vars(module).get(name)
            if inspect.isfunction(it) and it.__module__ == module_name:
                return f"; the function {quoted(name)} of {module_name} lacks @DBOS.workflow()"
    return ""


# Modules


def _modules(directory: Path) -> Iterator[ModuleType]:
    folder = directory / PACKAGE
    if not folder.is_dir():
        raise EntrypointError(
            f"there is no folder {PACKAGE!r} in {directory}: put your entrypoints there, one "
            f"file each, or go to the folder that has it"
        )
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    package = _imported(PACKAGE, folder / "__init__.py", directory)
    places = [Path(place).resolve() for place in package.__path__]
    if folder not in places:
        raise EntrypointError(
            f"the package {PACKAGE!r} is imported from {places[0]}, not from {folder}: add an "
            f"empty {_shown(folder / '__init__.py', directory)}"
        )
    yield package
    yield from _submodules(package, folder, directory)


def _submodules(package: ModuleType, folder: Path, directory: Path) -> Iterator[ModuleType]:
    for info in sorted(pkgutil.iter_modules([str(folder)]), key=lambda info: info.name):
        file = folder / info.name / "__init__.py" if info.ispkg else folder / f"{info.name}.py"
        module = _imported(f"{package.__name__}.{info.name}", file, directory)
        yield module
        if info.ispkg:
            yield from _submodules(module, folder / info.name, directory)


def _imported(name: str, file: Path, directory: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        lines = [
            f", line {frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if os.path.realpath(frame.filename) == str(file)
        ]
        reason = " ".join(told_by(error).split())
        if bare := _BARE.match(reason):
            reason += f": write @DBOS.{bare[1]}(), with its parentheses"
        raise EntrypointError(
            f"{_shown(file, directory)}{lines[-1] if lines else ''} cannot be imported: "
            f"{type(error).__name__}" + (f": {reason}" if reason else "")
        ) from error


def _shown(file: Path, directory: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(directory) if file.is_relative_to(directory) else file)


# Signatures


def _entrypoint(
    name: str, workflow_name: str, function: Callable[..., Any], file: str
) -> Entrypoint:
    adapter, schema = _adapter(name, function, file)
    doc = inspect.getdoc(function) or ""
    return Entrypoint(
        name=name,
        workflow_name=workflow_name,
        description=doc.strip().partition("\n")[0],
        input_schema=schema,
        function=function,
        file=file,
        _adapter=adapter,
    )


def _adapter(
    name: str, function: Callable[..., Any], file: str
) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    """What checks an input. A parameter that is left out keeps the function's own default."""
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, AttributeError, TypeError) as error:
        raise EntrypointError(
            f"an annotation of the entrypoint {name!r} in {file} cannot be read: {error}"
        ) from error
    for hint in hints.values():
        declare(hint)
    fields: dict[str, Any] = {}
    extra: typing.Literal["allow", "forbid"] = "forbid"
    for parameter in signature.parameters.values():
        if parameter.kind is _Parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is _Parameter.POSITIONAL_ONLY:
            raise EntrypointError(
                f"parameter {parameter.name!r} of the entrypoint {name!r} in {file} is "
                "positional-only, and an input names its parameters: remove the '/'"
            )
        elif parameter.kind is not _Parameter.VAR_POSITIONAL:
            hint = hints.get(parameter.name, Any)
            is_required = parameter.default is _Parameter.empty
            fields[parameter.name] = Required[hint] if is_required else NotRequired[hint]
    # Not a model: its own attributes (copy, json, schema) would be in a parameter's way.
    shape: Any = _typed_dict(name, fields)
    shape.__pydantic_config__ = ConfigDict(extra=extra)
    try:
        adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(shape)
        schema = adapter.json_schema()
    except PydanticUserError as error:
        named = [(one, hints[one]) for one in signature.parameters if one in hints]
        found = [problem for one, hint in named for problem in problems(hint, one, of_json=True)]
        reason = " ".join(error.message.split())
        if isinstance(error, PydanticSchemaGenerationError):
            # What follows is for who writes the class.
            reason = reason.partition(". ")[0] + ": annotate it with what pydantic makes of JSON"
        reasons = found or [reason]
        raise EntrypointError(
            f"a parameter of the entrypoint {name!r} in {file} cannot be given as JSON: "
            f"{', and '.join(reasons)}"
        ) from error
    for parameter in signature.parameters.values():
        shown = schema.get("properties", {}).get(parameter.name)
        if shown is not None and parameter.default is not _Parameter.empty:
            try:
                shown["default"] = to_jsonable_python(parameter.default)
            except PydanticSerializationError:
                continue
    return adapter, schema


def _plain(arguments: dict[str, Any]) -> Any:
    return to_jsonable_python(arguments, fallback=repr)


def _short(value: object) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
