"""Reads problem documents."""

from __future__ import annotations

import httpx


def problem(answer: httpx.Response, status: int) -> str:
    """The detail of an answer that must be a problem document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) - {"errors", "changes"} == {"type", "title", "status", "detail"}
    assert body["status"] == status
    return str(body["detail"])
