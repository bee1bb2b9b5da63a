"""`install()` puts everything in place, `uninstall()` takes it away, and importing does neither."""

from __future__ import annotations

import copyreg
import hashlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import agents.run
import pytest
from agents.exceptions import AgentsException
from dbos import _dbos

import timestep
from timestep.dbos_internals import executions, process
from timestep.runner import install as installing
from timestep.runner.installation import Installation
from timestep.runtime import process_state
from timestep.sdk import patches
from timestep.sdk.default_runner import DispatchingRunner

SOURCES = {
    "timestep.tool_call": "a47df65a4070cc4a87e8dfdb103e3d3842aececbdba7f1322cc79a92d863a078",
    "timestep.escalate": "328e66501b86113db7e7704f5219a8a3bd5cad5156632e25c43da1195e41dfa0",
}
"""SHA-256 of what DBOS makes an application's version of."""


@pytest.fixture(autouse=True)
def replaced_registry() -> Iterator[None]:
    """What these tests register is forgotten, as far as DBOS can."""
    registry = _dbos._get_or_create_dbos_registry()
    known, pollers = dict(registry.workflow_info_map), list(registry.pollers)
    yield
    registry.workflow_info_map.clear()
    registry.workflow_info_map.update(known)
    registry.pollers[:] = pollers


def sites() -> list[Any]:
    """What the SDK holds at every call site, and as its default runner."""
    found = [vars(owner).get(name) for owner, name, _ in patches._SITES]
    return [*found, agents.run.get_default_agent_runner()]


def is_patched() -> list[bool]:
    return ["timestep_site" in getattr(site, "__dict__", {}) for site in sites()[:-1]]


_IMPORT = """
import atexit, copyreg, importlib, logging, os, pkgutil, sys, threading
import agents, agents.mcp, agents.realtime, openai, dbos
from agents import run_internal
for package in (agents, run_internal):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name not in ("agents.repl",):
            try:
                importlib.import_module(module.name)
            except ImportError:
                pass
from dbos import _dbos

def seen():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("agents", "dbos"):
            for key, value in list(vars(module).items()):
                found[name, key] = value
                if isinstance(value, type) and value.__module__.startswith(("agents", "dbos")):
                    found.update({(name, key, at): each for at, each in list(vars(value).items())})
    return found

registered = []

def recording(register):
    def recorded(*args, **kwargs):
        registered.append(sys._getframe(1).f_globals["__name__"])
        return register(*args, **kwargs)
    return recorded

atexit.register, os.register_at_fork = map(recording, (atexit.register, os.register_at_fork))
before, pickled = seen(), dict(copyreg.dispatch_table)
import timestep
for module in pkgutil.walk_packages(timestep.__path__, "timestep."):
    if module.name not in ("timestep.__main__", *sys.argv[1:]):
        importlib.import_module(module.name)
after = seen()
changed = [key for key, value in before.items() if after.get(key) is not value]
assert not changed, changed
assert copyreg.dispatch_table == pickled
assert _dbos._dbos_global_registry is None, _dbos._dbos_global_registry.workflow_info_map
assert threading.enumerate() == [threading.main_thread()]
from timestep.runtime import process_state
assert not process_state._current.held, process_state._current.held
assert not logging.getLogger("openai.agents").filters
# Other libraries may.
assert not [name for name in registered if name.startswith("timestep")], registered
"""


def test_importing_every_module_registers_starts_and_patches_nothing() -> None:
    ours = (
        "timestep.runner.dbos_workflows.tool_call",
        "timestep.runner.dbos_workflows.notification",
    )
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, *ours], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_sources_that_dbos_makes_a_version_of_are_those_of_before() -> None:
    """DBOS recovers what its own version began, and a version is a hash of these texts, too.

    Changed by one letter (an indentation, a comment, the decorator), no workflow that an
    application of before has recorded would be recovered: change the functions that they call.
    """
    timestep.install()
    found = process.registered()
    assert {
        name: hashlib.sha256(inspect.getsource(found[name]).encode()).hexdigest()
        for name in SOURCES
    } == SOURCES
    assert {found[name].__qualname__ for name in SOURCES} == {"_workflow"}


def test_installed_taken_away_and_installed_again() -> None:
    before = sites()
    assert not any(is_patched())
    for _ in range(2):
        timestep.install()
        timestep.install()
        assert all(is_patched())
        assert isinstance(agents.run.get_default_agent_runner(), DispatchingRunner)
        assert AgentsException in copyreg.dispatch_table
        assert SOURCES.keys() <= process.registered().keys()
        timestep.uninstall()
        timestep.uninstall()
        for now, was in zip(sites(), before, strict=True):
            assert now is was
    # A workflow that has not ended may still raise one.
    assert AgentsException in copyreg.dispatch_table
    # DBOS cannot forget them.
    assert SOURCES.keys() <= process.registered().keys()


def test_a_runner_of_the_applications_own_is_put_back() -> None:
    class Own(agents.run.AgentRunner):
        """An application's own default runner."""

    own = Own()
    agents.run.set_default_agent_runner(own)
    try:
        timestep.install()
        assert agents.run.get_default_agent_runner() is not own
        timestep.uninstall()
        assert agents.run.get_default_agent_runner() is own
        timestep.install()
        later = Own()
        agents.run.set_default_agent_runner(later)
        timestep.uninstall()
        assert agents.run.get_default_agent_runner() is later
    finally:
        agents.run.set_default_agent_runner(None)


def test_what_another_library_put_around_a_call_site_stays() -> None:
    import functools

    from agents.run_internal import run_loop

    before = run_loop.get_model
    timestep.install()
    site = run_loop.get_model

    @functools.wraps(site)
    def around(*args: Any, **kwargs: Any) -> Any:
        return site(*args, **kwargs)

    run_loop.get_model = around
    try:
        timestep.uninstall()
        assert run_loop.get_model is around
        assert sum(is_patched()) == 1
        timestep.install()
        assert run_loop.get_model is around
    finally:
        timestep.uninstall()
        run_loop.get_model = before


def test_a_run_that_goes_on_keeps_what_it_needs() -> None:
    class Run:
        """Stands for a run: only that it is there counts."""

        recorder = None

    run: Any = Run()
    timestep.install()
    installation = process_state.of(Installation)
    installation.enter(run)
    timestep.uninstall()
    assert all(is_patched())
    assert not installing._is_durable_here()
    installation.leave(run)
    timestep.uninstall()
    assert not any(is_patched())


def test_a_registry_that_was_destroyed_is_filled_again() -> None:
    timestep.install()
    registry = _dbos._get_or_create_dbos_registry()
    (looking,) = [p for p in registry.pollers if p[1] is executions._take_recovered]
    registry.workflow_info_map.clear()
    timestep.install()
    assert registry.workflow_info_map.keys() == SOURCES.keys()
    assert [p for p in registry.pollers if p[1] is executions._take_recovered] == [looking]


def test_a_test_leaves_nothing_installed() -> None:
    with process_state.renewed():
        timestep.install()
    assert not any(is_patched())
    assert not isinstance(agents.run.get_default_agent_runner(), DispatchingRunner)
