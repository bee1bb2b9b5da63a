"""An API whose database has no tokens, for tests that need no database."""

from __future__ import annotations

import pytest

from timestep.operations.access import logins, tokens
from timestep.operations.access.tokens import Known


@pytest.fixture
def no_tokens_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the database is, it says that no tokens are in it, and counts no wrong ones."""
    monkeypatch.setattr(tokens, "known", lambda *asked: Known({}, {}, False))
    monkeypatch.setattr(logins, "note_wrong", lambda *asked: (1, 300.0))
