"""What an application is made of is made when it is made, and not by its first requests."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from starlette.routing import Match

from timestep import config
from timestep.web.app import create_app

PATHS = ("/api/runs/x", "/api/workflows/x/runs", "/api/audit", "/approvals", "/nothing")


def test_routes_are_whole_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 may fail to parse (SystemError) while it collects garbage, as a host does."""
    app = create_app(config.read(), {})
    parsed: list[Any] = []
    parse = ast.parse

    def counted(*given: Any, **named: Any) -> Any:
        parsed.append(given)
        return parse(*given, **named)

    monkeypatch.setattr(ast, "parse", counted)
    for path in PATHS:
        scope: dict[str, Any] = {"type": "http", "path": path, "root_path": "", "headers": []}
        methods = [{**scope, "method": method} for method in ("GET", "POST")]
        found = [route.matches(one)[0] for route in app.routes for one in methods]
        assert (Match.FULL in found) is (path != "/nothing")
    assert parsed == []
