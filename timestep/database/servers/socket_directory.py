"""Makes the directory of a local database's socket, which only its user gets to."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from timestep.database.servers.postgres_programs import Account, give
from timestep.errors import EmbeddedDatabaseError

PORT = 5432
"""Part of the socket's name; no TCP port is opened."""

_PATH_LIMIT = 103 if sys.platform == "darwin" else 107


def socket_in(directory: Path) -> Path:
    """The socket, as libpq looks for it."""
    return directory / f".s.PGSQL.{PORT}"


def directory_for(data: Path, account: Account) -> Path:
    """The data directory, or a private one with a shorter name.

    Raises:
        EmbeddedDatabaseError: There is none that can be used.
    """
    if fits(data) and not set(str(data)) & set(',"'):
        return data
    # The inode: the server of a deleted directory may still hold the old name's lock.
    name = hashlib.sha256(os.fsencode(data) + b":%d" % data.stat().st_ino).hexdigest()[:12]
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp")):
        directory = parent / f"timestep-{account.uid}-{name}"
        if not fits(directory) or not account.reaches(parent):
            continue
        if not os.path.lexists(directory):
            directory.mkdir(mode=0o700)
            give(directory, account)
        status = directory.lstat()
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_uid != account.uid
            or status.st_mode & 0o077
        ):
            raise EmbeddedDatabaseError(
                f"{directory} is not a private directory of {account.name!r}: remove it"
            )
        return directory
    raise EmbeddedDatabaseError(
        f"{data} is too long for a socket: choose a shorter path for the data"
    )


def fits(directory: Path) -> bool:
    """Whether the name of a socket there is short enough for the system."""
    return len(os.fsencode(socket_in(directory))) <= _PATH_LIMIT
