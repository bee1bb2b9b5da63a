"""Writes values that hold no other value, such as dates, paths and URLs, as JSON, and reads them.

Their classes are the standard library's and pydantic's, so every process knows them.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import ipaddress
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from pydantic import (
    AnyUrl,
    ByteSize,
    MongoDsn,
    NatsDsn,
    PostgresDsn,
    SecretStr,
    TypeAdapter,
    networks,
)
from pydantic_core import TzInfo, to_jsonable_python

from timestep.errors import UnreadableValueError

_FOLD = "[fold=1]"
"""What follows a time that the clock shows for the second time, as when summer time ends."""


_OF_PYDANTIC = "TzInfo"
"""In the place of a zone's name: pydantic made the time, whose class of offsets is its own.

Of UTC it writes `Z`, as only it does.
"""
_NAMED = "="
"""Before the name that a program gave to a fixed offset; no zone's name begins so."""
_OFFSET_ONLY = "~"
"""In the place of a zone's name: the zone is none that every process knows, as of dateutil."""


def _when(moment: datetime.datetime | datetime.time) -> str:
    """A time as RFC 9557 has it: with the name of its zone, if that has one."""
    zone = None
    told = moment.isoformat()
    if type(moment.tzinfo) is zoneinfo.ZoneInfo:
        zone = moment.tzinfo.key or _OFFSET_ONLY  # One that was made of a file has no name.
    elif type(moment.tzinfo) is TzInfo:
        if moment.utcoffset():
            zone = _OF_PYDANTIC
        else:
            told = told.removesuffix("+00:00") + "Z"
    elif type(moment.tzinfo) is datetime.timezone:
        name = moment.tzinfo.tzname(None)
        if name != datetime.timezone(moment.tzinfo.utcoffset(None)).tzname(None):
            zone = _NAMED + quote(name, safe="", errors="surrogatepass")
    elif moment.tzinfo is not None:
        zone = _OFFSET_ONLY
    return f"{told}{f'[{zone}]' if zone else ''}{_FOLD if moment.fold else ''}"


def _moment(kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        fold = int(text.endswith(_FOLD))
        told, _, zone = text.removesuffix(_FOLD).removesuffix("]").partition("[")
        moment = kind.fromisoformat(told).replace(fold=fold)
        if zone == _OFFSET_ONLY:
            return moment
        if zone == _OF_PYDANTIC or told.endswith("Z"):
            offset = moment.utcoffset()
            if offset is None:
                raise ValueError(f"{text!r} has no offset")
            return moment.replace(tzinfo=TzInfo(int(offset.total_seconds())))
        if zone.startswith(_NAMED):
            name = unquote(zone.removeprefix(_NAMED), errors="surrogatepass")
            return moment.replace(tzinfo=datetime.timezone(moment.utcoffset(), name))
        # What the clock shows stays, whatever the rules of the zone have become.
        return moment.replace(tzinfo=_zone(zone)) if zone else moment

    return read


def _zone(key: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise UnreadableValueError(
            f"a recorded value is of the time zone {key!r}, which this machine does not know: "
            "install the package tzdata"
        ) from error


def _path(kind: type[pathlib.Path]) -> Callable[[str], pathlib.Path]:
    def read(text: str) -> pathlib.Path:
        try:
            return kind(text)
        except NotImplementedError as error:
            raise UnreadableValueError(
                f"a recorded value is a {kind.__name__}, which this system does not have: use "
                "pathlib.PurePath for paths of other systems"
            ) from error

    return read


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_URLS = (
    *(cls for cls in vars(networks).values() if isinstance(cls, type) and issubclass(cls, AnyUrl)),
    *(MongoDsn, NatsDsn, PostgresDsn),
)

_IP = (
    *(ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
    *(ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
)

_PURE_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath)
_PATHS = (pathlib.PosixPath, pathlib.WindowsPath)

_LEAVES: dict[type, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (str, _base64, _bytes),
    bytearray: (str, _base64, lambda text: bytearray(_bytes(text))),
    datetime.datetime: (str, _when, _moment(datetime.datetime)),
    datetime.date: (str, datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: (str, _when, _moment(datetime.time)),
    datetime.timedelta: (str, to_jsonable_python, TypeAdapter(datetime.timedelta).validate_python),
    zoneinfo.ZoneInfo: (str, str, _zone),
    # Not as text, which would let a short one stand for a number that fills the memory.
    fractions.Fraction: (
        list,
        lambda ratio: [ratio.numerator, ratio.denominator],
        lambda parts: fractions.Fraction(*parts),
    ),
    ByteSize: (int, int, ByteSize),
    # Only one that is empty is written; any other is kept nowhere.
    SecretStr: (str, str, SecretStr),
    **{cls: (str, str, cls) for cls in (complex, decimal.Decimal, uuid.UUID)},
    **{cls: (str, str, cls) for cls in (*_IP, *_URLS, *_PURE_PATHS)},
    **{cls: (str, str, _path(cls)) for cls in _PATHS},
}

CLASSES = frozenset(_LEAVES)
"""What values of exactly these classes are written as themselves."""


def _name(cls: type) -> str:
    # Python 3.13 moved these.
    module = "pathlib" if issubclass(cls, pathlib.PurePath) else cls.__module__
    return f"{module}:{cls.__qualname__}"


_names = {cls: _name(cls) for cls in _LEAVES}


def written(value: object) -> tuple[str, Any] | None:
    """The name of a leaf's class and the JSON that it is read of; None: it is no leaf."""
    leaf = _LEAVES.get(type(value))
    if type(value) is SecretStr and value.get_secret_value():
        return None
    return None if leaf is None else (_names[type(value)], leaf[1](value))


READERS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    _names[cls]: (written_as, read) for cls, (written_as, _, read) in _LEAVES.items()
}
"""By the names of classes: the class of the JSON, and what makes a value of it.

Each raises ArithmeticError, TypeError or ValueError for what `written` did not write, and
`UnreadableValueError` for what it wrote and this machine cannot read.
"""
