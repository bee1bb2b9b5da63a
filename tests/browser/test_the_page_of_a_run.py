"""The page of one run, in a real browser."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import DESK, PHONE, Pages, serious, shot
from tests.support.host_process import Host, lines
from tests.support.recorded_runs import change, long_run


def free_port() -> int:
    """A port that nobody listens at: a host that is begun anew has to be where it was."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def say(host: Host, workflow_id: str, attempt: int, text: str) -> None:
    """Record what the model of a run says while it speaks."""
    change(
        host.database,
        """INSERT INTO timestep.stream_batches (
            id, run_id, model_response_id, turn, attempt, first_attempt, position, events)
        SELECT gen_random_uuid(), id, id, 3, %s, 1, 0, jsonb_build_array(jsonb_build_object(
            'type', 'response.output_text.delta', 'delta', %s::text))
        FROM runs WHERE workflow_id = %s""",
        attempt,
        text,
        workflow_id,
    )


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def test_a_run_shows_what_it_does_until_it_ends(host: Host, pages: Pages, tmp_path: Path) -> None:
    workflow_id = host.begin("work", folder=str(tmp_path), stream=True)
    page = pages.open(f"/runs/{workflow_id}")
    standing = page.locator("#standing")
    expect(standing).to_contain_text("Calls hold in turn 2, on the host local")
    expect(page.locator("#turn-1")).to_contain_text("note")
    call = page.locator("#turn-2 .step.call")
    call.locator("summary").first.click()
    expect(call).to_contain_text("Idempotency key")
    speaking = page.locator("#speaking")
    for attempt, said in ((1, "I th"), (1, "ink <b>"), (2, "No: \u202e\u3164")):
        say(host, workflow_id, attempt, said)
        shown = {"ink <b>": "I think <b>", "No: \u202e\u3164": r"No: \u202e\u3164"}
        expect(speaking).to_have_text(shown.get(said, said))
    (tmp_path / "go").touch()
    expect(standing).to_contain_text("Completed")
    expect(speaking).to_be_hidden()
    expect(standing).to_contain_text("all done")
    expect(page.locator("#turn-3")).to_contain_text("all done")
    # What was folded out while it went on still is.
    expect(call).to_contain_text("released")
    expect(call.locator("dl").first).to_be_visible()


def test_a_run_that_has_not_begun_shows_as_it_does(host: Host, pages: Pages) -> None:
    given = {"input": {"name": "ann"}, "delay": 3600}
    workflow_id = host.post("/api/workflows/greet/runs", given).json()["workflow_id"]
    page = pages.open(f"/runs/{workflow_id}")
    expect(page.locator("#standing")).to_contain_text("Waits in the queue")
    expect(page.locator(".empty")).to_be_visible()
    expect(page.locator("#connection")).to_have_text("live")
    begin_now = "UPDATE dbos.workflow_status SET delay_until_epoch_ms = 1 WHERE workflow_uuid = %s"
    change(host.database, begin_now, workflow_id)
    expect(page.locator("#turn-1")).to_contain_text("hello ann")
    expect(page.locator("#standing")).to_contain_text("Completed")
    expect(page.locator(".empty")).to_be_hidden()


def test_a_run_that_waits_says_for_what(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("ask", target="moon")
    host.run_when(workflow_id, "interrupted")
    page = pages.open(f"/runs/{workflow_id}", java_script_enabled=False, viewport=PHONE)
    standing = page.locator("#standing")
    expect(standing).to_contain_text("Waits for a person to make a decision")
    expect(standing).to_contain_text("Launch moon")
    decide = standing.get_by_role("link", name="Decide")
    assert decide.get_attribute("href") == f"/approvals?workflow_id={workflow_id}"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel it").click()
    page.goto(f"{host.url}/runs/{workflow_id}")
    expect(page.locator("#standing")).to_contain_text(
        "Its workflow was cancelled on the page, without a login"
    )


def test_a_fork_is_made_and_compared(host: Host, pages: Pages) -> None:
    workflow_id = host.begin("greet", name="ann")
    host.output(workflow_id)
    page = pages.open(f"/runs/{workflow_id}", java_script_enabled=False)
    page.get_by_role("link", name="Fork from here").click()
    expect(page.get_by_label("Text, which a user says")).to_have_value("ann")
    page.get_by_label("Before turn").fill("7")
    page.get_by_label("this instead").check()
    page.get_by_label("Text, which a user says").fill("bob")
    page.get_by_role("button", name="Fork").click()
    expect(page.locator(".problem")).to_contain_text("has no checkpoint before turn 7")
    expect(page.get_by_label("Text, which a user says")).to_have_value("bob")
    page.get_by_label("Before turn").fill("1")
    page.get_by_role("button", name="Fork").click()
    page.wait_for_url(lambda url: not url.endswith("/fork"))
    forked = page.url.rpartition("/")[2]
    assert host.output(forked).endswith("hello bob")
    page.reload()
    expect(page.locator("#standing")).to_contain_text("hello bob")
    page.locator("#family").get_by_role("link", name="compare").click()
    expect(page.locator(".differs")).to_contain_text(["hello bob"])
    expect(page.locator(".differs")).to_contain_text(["hello ann"])


def test_turns_of_a_long_run_are_loaded_on_demand(host: Host, pages: Pages) -> None:
    long_run(host.database, "long", turns=10_000, failed=(77,))
    page = pages.open("/runs/long")
    turns = page.locator(".turn")
    expect(turns).to_have_count(60)
    page.get_by_role("link", name="Earlier turns").click()
    expect(turns).to_have_count(120)
    expect(turns.first).to_have_id("turn-9881")
    page.get_by_role("link", name="from the first").click()
    expect(turns.first).to_have_id("turn-1")
    # Before its scripts are there, a link leads to another page.
    page.wait_for_load_state()
    page.get_by_role("link", name="Later turns").click()
    expect(turns).to_have_count(120)
    page.get_by_label("Show").select_option("what failed")
    page.get_by_role("button", name="Find").click()
    expect(turns).to_have_count(1)
    expect(turns).to_have_id("turn-77")
    page.wait_for_load_state()
    page.keyboard.press("j")
    expect(page.locator("[data-row].current")).to_have_count(1)


def test_axe_finds_nothing_serious(host: Host, pages: Pages) -> None:
    waiting, done = host.begin("ask", target="moon"), host.begin("greet", name="ann")
    host.run_when(waiting, "interrupted")
    host.output(done)
    failing = long_run(host.database, "failing", turns=3, failed=(2,))
    change(host.database, "UPDATE runs SET forked_from_run_id = id WHERE id = %s", failing)
    page = pages.open("/")
    found: dict[tuple[str, str], list[str]] = {}
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for name, path in {
        "waits": f"/runs/{waiting}",
        "completed": f"/runs/{done}",
        "failed-calls": f"/runs/{failing}",
        "fork": f"/runs/{done}/fork",
        "compare": f"/runs/{done}/compare?with={failing}",
    }.items():
        page.goto(path)
        unfold(page)
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            found[name, scheme] = serious(page)
            shot(page, f"run-{name}-desk-{scheme}")
            page.set_viewport_size(PHONE)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
            shot(page, f"run-{name}-phone-{scheme}")
            page.set_viewport_size(DESK)
    assert {key: problems for key, problems in found.items() if problems} == {}


def test_a_host_that_dies_under_an_open_page(
    own_host: Host, browser: Browser, tmp_path: Path
) -> None:
    own_host.environment["TIMESTEP_PORT"] = str(free_port())
    workflow_id = own_host.start().begin("work", folder=str(tmp_path))
    pages = Pages(browser, own_host)
    page = pages.open(f"/runs/{workflow_id}")
    expect(page.locator("#standing")).to_contain_text("Calls hold")
    own_host.signal(signal.SIGKILL)
    own_host.ended()
    expect(page.locator("#connection")).to_contain_text("not connected")
    own_host.start()
    expect(page.locator("#connection")).to_have_text("live")
    mark = page.locator("#turn-2 .step.recovery")
    # Two answers and one call.
    expect(mark).to_contain_text("3 steps were not repeated")
    (tmp_path / "go").touch()
    expect(page.locator("#standing")).to_contain_text("all done")
    assert lines(tmp_path, "notes") == ["noted"]
    pages.close()
    assert pages.wrong == []


def test_the_documented_reader_is_told_of_a_run(host: Host, pages: Pages) -> None:
    page = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text()
    example = page.partition("```js\n")[2].partition("```")[0]
    assert "EventSource" in example
    workflow_id = host.begin("greet", name="ann")
    seen = pages.open("/").evaluate(
        f"""(id) => new Promise((resolve) => {{
            const seen = [];
            const show = (event) => seen.push(event.type);
            {example}
            source.addEventListener("end", () => resolve(seen));
        }})""",
        workflow_id,
    )
    assert (seen[0], seen[-1]) == ("run.started", "run.completed")
    assert "message_output_item" in seen
