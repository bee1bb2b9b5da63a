"""A one-time link, as somebody has it from a message, in a browser that has not logged in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.approvals.test_people_are_told_once_a_stop import Receiver
from tests.support.browser import PHONE, Pages, serious
from tests.support.conditions import until
from tests.support.host_process import Host

BEARER = {"Authorization": "Bearer secret-of-olga"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Whom a host tells that a run waits."""
    found = Receiver()
    found.may_answer.set()
    with found.serving():
        yield found


@pytest.fixture
def host(own_host: Host, receiver: Receiver) -> Host:
    """A host that asks for a token, and sends one-time links."""
    own_host.environment |= {
        "TIMESTEP_API_TOKENS": "olga:operator:secret-of-olga",
        "TIMESTEP_ESCALATION_URL": receiver.url,
        "TIMESTEP_PUBLIC_URL": "http://timestep.example",
        "TIMESTEP_LINK_KEY": "0123456789abcdef0123456789abcdef",
    }
    return own_host.start()


def decided(page: Page) -> None:
    """That a page tells who decided what, and has nothing to press."""
    expect(page.get_by_role("heading", name="This call is decided")).to_be_visible()
    expect(page.locator(".decision")).to_contain_text(re.compile(r"Rejected\s+by a one-time link"))
    expect(page.locator("main")).to_contain_text("not to the moon")
    expect(page.locator("main button")).to_have_count(0)


def test_a_link_asks_once_more_decides_and_is_of_no_further_use(
    host: Host, receiver: Receiver, pages: Pages
) -> None:
    begin = f"{host.url}/api/workflows/ask/runs"
    answer = httpx.post(begin, json={"input": {"target": "moon"}}, headers=BEARER)
    assert answer.status_code == 202
    until(lambda: bool(receiver.got))
    ((question,), run_id) = (
        receiver.got[0].content["data"][name] for name in ("interruptions", "run_id")
    )
    path = urlsplit(question["link"]["url"]).path

    page = pages.open(path, viewport=PHONE)
    other = pages.open(path, java_script_enabled=False)
    for opened in (page, other):
        expect(opened.get_by_role("heading", name="May this call be made?")).to_be_visible()
        expect(opened.locator("main")).to_contain_text("Launch moon")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert serious(page) == []
    page.get_by_label("What the model is told").fill("not to the moon")
    page.get_by_role("button", name="Reject").click()
    decided(page)
    # Who had opened it before, and who opens it now, reads who decided.
    other.get_by_role("button", name="Approve").click()
    decided(other)
    decided(pages.open(path))
    # It leads to nothing else.
    page.get_by_role("link", name="See its run").click()
    expect(page).to_have_url(re.compile("/login"))

    def run() -> dict[str, str]:
        return dict(httpx.get(f"{host.url}/api/runs/{run_id}", headers=BEARER).json())

    until(lambda: run()["status"] == "completed")
    assert "not to the moon" in run()["final_output"]
