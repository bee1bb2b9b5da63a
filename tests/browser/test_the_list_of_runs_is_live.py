"""The page of all runs, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.browser import PHONE, Pages
from tests.support.host_process import Host


def test_a_run_shows_as_it_begins_and_ends(host: Host, pages: Pages) -> None:
    page = pages.open("/")
    expect(page.locator("#connection")).to_have_text("live")
    workflow_id = host.begin("ask", target="moon")
    row = page.locator("[data-row]", has_text=workflow_id)
    expect(row).to_contain_text("waits for a person")
    host.post(f"/api/workflows/{workflow_id}/resume", {"approve": "all"})
    expect(row).to_contain_text("completed")


def test_keys_lead_through_the_list(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("greet", name="ann")
    host.output(workflow_id)
    page = pages.open("/")
    page.keyboard.press("j")
    expect(page.locator("[data-row].current")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


def test_the_list_needs_no_script_and_no_wide_screen(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("greet", name="ann")
    host.output(workflow_id)
    page = pages.open("/", java_script_enabled=False, viewport=PHONE)
    expect(page.locator("[data-row]", has_text=workflow_id)).to_contain_text("completed")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
