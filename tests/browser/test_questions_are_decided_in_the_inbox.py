"""The inbox, in a real browser: what is asked, and how people decide it."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.support.browser import Pages
from tests.support.host_process import Host


def asked(host: Host, target: str) -> str:
    """A workflow that waits for a person to let it launch something."""
    workflow_id = host.begin("ask", target=target)
    host.run_when(workflow_id, "interrupted")
    return workflow_id


def card(page: Page, text: str) -> Locator:
    return page.locator(".question", has_text=f"Launch {text}")


def decided(page: Page, text: str) -> Locator:
    return page.locator("#done article", has_text=f"Launch {text}")


def test_a_run_is_started_approved_and_seen_to_end(host: Host, pages: Pages) -> None:
    page = pages.open("/approvals")
    expect(page.locator("#connection")).to_have_text("live")
    workflow_id = asked(host, "moon")
    question = card(page, "moon")
    expect(question).to_contain_text("target")
    expect(page.locator("#pending")).to_contain_text(re.compile("[0-9]"))
    expect(page.locator(".workflow", has_text=workflow_id)).to_contain_text("user said")
    question.get_by_role("button", name="Approve").click()
    expect(page.locator("h1")).to_have_text("Approve?")
    expect(page.locator(".card")).to_contain_text("Launch moon")
    page.get_by_role("button", name="Approve").click()
    expect(decided(page, "moon")).to_contain_text("Approved")
    expect(decided(page, "moon")).to_contain_text("completed")
    assert host.output(workflow_id).endswith("launched moon")
