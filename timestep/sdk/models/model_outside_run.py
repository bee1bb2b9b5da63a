"""Makes a DBOS step of a model that workflow code asks outside any run.

There is no run whose rows could hold the answer, so DBOS's own record of the step does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse
from dbos import DBOS

from timestep.dbos_internals import workflow_scope
from timestep.errors import NotDurableError
from timestep.sdk.models import missing_key
from timestep.serialization.sdk_objects import model_name, response_columns, response_of


def get_model(original: Any, *args: Any, **kwargs: Any) -> Model:
    model = missing_key.resolved(original, *args, **kwargs)
    return (
        LoneModel(model) if workflow_scope.in_workflow() and not workflow_scope.in_step() else model
    )


class LoneModel(Model):
    """A model whose every answer is a DBOS step."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def close(self) -> None:
        await self.inner.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self.inner._cleanup_on_run_end(owner)

    def get_retry_advice(self, request: Any) -> Any:
        return self.inner.get_retry_advice(request)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        async def ask() -> dict[str, Any]:
            return response_columns(await self.inner.get_response(*args, **kwargs))

        name = f"model: {model_name(self.inner, None)}"
        return response_of(await DBOS.run_step_async({"name": name}, ask))

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotDurableError(
            "a model streamed outside a run is not recorded: use Runner.run_streamed"
        )
