"""Makes pages of templates, with what every page shows."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from timestep.config import Role
from timestep.web import auth
from timestep.web.callers import Caller, Callers
from timestep.web.pages import filters

SECTIONS = (
    ("/", "Runs"),
    ("/approvals", "Approvals"),
    ("/sessions", "Sessions"),
    ("/agents", "Agents"),
    ("/usage", "Usage"),
    ("/start", "Start"),
    ("/health", "Health"),
)
"""What every page leads to."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    # Those of this process's own version, whatever is installed meanwhile.
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(filters.FILTERS)
_templates.globals["sections"] = SECTIONS


@dataclass(frozen=True)
class Viewer:
    """Who looks at a page, as far as its template needs to know."""

    name: str | None
    """None: nobody says who it is, as the host asks for no token, or not for this page."""
    role: Role
    form_token: str
    """What each form of the page has in a field of this name; empty where none is asked."""
    is_login: bool
    """Whether a cookie says who it is, so that it can log out."""

    def lacks(self, role: Role) -> str | None:
        """Why the viewer may not do what takes this role: for a disabled button; None: it may."""
        if auth.reaches(self.role, role):
            return None
        if self.name is None:
            return f"This takes a login with the role {role}."
        return f"This takes the role {role}: {self.name} is a {self.role}."


def viewer_of(request: Request) -> Viewer:
    """Who asked for a page."""
    caller: Caller | None = request.state.caller
    if caller is None:
        callers: Callers = request.app.state.callers
        return Viewer(None, "viewer" if callers.are_asked else "admin", "", False)
    token = auth.form_token(caller) if caller.is_login else ""
    return Viewer(caller.name, caller.role, token, caller.is_login)


def page(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """The page that a template makes of values, each of which it has to be given.

    Args:
        request: What asks for it: the template has its `path`, who looks, as `viewer`, and how
            many questions are `pending`, where that is known.
        template: A file of `templates/`.
        status: Of the answer.
        values: What else the template names.
    """
    rendered = _templates.get_template(template).render(
        path=request.scope["path"],
        viewer=viewer_of(request),
        pending=getattr(request.state, "pending", None),
        now=datetime.datetime.now(datetime.UTC),
        **values,
    )
    return HTMLResponse(rendered, status)
