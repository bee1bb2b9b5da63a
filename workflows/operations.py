"""An operator: looks after services, and asks a person before it does what is dangerous."""

from agents import Agent, function_tool
from dbos import DBOS

import timestep
from timestep.offline import Call, Conversation, call, fallback

HEALTH = {"api": "healthy", "billing": "3 of 4 instances fail", "search": "disk 91 % full"}


@function_tool
def check_health(service: str) -> str:
    """How a service is."""
    return HEALTH.get(service, "no such service")


@timestep.tool_options(describe="Restart {service}; its users wait meanwhile.")
@function_tool(needs_approval=True)
def restart_service(service: str) -> str:
    """Restart a service; its users wait meanwhile."""
    return f"{service} is restarted"


# A second deletion would take the backups made since: after a crash a person decides.
@timestep.tool_options(safe_to_repeat=False, describe="Delete the backups of {service} for good.")
@function_tool(needs_approval=True)
def delete_backups(service: str) -> str:
    """Delete the backups of a service for good."""
    return f"the backups of {service} are deleted"


def service_in(seen: Conversation) -> str:
    return next((name for name in HEALTH if name in seen.text.lower()), "unknown")


def look(seen: Conversation) -> list[Call]:
    return [call("check_health", service=service_in(seen))]


def act(seen: Conversation) -> list[Call]:
    tools = {"restart": "restart_service", "backup": "delete_backups"}
    wanted = [tool for word, tool in tools.items() if word in seen.text.lower()]
    return [call(tool, service=service_in(seen)) for tool in wanted]


def report(seen: Conversation) -> str:
    done = "; ".join(output for outputs in seen.outputs.values() for output in outputs)
    return f"{service_in(seen)}: {done}."


operator = Agent(
    name="Operator",
    instructions="You look after services. Check a service's health before you act on it.",
    tools=[check_health, restart_service, delete_backups],
    model=fallback(look, act, report),
)


@DBOS.workflow()
async def operations(task: str) -> str:
    """Do an operator's task; restarts and deletions wait until a person approves."""
    result = await timestep.run_agent(operator, task)
    return str(result.final_output)
