"""The web pages, made on the server. Text of models, tools and people in them is text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """The page that a template makes of values, each of which it has to be given.

    Args:
        template: A file of `templates/`.
        status: Of the answer.
        values: What the template names.
    """
    return HTMLResponse(_templates.get_template(template).render(values), status)
