"""Values that hold no other, and the standard library's containers, come back as they were."""

from __future__ import annotations

import datetime
import fractions
import io
import ipaddress
import json
import logging
import pathlib
import struct
from collections import Counter, OrderedDict, deque
from types import SimpleNamespace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize, HttpUrl, PostgresDsn

import timestep
from timestep.errors import UnreadableValueError
from timestep.runtime import process_state
from timestep.serialization.values import decode, dumps, encode, restored, survives
from timestep.serialization.values.survival import ToldTypes

ZONES = st.sampled_from(["Europe/Berlin", "America/St_Johns", "UTC"]).map(ZoneInfo) | st.none()
LEAVES = (
    st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.dates()
    | st.timedeltas()
    | st.fractions()
    | st.complex_numbers(allow_nan=False)
    | st.ip_addresses()
    | st.binary().map(bytearray)
    | st.text("abc/. ").map(pathlib.Path)
    # Python itself reads some of their own texts as another path.
    | st.text("abc\\:/. ")
    .map(pathlib.PureWindowsPath)
    .filter(lambda path: pathlib.PureWindowsPath(str(path)) == path)
    | ZONES
)


@timestep.register_type
class Spot(NamedTuple):
    x: Any
    label: str = "here"


def again(value: Any) -> Any:
    return decode(restored(json.loads(dumps(encode(value)))))


@given(LEAVES)
def test_a_leaf_comes_back(value: Any) -> None:
    back = again(value)
    assert (back, type(back), repr(back)) == (value, type(value), repr(value))


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        # Shown twice by the clock, and never.
        datetime.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        datetime.datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1),
        datetime.time(2, 30, tzinfo=BERLIN, fold=1),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(seconds=5))),
        HttpUrl("https://user:word@example.com/ä?q=1#x"),
        PostgresDsn("postgresql://a@one,two/shop"),
        ByteSize(5),
        ipaddress.ip_network("10.0.0.0/8"),
        fractions.Fraction(-1, 3),
        OrderedDict([("b", 1), (2, (3,))]),
        Counter("tea"),
        deque([1, {"a"}], maxlen=4),
        SimpleNamespace(name="x", value=[Spot(1)], inner=SimpleNamespace()),
        Spot({"$type": "x"}, "there"),
        [Spot(Spot(1))],
    ],
    ids=repr,
)
def test_it_comes_back_as_it_was(value: Any) -> None:
    back = again(value)
    assert (back, type(back), repr(back)) == (value, type(value), repr(value))


def test_a_namespace_may_hold_itself() -> None:
    value = SimpleNamespace(name="x")
    value.itself = value
    back = again(value)
    assert (back.name, back.itself is back) == ("x", True)


def test_a_named_tuple_of_before_has_its_defaults_and_no_other_fields() -> None:
    named = encode(Spot(1))
    assert isinstance(named, dict)
    assert decode({**named, "value": {"x": 1}}) == Spot(1)
    for fields, reason in (({"y": 1}, "fields.*'y'"), ({}, "made again.*'x'")):
        with pytest.raises(UnreadableValueError, match=reason):
            decode({**named, "value": fields})


def test_what_this_machine_cannot_read_is_told() -> None:
    for named, value, reason in (
        ("datetime:datetime", "2026-01-01T00:00:00+01:00[Mars/Base]", "'Mars/Base'.*tzdata"),
        ("pathlib:WindowsPath", "c:\\x", "WindowsPath, which this system does not have"),
    ):
        with pytest.raises(UnreadableValueError, match=reason):
            decode({"$type": named, "value": value})
    for named, held in (
        ("fractions:Fraction", [1, 0]),
        ("datetime:timedelta", "long"),
        ("datetime:datetime", "2026-01-01T00:00:00[TzInfo]"),
        ("zoneinfo:ZoneInfo", "../../etc/passwd"),
        ("collections:deque", ["x"]),
        ("types:SimpleNamespace", {"name": "x"}),
        ("pydantic.networks:HttpUrl", "not one"),
    ):
        document = {"$type": named, "value": held}
        assert decode(document) == document


class Eastern(datetime.tzinfo):
    """A zone that only this process knows, with summer time."""

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        if moment is None:
            return None
        return datetime.timedelta(hours=-4 if 3 < moment.month < 11 else -5)

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return None

    def tzname(self, moment: datetime.datetime | None) -> str | None:
        return None


ONE_HOUR = struct.pack(">4s16x6llBB4s", *(b"TZif", 0, 0, 0, 0, 1, 4), *(3600, 0, 0), b"CET")
"""A file of a zone, as time zones' data are kept, with one offset."""


def test_a_zone_of_the_applications_own_is_its_offset_in_the_first_execution_already(
    caplog: pytest.LogCaptureFixture,
) -> None:
    moment = datetime.datetime(2026, 1, 1, 12, tzinfo=Eastern())
    later = datetime.timedelta(days=200)
    process_state.of(ToldTypes).paths.clear()
    with caplog.at_level(logging.WARNING, "timestep"):
        first: Any = survives(moment)
    assert first == moment
    assert (first + later).isoformat() == (again(moment) + later).isoformat()
    assert (first + later).isoformat() == "2026-07-20T12:00:00-05:00"
    (told,) = caplog.messages
    assert "its zone is none that every process knows" in told
    inside: Any = survives({"at": [moment]})
    assert inside["at"][0].tzinfo == first.tzinfo
    assert survives(moment.timetz()) == again(moment.timetz()) == datetime.time(12)
    nameless = ZoneInfo.from_file(io.BytesIO(ONE_HOUR))
    hour: Any = survives(datetime.datetime(2026, 1, 1, tzinfo=nameless))
    assert hour.tzinfo == datetime.timezone(datetime.timedelta(hours=1))
    # As earlier versions wrote it.
    assert decode({"$type": "datetime:datetime", "value": "2026-01-01T12:00:00-05:00"}) == first
    assert survives(first) is first


@pytest.mark.parametrize("name", ["IST", "", "a]b[fold=1", "[", "=", "é%2F\ud800", "UTC"])
@pytest.mark.parametrize("hours", [0, 5])
def test_an_offset_keeps_its_name(name: str, hours: int) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=hours), name)
    for moment in (datetime.datetime(2026, 1, 1, tzinfo=zone), datetime.time(1, tzinfo=zone)):
        for fold in (0, 1):
            found = decode(encode(moment.replace(fold=fold)))
            assert (found, found.fold, found.tzname()) == (moment, fold, name)
