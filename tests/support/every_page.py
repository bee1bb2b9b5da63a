"""The pages that there are, for tests that look at each of them: add a new one here."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.host_process import Host
from timestep.web.pages.rendering import SECTIONS

PAGES: dict[str, str] = {
    # What every page leads to.
    **{name.lower(): path for path, name in SECTIONS},
    # Of one thing. `{waits}`, `{said}` and `{failed}` are ids of workflows.
    "run": "/runs/{waits}",
    "run-completed": "/runs/{said}",
    "run-failed": "/runs/{failed}",
    "run-fork": "/runs/{said}/fork",
    "run-compare": "/runs/{said}/compare?with={waits}",
    "start-one": "/start/support",
    "session": "/sessions/customer-7",
    "agent": "/agents?name=Triage",
    # What is asked, and answered, on the way.
    "runs-filtered": "/?agent=Triage&since=7d&status=completed",
    "runs-wrong": "/?since=yesterday",
    "runs-none": "/?agent=nobody",
    "cancel": "/cancel?run={waits}&run={said}",
    "cancel-matching": "/cancel?all=agent%3DTriage",
    "fork": "/fork?run={said}&run={failed}",
    "usage-agents": "/usage?by=agent",
    "nothing": "/nothing",
    "login": "/login",
}
"""Paths by the name of the page, which its screenshots have."""

DESK_JOBS = '''
"""Agents that hand over to each other."""

from agents import Agent, function_tool
from dbos import DBOS

import timestep
from timestep import DatabaseSession, offline


@function_tool
def look_up_order(number: str) -> str:
    """Find an order."""
    return f"order {number}: 2 lamps, sent on Monday"


@timestep.tool_options(describe="Refund {amount} EUR for order {order}")
@function_tool(needs_approval=True)
def refund(order: str, amount: float) -> str:
    """Give money back."""
    return f"refunded {amount}"


researcher = Agent("Researcher", model=offline.OfflineModel(lambda seen: "It was sent on Monday."))
billing = Agent(
    "Billing",
    tools=[refund, look_up_order],
    model=offline.OfflineModel(
        lambda seen: [offline.call("look_up_order", number="42")],
        lambda seen: [offline.call("refund", order="42", amount=19.9)],
        lambda seen: seen.output("refund"),
    ),
)
technician = Agent(
    "Technician",
    tools=[researcher.as_tool("ask_researcher", "Ask the researcher.")],
    model=offline.OfflineModel(
        lambda seen: [offline.call("ask_researcher", input="When was it sent?")],
        lambda seen: seen.output("ask_researcher"),
    ),
)
triage = Agent(
    "Triage",
    instructions="Send people to who can help.",
    handoffs=[billing, technician],
    model=offline.OfflineModel(
        lambda seen: [
            offline.call(f"transfer_to_{'billing' if 'money' in seen.text else 'technician'}")
        ]
    ),
)
billing.handoffs = [triage]


@DBOS.workflow()
async def support(question: str, session: str) -> str:
    """Help a customer."""
    result = await timestep.run_agent(triage, question, session=DatabaseSession(session))
    return str(result.final_output)


def busy(seen):
    raise ConnectionError("the provider is busy")


@DBOS.workflow()
async def break_down() -> str:
    """Fail in an answer."""
    result = await timestep.run_agent(Agent("Breaker", model=offline.OfflineModel(busy)), "go on")
    return str(result.final_output)
'''
"""A module of entrypoints, beside those of the hosts of all tests."""


@dataclass(frozen=True)
class Shown:
    """The workflows that the pages show."""

    waits: str
    said: str
    failed: str

    def paths(self) -> dict[str, str]:
        """The paths of all pages, by name."""
        return {name: path.format_map(vars(self)) for name, path in PAGES.items()}


def show(host: Host) -> Shown:
    """Have a host do something of everything; its folder has `DESK_JOBS`."""
    waits = host.begin("support", question="I want my money back.", session="customer-7")
    said = host.begin("support", question="When was it sent?", session="customer-7")
    failed = host.begin("break_down")
    host.run_when(waits, "interrupted")
    host.run_when(said, "completed")
    host.run_when(failed, "failed")
    return Shown(waits, said, failed)
