"""Finds what workflows are annotated with that a host could not record, before it serves them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dbos import WorkflowSerializationFormat

from timestep.dbos_internals.process import registered, serialization_of
from timestep.dbos_internals.serializer import behind, declare_registered, hints_of
from timestep.errors import EntrypointError
from timestep.operations.entrypoints import Entrypoint
from timestep.operations.unrecordable_annotations import problems

_NOT_OURS = ("dbos", "timestep")


def check(found: Iterable[Entrypoint]) -> None:
    """See that a host can record what its workflows are given, and what they and steps give.

    What steps are given is not recorded. Where an annotation does not say what values are, it
    is seen when there is one.

    Raises:
        EntrypointError: A sentence for each part of a parameter or a result that could not be.
    """
    declare_registered()
    native = [
        f"the workflow {name!r} is decorated with serialization_type=NATIVE, which is pickle, and "
        "hosts write none: leave it out"
        for name, function in registered().items()
        if serialization_of(function) is WorkflowSerializationFormat.NATIVE
    ]
    of_json = {id(one.function): one for one in found}
    named = [
        problem
        for function in registered().values()
        for problem in _problems(function, of_json.get(id(function)))
    ]
    if native or named:
        raise EntrypointError("; ".join((*native, *named)))


def _problems(function: Callable[..., Any], entrypoint: Entrypoint | None) -> Iterator[str]:
    """What of a workflow or a step no record can hold."""
    body, is_step = behind(function)
    if body.__module__.partition(".")[0] in _NOT_OURS:
        return
    what = f"the {'step' if is_step else 'workflow'} {body.__qualname__!r} of {body.__module__}"
    if entrypoint is not None:
        what = f"the entrypoint {entrypoint.name!r} in {entrypoint.file}"
    is_portable = serialization_of(function) is WorkflowSerializationFormat.PORTABLE
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(body).parameters
    for name, hint in hints_of(function).items():
        if name == "return":
            for problem in problems(hint, "result", of_json=False, is_portable=is_portable):
                yield f"{what} cannot be served: its {problem}"
        elif not is_step and name in parameters:
            path = f"{name}[...]" if parameters[name].kind in several else name
            of_json = entrypoint is not None
            for problem in problems(hint, path, of_json=of_json, is_portable=is_portable):
                yield f"{what} cannot be served: its parameter {problem}"
