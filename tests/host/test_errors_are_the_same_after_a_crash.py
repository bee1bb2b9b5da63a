"""What code catches of a tool, a guardrail and a model is the same in a host that recovers it."""

from __future__ import annotations

import json
import secrets
import signal
from pathlib import Path

from tests.support.conditions import until
from tests.support.host_process import Host, lines, own_host

__all__ = ["own_host"]

FAILING = '''\
import asyncio, json, secrets
from decimal import Decimal
from pathlib import Path
from typing import Any

import pydantic
from agents import Agent, GuardrailFunctionOutput, InputGuardrail, Model, function_tool
from agents.testing import ScriptedModel, function_call
from dbos import DBOS

import timestep
from timestep.errors import RecordedError

class Shop(Exception):
    pass

class NeedsName(Shop):
    def __init__(self, *, name: Any) -> None:
        super().__init__("a name is needed")
        self.name = name

class SaysTotal(Shop):
    def __init__(self, total: Any) -> None:
        self.total = total
    def __str__(self) -> str:
        return f"total {self.total}"

class Slotted(Shop):
    __slots__ = ("code",)

class Order(pydantic.BaseModel):
    lines: list[int]

def slotted() -> Exception:
    error = Slotted("slots")
    error.code = Decimal("1.5")
    error.add_note("a note")
    return error

def local() -> Exception:
    class Local(NeedsName):
        pass
    return Local(name=1)

def caused() -> Exception:
    error = SaysTotal(object)
    error.__cause__ = ExceptionGroup("both", [KeyError("k"), NeedsName(name=object())])
    return error

def raised(work: Any) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError

MADE = {
    "keyword": lambda: NeedsName(name=(1, {"a"})),
    "total": lambda: SaysTotal(Decimal("2.50")),
    "object": lambda: SaysTotal(object),
    "slots": slotted,
    "local": local,
    "group": lambda: ExceptionGroup("some", [SaysTotal(1), OSError(2, "no file", "a.txt")]),
    "caused": caused,
    "validation": lambda: raised(lambda: Order(lines=["x"])),
    "decoding": lambda: raised(lambda: b"\\xff".decode()),
    "syntax": lambda: raised(lambda: compile("a b", "f", "exec")),
}

def told(error: BaseException | None) -> Any:
    if error is None:
        return None
    return [
        str(error),
        [kind.__name__ for kind in (Shop, NeedsName, SaysTotal, ValueError, OSError, RecordedError)
         if isinstance(error, kind)],
        sorted(name for name in ("name", "total", "code", "lineno", "reason", "filename")
               if getattr(error, name, None) is not None),
        getattr(error, "__notes__", []),
        [told(member) for member in getattr(error, "exceptions", [])],
        told(error.__cause__),
    ]

@function_tool(failure_error_function=None)
async def fail(kind: str) -> str:
    raise MADE[kind]()

class FailingModel(ScriptedModel):
    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        raise MADE[self.kind]()

def agents(kind: str, call_id: str) -> list[Agent]:
    def check(*_: Any) -> Any:
        raise MADE[kind]()
    model = FailingModel([])
    model.kind = kind
    calls = ScriptedModel([[function_call("fail", {"kind": kind}, call_id=call_id)]])
    guardrail = InputGuardrail(check, run_in_parallel=False)
    return [
        Agent("tool", model=calls, tools=[fail]),
        Agent("guardrail", model=model, input_guardrails=[guardrail]),
        Agent("model", model=model),
    ]

@DBOS.step()
async def hold(folder: str) -> None:
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)

@DBOS.step()
async def fails(kind: str) -> None:
    raise MADE[kind]()

@DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0.001)
def fails_twice(kind: str) -> None:
    raise MADE[kind]()

@DBOS.workflow()
async def failing_child(kind: str) -> None:
    raise MADE[kind]()

async def in_code(kind: str) -> None:
    await DBOS.run_step_async(None, lambda: fails_twice.__wrapped__(kind))

async def handled(kind: str) -> None:
    await (await DBOS.start_workflow_async(failing_child, kind)).get_result()

CALLED = {
    "step": fails,
    "retried": lambda kind: asyncio.to_thread(fails_twice, kind),
    "run_step": in_code,
    "child": failing_child,
    "handle": handled,
}

@DBOS.workflow()
async def errors(folder: str, call_id: str) -> str:
    """Fail in each way, and hold."""
    seen = {}
    for kind in MADE:
        for agent in agents(kind, call_id):
            try:
                await timestep.DurableRunner.run(agent, "hi")
            except Exception as error:
                seen[f"{kind} {agent.name}"] = told(error)
        for name, call in CALLED.items():
            try:
                await call(kind)
            except Exception as error:
                seen[f"{kind} {name}"] = told(error)
    with Path(folder, "seen").open("a") as file:
        file.write(json.dumps(seen) + "\\n")
    await hold(folder)
    return "held"
'''

KINDS = 10


def test_errors_are_the_same_after_a_crash(own_host: Host, tmp_path: Path) -> None:
    (own_host.folder / "workflows" / "failing.py").write_text(FAILING)
    own_host.start()
    # As long as Gemini's, whose thought signature is in it.
    call_id = f"call_{secrets.token_hex(3000)}"
    id_ = own_host.begin("errors", folder=str(tmp_path), call_id=call_id)
    until(lambda: len(lines(tmp_path, "seen")) == 1)
    own_host.signal(signal.SIGKILL)
    own_host.ended()
    own_host.start()
    until(lambda: len(lines(tmp_path, "seen")) == 2)
    (tmp_path / "go").touch()
    assert own_host.output(id_) == "held"
    first, second = map(json.loads, lines(tmp_path, "seen"))
    assert len(first) == 8 * KINDS
    for name, seen in first.items():
        assert second[name] == seen, name
    for kind in ("object", "local"):
        text, classes, *_ = first[f"{kind} guardrail"]
        assert {"Shop", "RecordedError"} <= set(classes), text
    assert first["group model"][4][0][:2] == ["total 1", ["Shop", "SaysTotal"]]
    assert first["caused tool"][5][1] == ["Shop", "SaysTotal", "RecordedError"]
