"""A host with tokens, which is restarted while somebody looks at its page."""

from __future__ import annotations

import signal

import httpx
import pytest
from playwright.sync_api import expect

from tests.support.browser import Pages
from tests.support.host_process import Host


@pytest.fixture
def host(own_host: Host) -> Host:
    """A host that asks for a token."""
    own_host.environment["TIMESTEP_API_TOKENS"] = "olga:operator:secret-of-olga"
    return own_host.start()


def test_who_logged_in_stays_so_and_the_page_goes_on(host: Host, pages: Pages) -> None:
    bearer = {"Authorization": "Bearer secret-of-olga"}

    def begin(name: str) -> str:
        path = f"{host.url}/api/workflows/greet/runs"
        return str(
            httpx.post(path, json={"input": {"name": name}}, headers=bearer).json()["workflow_id"]
        )

    page = pages.open("/health")
    expect(page).to_have_url(f"{host.url}/login?next=%2Fhealth")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("This is no token of this host.")
    page.get_by_label("Token").fill("secret-of-olga")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{host.url}/health")
    page.get_by_role("link", name="Runs", exact=True).click()
    expect(page.get_by_text("olga (operator)")).to_be_visible()
    expect(page.locator("#connection")).to_have_text("live")

    # Again at the same address, which a browser goes on to ask.
    host.environment["TIMESTEP_PORT"] = host.url.rpartition(":")[2]
    host.signal(signal.SIGKILL)
    host.ended()
    expect(page.locator("#connection")).to_contain_text("not connected")
    host.start()
    workflow_id = begin("ann")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("[data-row]", has_text=workflow_id)).to_contain_text("completed")

    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{host.url}/login")
    page.goto("/")
    expect(page.get_by_label("Token")).to_be_visible()
