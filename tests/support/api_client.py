"""Asks the API of an application in this process, as somebody at an address does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
from fastapi import FastAPI

from timestep import config
from timestep.web.app import create_app

OWN = "http://127.0.0.1"


def client_of(app: FastAPI, address: str = "192.0.2.1") -> httpx.AsyncClient:
    """A client, with cookies of its own, at an address."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1234))
    return httpx.AsyncClient(transport=transport, base_url=OWN)


def asking(work: Callable[[FastAPI], Awaitable[None]], app: FastAPI | None = None) -> None:
    """Do `work` with an application as the settings are now."""

    async def run() -> None:
        await work(app or create_app(config.read(), {}))

    asyncio.run(run())


def sends(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"authorization": f"Bearer {token}"}
