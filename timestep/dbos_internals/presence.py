"""Tells whether this process has DBOS, and how: also where DBOS is not even imported.

Commands that only read import this, and not DBOS: a process that has not imported it has none.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from timestep import config
from timestep.errors import ConfigurationError
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

CONFIG_FILE = "dbos-config.yaml"
DEFAULT_NAME = "timestep"


class Refusal(PerProcess):
    """A process refuses pickles from `pickles.refuse_pickles` to `close`."""

    def __init__(self) -> None:
        self.undo = contextlib.ExitStack()
        """Lets DBOS be as it was."""
        self.has_begun = False

    def close(self) -> None:
        self.undo.close()
        self.has_begun = False


def are_pickles_refused() -> bool:
    """Whether this process refuses pickles."""
    return process_state.of(Refusal).has_begun


def is_launched() -> bool:
    """Whether this process executes workflows, and is not about to end."""
    dbos = _instance()
    return dbos is not None and dbos._sys_db_field is not None and dbos._initialized


def is_made() -> bool:
    """Whether this process has a `DBOS` of its own, launched or not."""
    return _instance() is not None


def system_schema_or_default() -> str:
    """The schema that holds DBOS's tables, for a process that did not launch DBOS, too."""
    dbos = _instance()
    is_there = dbos is not None and dbos._sys_db_field is not None
    return str(dbos._sys_db.schema or "dbos") if is_there else "dbos"


def application_name() -> str:
    """DBOS's name for this application, and the name of the queue that its hosts listen to.

    What DBOS was launched with here; else `name` of dbos-config.yaml, or `timestep`.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    dbos = _instance()
    if dbos is not None:
        return str(dbos._config["name"])
    path = Path(CONFIG_FILE)
    if not path.exists():
        return DEFAULT_NAME
    try:
        found = _configured(path).get("name")
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path.absolute()} cannot be read: {reason}") from error
    return str(found) if found else DEFAULT_NAME


def executor_id() -> str:
    """Which executor this process is before it launches DBOS: `DBOS__VMID`, or `local`."""
    return os.environ.get("DBOS__VMID") or "local"


def own_executor() -> tuple[str, str]:
    """The executor's id and the application's version of the DBOS that this process launched."""
    dbos: Any = sys.modules["dbos"].DBOS
    return dbos.executor_id, dbos.application_version


def _configured(path: Path) -> dict[str, Any]:
    """What DBOS's `load_config` reads."""
    import yaml

    found = yaml.safe_load(config.filled_in(path.read_text()))
    if not isinstance(found, dict):
        raise TypeError(f"it is {type(found).__name__}, and not names with values")
    return found


def _instance() -> Any:
    """This process's `DBOS`, or None."""
    module = sys.modules.get("dbos._dbos")
    return None if module is None else module._dbos_global_instance
