"""Arguments of all kinds, edited in a form: each wrong one is told, and what is shown executed."""

from __future__ import annotations

import datetime
import enum
import html
import json
import re
from html.parser import HTMLParser
from typing import Annotated, Any, Literal

import httpx
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call
from pydantic import BaseModel, Field

from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from tests.support.decisions import started, waiting
from tests.web.test_the_inbox_checks_who_decides_what import logged_in, tokens

__all__ = ["tokens"]


class Hue(enum.Enum):
    red = "red"
    blue = "blue"


class Place(BaseModel):
    city: str
    zip: str | None = None


class Line(BaseModel):
    sku: str
    count: int = 1
    to: Place | None = None


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    kind: Literal["cash"]
    amount: float


@function_tool(needs_approval=True)
async def strict(
    count: Annotated[int, Field(ge=1, le=10)],
    price: float,
    hue: Hue,
    level: Literal[1, 2] | None,
    maybe: int | None,
    note: str | None,
    lines: list[Line],
    place: Place | None,
    either: int | str,
    pay: Card | Cash,
    when: datetime.datetime,
    paid: bool = True,
) -> str:
    given = {name: value for name, value in locals().items() if name != "given"}
    return Given.model_validate(given).model_dump_json()


@function_tool(needs_approval=True, strict_mode=False)
async def loose(
    count: int,
    table: dict[str, int],
    thing: Any = None,
    word: str = "hello",
    maybe: float | None = 1.5,
    hue: Hue | None = None,
    place: Place = Place(city="Bern"),  # noqa: B008  # never changed
    pair: tuple[int, str] = (1, "a"),
) -> str:
    found = {"count": count, "table": table, "thing": thing, "word": word, "maybe": maybe}
    return json.dumps({**found, "hue": hue and hue.value, "place": place.city, "pair": pair})


class Given(BaseModel):
    """What the strict tool was called with."""

    count: int
    price: float
    hue: Hue
    level: int | None
    maybe: int | None
    note: str | None
    lines: list[Line]
    place: Place | None
    either: int | str
    pay: Card | Cash
    when: datetime.datetime
    paid: bool


STRICT: dict[str, Any] = {
    "count": 2,
    "price": 0.1,
    "hue": "red",
    "level": 1,
    "maybe": None,
    "note": None,
    "lines": [{"sku": "x", "count": 1, "to": None}],
    "place": None,
    "either": 5,
    "pay": {"kind": "card", "number": "1"},
    "when": "2026-01-01T00:00:00Z",
    "paid": True,
}


class Form(HTMLParser):
    """The fields of the form that decides, as a browser sends them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if given.get("action", "").startswith("/approvals"):
            self.fields = {}
        if tag in ("textarea", "select"):
            self._inside = given["name"]
            self.fields[self._inside] = ""
        if tag == "option" and "selected" in given:
            self.fields[self._inside] = given["value"]
        if tag == "input" and "name" in given:
            self.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("textarea", "select"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside and self.lasttag == "textarea":
            self.fields[self._inside] += data.removeprefix("\n")


def wrong(page: str) -> dict[str, str]:
    """What is said at each field that is wrong."""
    parts = re.findall(r'<div class="field is-wrong">(.*?)</ul>', page, re.DOTALL)
    found = {}
    for part in parts:
        (name,) = re.findall(r' name="(?:value|json)\.(\w+)"', part)
        found[name] = html.unescape("; ".join(re.findall(r"<li>(.*?)</li>", part, re.DOTALL)))
    return found


def edit(app: App, tool: Any, given: dict[str, Any], *typed: dict[str, str]) -> dict[str, Any]:
    """Have a call edited, asked again as often as something is wrong.

    Returns:
        What was wrong each time, what the page showed before the call was made, and what the tool
        was called with.
    """

    def answer(items: list[Any]) -> list[Any]:
        (found,) = outputs(items).values() or [None]
        call = function_call(tool.name, given, call_id="c")
        return [assistant_message(str(found))] if found else [call]

    outcome = started(app, Agent(name="Ann", model=AnsweringModel(answer), tools=[tool]))
    ((question),) = app.until(waiting)
    told: list[dict[str, str]] = []
    shown: dict[str, str] = {}

    async def work(client: httpx.AsyncClient, token: str) -> None:
        path = f"/approvals/{question.id}/edit"
        page = (await client.get(path)).text
        for one in typed:
            form = {**Form(page).fields, **one}
            page = (await client.post(path, data=form)).text
            told.append(wrong(page))
            if told[-1]:
                kept = Form(page).fields
                assert {name: kept[name] for name in one} == one
        for name, cells in re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', page, re.DOTALL):
            before, after = re.findall(r'<td class="text">(.*?)</td>', cells, re.DOTALL)
            text = re.sub(r"</?strong>", "", before if after == "the same" else after)
            shown[name] = html.unescape(text)
        done = await client.post("/approvals/decide", data=Form(page).fields)
        assert done.status_code == 303, done.text

    logged_in("ooo", work)
    executed = json.loads(outcome.result(60))
    return {"wrong": told, "shown": shown, "executed": executed}


def test_a_strict_call(app: App) -> None:
    found = edit(
        app,
        strict,
        STRICT,
        {
            "value.count": "11",
            "value.price": "1e400",
            "value.level": "",
            "value.maybe": "1.5",
            "json.lines": '[{"sku": "y"}, 5]',
            "json.place": "{}",
            "json.either": "true",
            "json.pay": '{"kind": "check"}',
            "value.when": "yesterday",
        },
        {
            "value.count": "10",
            "value.price": "0.30000000000000004",
            "value.hue": '"blue"',
            "value.level": "null",
            "value.maybe": "123456789012345678901234567890",
            "value.note": "  two\r\nlines ",
            "json.lines": '[{"sku": "y", "count": 2, "to": {"city": "Ulm", "zip": null}}]',
            "json.place": '{"city": "Bern", "zip": "3000"}',
            "json.either": '"5"',
            "json.pay": '{"kind": "cash", "amount": 1.5}',
            "value.when": "2026-02-03T04:05:06+02:00",
            "value.paid": "false",
        },
    )
    first, last = found["wrong"]
    assert last == {}
    assert first["count"] == "11 is greater than the maximum of 10"
    assert first["price"] == "This is no number, like 12 or 0.5."
    assert first["level"] == "It is required."
    assert first["maybe"] == "This is no whole number, like 12."
    assert "0.count: it is required; 0.to: it is required" in first["lines"]
    assert "1: 5 is not of type 'object'" in first["lines"]
    assert first["when"] == "'yesterday' is no date-time"
    assert first.keys() == {
        "count", "price", "level", "maybe", "lines", "place", "either", "pay", "when"
    }  # fmt: skip
    # Each is executed as the page showed it, whatever it was typed as.
    shown = {name: json.loads(text) for name, text in found["shown"].items()}
    assert shown["note"] == "  two\nlines "
    assert Given.model_validate(shown) == Given.model_validate(found["executed"])
    assert list(shown) == list(STRICT)


def test_a_call_with_much_left_out(app: App) -> None:
    typed = {
        "value.word": "",
        "empty.word": "text",
        "value.maybe": "",
        "empty.maybe": "null",
        "value.hue": '"blue"',
        "json.thing": '{"a": [1, null, 1.0]}',
        "json.pair": '[7, "q"]',
        "json.table": '{"b": 2}',
    }
    again = {**typed, "json.pair": "[7]", "json.table": '{"b": "x"}', "json.thing": "x"}
    found = edit(app, loose, {"count": 2, "table": {"a": 1}}, again, typed)
    assert found["wrong"][0].keys() == {"pair", "table", "thing"}
    assert "Text stands in quotes" in found["wrong"][0]["thing"]
    shown = found["shown"]
    # What is left out is called as the tool has it by itself.
    assert shown.pop("place", "left out") == "left out"
    assert found["executed"] == {
        **{name: json.loads(text) for name, text in shown.items()},
        "place": "Bern",
    }
    assert found["executed"]["word"] == ""
    assert found["executed"]["maybe"] is None
