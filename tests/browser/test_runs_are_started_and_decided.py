"""The form that starts a run, and the inbox, in a real browser: from the start to the end."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import PHONE, Pages, serious, shot
from tests.support.host_process import Host


def asked(host: Host, target: str) -> str:
    """A workflow that waits for a person to let it launch something."""
    workflow_id = host.begin("ask", target=target)
    host.run_when(workflow_id, "interrupted")
    return workflow_id


def card(page: Page, target: str) -> Locator:
    """The question whether that may be launched."""
    return page.locator(".question", has_text=f"Launch {target}")


def done(page: Page, target: str) -> Locator:
    """What was decided of it, on the page that follows."""
    return page.locator("#done article", has_text=f"Launch {target}")


def looked_at(page: Page, name: str) -> list[str]:
    """What is seriously wrong with a page, of which a screenshot is kept."""
    shot(page, name)
    return serious(page) + serious(page, "landmark-unique")


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_run_is_started_approved_and_seen_to_end(host: Host, pages: Pages) -> None:
    page = pages.open("/approvals")
    expect(page.locator("#connection")).to_have_text("live")
    form = pages.open("/start")
    form.get_by_role("link", name="ask", exact=True).click()
    form.get_by_label("target").fill("moon")
    press(form, "Start")
    form.wait_for_url("**/runs/*")
    workflow_id = form.url.rpartition("/")[2]
    question = card(page, "moon")
    expect(question).to_contain_text("target")
    expect(page.locator("#pending")).to_contain_text(re.compile("[0-9]"))
    expect(page.locator(".workflow", has_text=workflow_id)).to_contain_text("user said")
    question.get_by_role("button", name="Approve").click()
    expect(page.locator("h1")).to_have_text("Approve?")
    expect(page.locator(".card")).to_contain_text("Launch moon")
    press(page, "Approve")
    expect(done(page, "moon")).to_contain_text("Approved")
    expect(done(page, "moon")).to_contain_text("completed")
    assert host.output(workflow_id).endswith("launched moon")


def test_a_form_asks_again_and_starts_one_run(host: Host, pages: Pages) -> None:
    page = pages.open("/start/plain", java_script_enabled=False, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    order = page.get_by_label("order (required)")
    order.fill('{"item": "hat", "count": "many"}')
    press(page, "Start")
    expect(page.locator(".wrong")).to_contain_text("count")
    expect(order).to_have_value('{"item": "hat", "count": "many"}')
    workflow_id = page.locator("[name=workflow_id]").get_attribute("value")
    order.fill('{"item": "hat", "count": 2}')
    press(page, "Start")
    page.wait_for_url(f"**/runs/{workflow_id}")
    assert host.output(str(workflow_id)) == "2 hat"
    # The same form, sent once more, is the same run; with another input it says so.
    page.go_back()
    press(page, "Start")
    page.wait_for_url(f"**/runs/{workflow_id}")
    page.go_back()
    page.get_by_label("order (required)").fill('{"item": "hat", "count": 3}')
    press(page, "Start")
    expect(page.get_by_role("alert")).to_contain_text("This form has started a run already")
    assert page.locator("[name=workflow_id]").get_attribute("value") != workflow_id
    press(page, "Start")
    page.wait_for_url("**/runs/*")
    assert host.output(page.url.rpartition("/")[2]) == "3 hat"


def test_a_call_is_edited_rejected_and_given_a_result(host: Host, pages: Pages) -> None:
    edited, rejected, supplied = (asked(host, name) for name in ("mars", "rhea", "dione"))
    page = pages.open("/approvals", java_script_enabled=False, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    card(page, "mars").get_by_role("link", name="Edit…").click()
    page.get_by_label("target").fill("phobos\nand deimos")
    press(page, "Go on…")
    expect(page.locator(".changed")).to_contain_text("phobos")
    press(page, "Approve with these arguments")
    expect(done(page, "mars")).to_contain_text("Approved with other arguments")

    page.goto("/approvals")
    card(page, "rhea").get_by_role("button", name="Reject…").click()
    page.get_by_label("What the model is told").fill("Not today.")
    press(page, "Reject")
    expect(done(page, "rhea")).to_contain_text("“Not today.”")

    page.goto("/approvals")
    card(page, "dione").get_by_role("button", name="Supply a result…").click()
    page.get_by_label("Its result").fill('{"launched": ')
    page.get_by_label("JSON", exact=True).check()
    press(page, "Supply a result")
    expect(page.locator(".wrong")).to_contain_text("no JSON")
    expect(page.get_by_label("Its result")).to_have_value('{"launched": ')
    page.get_by_label("Its result").fill("launched by hand")
    page.get_by_label("text", exact=True).check()
    press(page, "Supply a result")
    expect(done(page, "dione")).to_contain_text("Given a result")

    assert host.output(edited).endswith("launched phobos\nand deimos")
    assert "Not today." in host.output(rejected)
    assert host.output(supplied).endswith("launched by hand")
    page.goto("/approvals?resolved=true")
    seen = page.locator("article", has_text="Launch mars")
    seen.locator("summary").click()
    expect(seen).to_contain_text("Who decided was shown this")
    expect(seen).to_contain_text("phobos")


def test_two_questions_have_one_confirmation(host: Host, pages: Pages) -> None:
    workflows = [asked(host, name) for name in ("io", "callisto")]
    page = pages.open("/approvals")
    for name in ("io", "callisto"):
        card(page, name).get_by_role("checkbox").check()
    page.locator("#many").get_by_role("button", name="Approve…").click()
    expect(page.locator("h1")).to_have_text("Approve 2 calls?")
    expect(page.locator(".card")).to_have_count(2)
    page.get_by_label("Always in this run").check()
    press(page, "Approve 2 calls")
    for name in ("io", "callisto"):
        expect(done(page, name)).to_contain_text("with later calls of the tool in this run")
    assert [host.output(one)[-len("callisto") :] for one in workflows] == ["nched io", "callisto"]


def test_what_was_decided_or_changed_meanwhile_is_told(host: Host, pages: Pages) -> None:
    first, second = asked(host, "titan"), asked(host, "enceladus")
    # What a page shows stays there: no script renews it.
    late = pages.open("/approvals", java_script_enabled=False)
    host.post(f"/api/workflows/{first}/resume", {"reject": "all"})
    card(late, "titan").get_by_role("button", name="Approve").click()
    expect(late.locator("h1")).to_have_text("Nothing was decided")
    expect(late.locator(".decision")).to_contain_text("Rejected")

    late.goto("/approvals")
    card(late, "enceladus").get_by_role("button", name="Approve").click()
    host.rows(
        'UPDATE interruptions SET arguments = \'{"target": "earth"}\' WHERE arguments ->> '
        "'target' = 'enceladus' RETURNING id"
    )
    press(late, "Approve")
    expect(late.locator("h1")).to_have_text("Nothing was decided")
    expect(late.locator(".card")).to_contain_text("it changed meanwhile")
    expect(late.locator(".card")).to_contain_text('{"target": "enceladus"}')
    expect(late.locator(".arguments")).to_contain_text("earth")
    assert host.run(second)["status"] == "interrupted"


def test_ticks_stay_where_the_page_is_renewed(host: Host, pages: Pages) -> None:
    asked(host, "oberon")
    page = pages.open("/approvals")
    expect(page.locator("#connection")).to_have_text("live")
    card(page, "oberon").get_by_role("checkbox").check()
    asked(host, "ariel")
    expect(card(page, "ariel")).to_be_visible()
    expect(card(page, "oberon").get_by_role("checkbox")).to_be_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_accessible(host: Host, pages: Pages, scheme: str) -> None:
    asked(host, f"umbriel in {scheme}")
    asked(host, f"a moon in {scheme} " + "that has a long name " * 1200)
    page = pages.open("/approvals", color_scheme=scheme)
    found = [looked_at(page, f"approvals-{scheme}")]
    # What a form is too small for says which command it takes, and copies it.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    why = card(page, f"a moon in {scheme}").locator(".why")
    why.get_by_role("button", name="Copy").click()
    expect(why.get_by_role("button")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("timestep resume ")
    expect(why.locator("code")).to_have_text(copied)
    card(page, f"umbriel in {scheme}").get_by_role("button", name="Reject…").click()
    expect(page.locator("h1")).to_have_text("Reject?")
    found.append(looked_at(page, f"approvals-reject-{scheme}"))
    page.goto("/approvals")
    card(page, f"umbriel in {scheme}").get_by_role("link", name="Edit…").click()
    expect(page.locator("h1")).to_have_text("Approve with other arguments")
    found.append(looked_at(page, f"approvals-edit-{scheme}"))
    page.goto("/approvals?resolved=true")
    found.append(looked_at(page, f"approvals-decided-{scheme}"))
    for name in ("start", "start/plain"):
        page.goto(f"/{name}")
        found.append(looked_at(page, f"{name.replace('/', '-')}-{scheme}"))
    assert found == [[]] * 6
