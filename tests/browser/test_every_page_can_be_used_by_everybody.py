"""Each page, light and dark, at a desk and on a phone: nothing hinders anybody, and pictures of it.

`SCREENSHOTS=folder pytest tests/browser -k screenshots` keeps pictures of all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.crash.harness import database
from tests.support.browser import DESK, PHONE, Pages, serious, shot
from tests.support.every_page import DESK_JOBS, Shown, show
from tests.support.host_process import Host, project

SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def host(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One with agents that hand over to each other."""
    folder = project(tmp_path_factory.mktemp("every-page"))
    (folder / "workflows" / "desk.py").write_text(DESK_JOBS)
    with database(server, f"pages_{os.getpid()}", template) as url:
        served = Host(folder, url)
        try:
            yield served.start()
        finally:
            served.close()


@pytest.fixture(scope="module")
def shown(host: Host) -> Shown:
    """What the pages have to show."""
    return show(host)


def test_nothing_hinders_anybody(host: Host, shown: Shown, pages: Pages) -> None:
    found: list[str] = []
    page = pages.open("/login", reduced_motion="reduce")
    for name, path in shown.paths().items():
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")
        page.goto(path)
        found += [f"{name}: {problem}" for problem in serious(page)]
        page.emulate_media(color_scheme="dark")
        found += [f"{name}, dark: {problem}" for problem in serious(page, "color-contrast")]
        page.set_viewport_size(PHONE)
        if (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
            found.append(f"{name} is {width} wide on a phone")
    assert found == []


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS names no folder")
def test_screenshots_of_every_page(host: Host, shown: Shown, pages: Pages) -> None:
    for scheme in SCHEMES:
        for place, viewport in (("desk", DESK), ("phone", PHONE)):
            page = pages.open("/login", color_scheme=scheme, viewport=viewport)
            for name, path in shown.paths().items():
                page.goto(path)
                shot(page, f"{name}-{place}-{scheme}")
            page.close()
