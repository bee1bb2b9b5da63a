"""A real Chromium, in which tests use the pages as a person does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.support.host_process import Host

DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 780}

_ARGUMENTS = (
    # Tests may be run by root, in a container without much shared memory and without a network.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
)


def chromium() -> str | None:
    """The Chromium of this machine, if it has one; `CHROMIUM` says which where it has several."""
    named = os.environ.get("CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a module, which cannot call `asyncio.run` meanwhile."""
    path = chromium()
    if path is None:
        pytest.skip("the pages' tests need Chromium, and there is none: apt-get install chromium")
    with sync_playwright() as playwright:
        # What guards against hanging alone has a minute.
        expect.set_options(timeout=60_000)
        launched = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        yield launched
        launched.close()


class Pages:
    """Opens pages of a host in contexts of their own, and notes what goes wrong in them."""

    def __init__(self, browser: Browser, host: Host) -> None:
        self._browser = browser
        self._host = host
        self._contexts: list[BrowserContext] = []
        self.wrong: list[str] = []
        """Errors of scripts, and what the policy of the pages refused."""

    def open(self, path: str, /, **options: Any) -> Page:
        """A page in a new context, whose options they are (`java_script_enabled`, `viewport`…)."""
        context = self._browser.new_context(
            base_url=self._host.url, **{"viewport": DESK, **options}
        )
        context.set_default_timeout(60_000)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda said: self.wrong.append(f"{page.url}: {said.text}") if _is_wrong(said) else None,
        )
        page.goto(path)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def _is_wrong(said: Any) -> bool:
    # A lost connection, and a status, is told by the browser itself.
    return said.type == "error" and "Failed to load resource" not in said.text


@pytest.fixture
def pages(browser: Browser, host: Host) -> Iterator[Pages]:
    """Pages of the module's host; no script fails in them, and no policy is broken."""
    opened = Pages(browser, host)
    yield opened
    opened.close()
    assert opened.wrong == [], opened.wrong


def shot(page: Page, name: str) -> None:
    """Keep a screenshot, where `SCREENSHOTS` names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Given a path, Playwright writes it in a thread that it leaves behind.
        (Path(folder) / f"{name}.png").write_bytes(page.screenshot(full_page=True))


def serious(page: Page, *rules: str) -> list[str]:
    """What axe finds in a page that keeps people from using it, each with where it is.

    Args:
        page: The page.
        rules: Axe's rules that it looks at, however much they matter; none: at all.
    """
    # What a click has led to may be there before its style is.
    page.wait_for_load_state()
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html']}"
        for one in found
        if rules or one["impact"] in ("serious", "critical")
    ]
