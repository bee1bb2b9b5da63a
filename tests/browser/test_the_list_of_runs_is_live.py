"""The page of all runs, in a real browser."""

from __future__ import annotations

import re
from urllib.parse import quote

from playwright.sync_api import expect

from tests.support.browser import PHONE, Pages
from tests.support.host_process import Host


def test_a_run_shows_as_it_begins_and_ends(host: Host, pages: Pages) -> None:
    page = pages.open("/")
    expect(page.locator("#connection")).to_have_text("live")
    workflow_id = host.begin("ask", target="moon")
    row = page.locator("[data-row]", has_text=workflow_id)
    expect(row).to_contain_text("waits for a person")
    expect(row).to_contain_text("Launch moon")
    row.get_by_role("checkbox").check()
    host.post(f"/api/workflows/{workflow_id}/resume", {"approve": "all"})
    expect(row).to_contain_text("completed")
    expect(row).to_contain_text("launched moon")
    # What was ticked stays so.
    expect(row.get_by_role("checkbox")).to_be_checked()


def test_keys_lead_through_the_list(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("greet", name="ann")
    host.output(workflow_id)
    page = pages.open("/")
    page.keyboard.press("j")
    expect(page.locator("[data-row].current")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


def test_the_focus_stays_where_it_is_while_the_page_lives(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("ask", target="focus")
    host.run_when(workflow_id, "interrupted")
    page = pages.open("/?text=focus")
    expect(page.locator("#connection")).to_have_text("live")
    link = page.locator("[data-row]", has_text=workflow_id).get_by_role("link")
    page.keyboard.press("j")
    expect(link).to_be_focused()
    other = host.begin("ask", target="focus too")
    expect(page.locator("[data-row]")).to_have_count(2)
    expect(link).to_be_focused()
    expect(page.locator("[data-row].current")).to_contain_text(workflow_id)

    page = pages.open(f"/runs/{workflow_id}")
    expect(page.locator("#connection")).to_have_text("live")
    for key in ("a", "r"):
        page.locator("h1").click()
        page.keyboard.press(key)
        expect(page.get_by_role("link", name="Decide").first).to_be_focused()
        page.keyboard.press("j")
    summary = page.locator(".step summary").first
    page.locator(".step").first.evaluate("one => one.classList.add('marked')")
    summary.focus()
    host.post(f"/api/workflows/{workflow_id}/resume", {"approve": "all"})
    expect(page.locator("h1")).to_contain_text("completed")
    # That turn was replaced, too.
    expect(page.locator(".marked")).to_have_count(0)
    expect(summary).to_be_focused()
    host.post(f"/api/workflows/{other}/cancel", {})


def test_the_list_needs_no_script_and_no_wide_screen(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("greet", name="ann")
    host.output(workflow_id)
    page = pages.open("/", java_script_enabled=False, viewport=PHONE)
    expect(page.locator("[data-row]", has_text=workflow_id)).to_contain_text("completed")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # An id is cut to what fits, and whole for who copies it.
    id_ = page.locator(".id", has_text=workflow_id)
    assert id_.get_attribute("title") == workflow_id
    box = id_.bounding_box()
    assert box is not None
    assert box["height"] < 30
    page.get_by_text("More filters").click()
    page.get_by_label("Workflow").fill(workflow_id)
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile(rf"\?.*workflow_id={workflow_id}"))
    expect(page.locator("[data-row]")).to_have_count(1)


def test_filters_complete_and_stay_in_the_address(host: Host, pages: Pages) -> None:
    for name in ("greet", "ask"):
        host.begin(name, **{"greet": {"name": "ann"}, "ask": {"target": "sun"}}[name])
    host.run_when(host.begin("greet", name="last"), "completed")
    page = pages.open("/")
    page.get_by_text("More filters").click()
    agent = page.get_by_label("Agent")
    agent.press_sequentially("gre")
    expect(page.locator("#list-agent option")).to_have_count(1)
    assert page.locator("#list-agent option").get_attribute("value") == "Greeter"
    agent.fill("Greeter")
    agent.press("Enter")
    expect(page).to_have_url(re.compile("agent=Greeter"))
    page.get_by_role("link", name="waits for a person").click()
    expect(page).to_have_url(re.compile("agent=Greeter&status=interrupted"))
    expect(page.get_by_text("No runs are like that.")).to_be_visible()
    page.get_by_label("Since").fill("soon")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("is neither a time ago")).to_be_visible()
    assert page.get_by_label("Since").input_value() == "soon"


def test_many_are_cancelled_once_each_was_named(host: Host, pages: Pages) -> None:
    waiting = [host.begin("ask", target=f"star {number}") for number in range(2)]
    done = host.begin("greet", name="ann")
    # Browsers change the ends of lines in what they send.
    given = {"input": {"target": "star 2"}, "workflow_id": "a\nb\r\n%0A"}
    odd = quote(host.post("/api/workflows/ask/runs", given).json()["workflow_id"])
    for workflow_id in (*waiting, odd):
        host.run_when(workflow_id, "interrupted")
    host.run_when(done, "completed")
    page = pages.open("/", java_script_enabled=False)
    for shown in (*waiting, done, r"a\nb\r\n%0A"):
        page.locator("[data-row]", has_text=shown).get_by_role("checkbox").check()
    page.get_by_role("button", name="Cancel the chosen").click()
    expect(page.get_by_role("heading", name="Cancel 3 workflows?")).to_be_visible()
    for workflow_id in (*waiting, done):
        expect(page.locator("[data-row]", has_text=workflow_id)).to_be_visible()
    # One of them ends before the button is pressed.
    host.post(f"/api/workflows/{waiting[0]}/resume", {"approve": "all"})
    host.run_when(waiting[0], "completed")
    page.get_by_role("button", name="Cancel these 3").click()
    expect(page.get_by_text("2 workflows were cancelled. Those below were left")).to_be_visible()
    left = page.locator("[data-row]")
    expect(left).to_have_count(1)
    expect(left).to_contain_text(waiting[0])
    expect(left).to_contain_text("shown as 'waits for a person', and is 'completed'")
    found = [host.run(one)["status"] for one in (*waiting, odd)]
    assert found == ["completed", "cancelled", "cancelled"]


def test_one_tick_chooses_all_of_the_page(host: Host, pages: Pages) -> None:
    for number in range(3):
        host.run_when(host.begin("greet", name=f"all {number}"), "completed")
    page = pages.open("/?text=all")
    ticks = page.locator("[data-row] input")
    every = page.get_by_label("all on this page")
    expect(page.locator("#connection")).to_have_text("live")
    every.check()
    assert {one.is_checked() for one in ticks.all()} == {True}
    ticks.first.uncheck()
    assert every.evaluate("one => [one.checked, one.indeterminate]") == [False, True]
    ticks.first.check()
    expect(every).to_be_checked()
    # One that begins while the page is open was not ticked.
    host.begin("greet", name="all that is new")
    expect(ticks).to_have_count(4)
    expect(every).not_to_be_checked()
    page.get_by_role("button", name="Fork the chosen").click()
    expect(page.get_by_role("heading", name="Fork 3 runs?")).to_be_visible()
    page.get_by_role("button", name="Fork these 3").click()
    expect(page.get_by_role("heading", name="3 forks started")).to_be_visible()
    # Each tells at once what it is a fork of, and then how it goes on.
    expect(page.locator("[data-row]", has_text="turn 1 of")).to_have_count(3)
    expect(page.locator("[data-row]", has_text="completed")).to_have_count(3)
    without = pages.open("/", java_script_enabled=False)
    expect(without.get_by_label("all on this page")).to_be_hidden()


def test_many_are_forked_once_each_was_named(host: Host, pages: Pages) -> None:
    ends = [host.begin("greet", name="ann"), host.begin("ask", target="mars")]
    host.run_when(ends[0], "completed")
    host.run_when(ends[1], "interrupted")
    page = pages.open("/", java_script_enabled=False)
    for workflow_id in ends:
        page.locator("[data-row]", has_text=workflow_id).get_by_role("checkbox").check()
    page.get_by_role("button", name="Fork the chosen").click()
    turn = page.locator("[data-row]", has_text=ends[0]).get_by_role("spinbutton")
    turn.fill("7")
    page.get_by_role("button", name="Fork these 2").click()
    expect(page.get_by_text("Those that are marked were not forked")).to_be_visible()
    expect(page.locator("[data-row]", has_text=ends[1])).to_contain_text("forked")
    turn.fill("1")
    page.get_by_role("button", name="Fork these 2").click()
    expect(page.get_by_role("heading", name="2 forks started")).to_be_visible()
    # The one that was made before is not made again.
    found = host.rows("SELECT forked_from FROM dbos.workflow_status WHERE forked_from IS NOT NULL")
    assert sorted(one["forked_from"] for one in found if one["forked_from"] in ends) == sorted(ends)
