"""Knows who a caller is by the secret that is sent: a token, or the cookie of a login."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Literal

from timestep.config import Role, Settings, Token
from timestep.errors import DatabaseError
from timestep.operations.access import logins, tokens
from timestep.operations.access.acting import NOBODY, Actor

_HOLDS = 1.0
"""Seconds for which an answer of the database is taken for true: a token that was revoked is none
after them, in every host."""
_KEPT = 10_000
"""Answers, and addresses, that are kept at most."""
_LONG = 32
"""Characters from which on one of `TIMESTEP_API_TOKENS` is taken for one that nobody guesses."""
_NETWORK = 64
"""Bits of an IPv6 address that its user cannot choose."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request: a token's bearer, or the browser of a login with one."""

    name: str
    role: Role
    token_id: str | None
    """The token's, if it is in the database."""
    secret: str = field(repr=False)
    """The token or the cookie that was sent."""
    is_login: bool = False
    """Whether that is a cookie, which a browser sends with what other sites' pages ask for."""


@dataclass(frozen=True)
class Wrong:
    """A token was sent that is none."""

    seconds: float | None
    """Until the address may send one that can be guessed; None: it may."""


@dataclass(frozen=True)
class _Answer:
    until: float
    """The time, as `time.monotonic` gives it, up to which it holds."""
    row: Any


class Callers:
    """Asks the database about secrets: once for all who ask meanwhile, and not again for a second.

    However many requests come, with whatever they send: one connection, and one thread, is used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._are_asked = bool(settings.api_tokens) or not settings.is_loopback()
        self._open_until = 0.0
        self._answers: dict[bytes | str, _Answer] = {}
        self._wrong: dict[str, tuple[int, float]] = {}
        """How many wrong tokens came from where, as far as this host knows, and until when that
        counts."""
        self._waiting: dict[bytes | str, asyncio.Future[Any]] = {}
        self._looks: asyncio.Task[None] | None = None
        self._counts = asyncio.Lock()

    @property
    def are_asked(self) -> bool:
        """Whether callers need a token, as far as it is known. Once they do, they always do."""
        return self._are_asked

    async def ask(self) -> bool:
        """Whether callers need a token: some are set, or made, or other machines reach this.

        Raises:
            DatabaseError: That cannot be known now.
        """
        if not self._are_asked and time.monotonic() >= self._open_until:
            await self._look("")
        return self._are_asked

    async def of_token(
        self, secret: str, address: str | None, how: Literal["bearer", "form"]
    ) -> Caller | Wrong:
        """Who sends a token.

        Wrong ones are counted by the address. Past a limit those that can be guessed are refused,
        right or not; others are as right as ever, so that nobody is locked out by who shares the
        address.

        Raises:
            DatabaseError: That cannot be known now.
        """
        place = place_of(address)
        token = self._of_settings(
            lambda known: hmac.compare_digest(
                logins.as_bytes(known.secret.get_secret_value()), logins.as_bytes(secret)
            )
        )
        if token is not None:
            left = None if len(secret) >= _LONG else await self._left(place)
            return Wrong(left) if left is not None else _of(token, secret)
        if tokens.has_form(secret):
            row = await self._look(tokens.hash_of(secret))
            if row is not None:
                return Caller(row["name"], row["role"], str(row["id"]), secret)
        return Wrong(await self._count(place, address, how))

    async def of_cookie(self, cookie: str) -> Caller | None:
        """Whose login a cookie is.

        Raises:
            DatabaseError: That cannot be known now.
        """
        if not logins.has_form(cookie):
            return None
        row = await self._look(tokens.hash_of(cookie))
        if row is None:
            return None
        if row["proof"] is None:
            return Caller(row["name"], row["role"], str(row["id"]), cookie, is_login=True)
        proof = bytes(row["proof"])
        token = self._of_settings(
            lambda known: hmac.compare_digest(proof, logins.proof_of(cookie, known))
        )
        return None if token is None else _of(token, cookie, is_login=True)

    async def is_still(self, caller: Caller | None) -> bool:
        """Whether a caller may still call: no token was revoked or has expired, no login ended.

        While the database is away it is as it was: nothing can be read meanwhile, either.
        """
        try:
            if caller is None:
                return not await self.ask()
            if caller.is_login:
                return await self.of_cookie(caller.secret) == caller
            if caller.token_id is None:
                return True  # Settings do not change while a host runs.
            return await self._look(tokens.hash_of(caller.secret)) is not None
        except DatabaseError:
            return True

    def shown(self, caller: Caller) -> str | Token:
        """The id of the token in the database that a caller has, or that of the settings."""
        if caller.token_id is not None:
            return caller.token_id
        return next(one for one in self._settings.api_tokens if one.name == caller.name)

    def forget(self, secret: str) -> None:
        """Ask anew about a secret from now on."""
        self._answers.pop(tokens.hash_of(secret), None)

    def _of_settings(self, is_it: Callable[[Token], bool]) -> Token | None:
        found = None
        # Every one is compared, so that the time tells nothing.
        for token in self._settings.api_tokens:
            if is_it(token):
                found = token
        return found

    async def _left(self, place: str) -> float | None:
        """The seconds until guesses from a place are taken again; None: they are."""
        now = time.monotonic()
        attempts, until = self._wrong.get(place, (0, 0.0))
        if attempts >= logins.WRONG and now < until:
            return until - now
        try:
            seconds: float | None = await self._look(place)
        except DatabaseError:
            return None  # Then this host's own count is all there is.
        return seconds

    async def _count(self, place: str, address: str | None, how: str) -> float | None:
        """Count a wrong token; the seconds until the next is taken, if this one was too much."""
        async with self._counts:
            now = time.monotonic()
            attempts, until = self._wrong.get(place, (0, 0.0))
            if now >= until:
                attempts, until = 0, now + logins.SPAN
            elif attempts >= logins.WRONG:
                return until - now
            _keep(self._wrong, place, (attempts + 1, until))
            attempts, seconds = await asyncio.to_thread(logins.note_wrong, place, address, how)
            _keep(self._wrong, place, (attempts, now + seconds))
            self._answers.pop(place, None)
            return seconds if attempts > logins.WRONG else None

    async def _look(self, key: bytes | str) -> Any:
        """What the database says of a secret's hash, or of a place, which is text."""
        answer = self._answers.get(key)
        if answer is not None and time.monotonic() < answer.until:
            return answer.row
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._looks is None or self._looks.done():
                self._looks = asyncio.create_task(self._look_all())
        found = await asyncio.shield(future)
        if isinstance(found, Exception):
            raise found
        return found

    async def _look_all(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            hashes = [key for key in asked if isinstance(key, bytes)]
            places = [key for key in asked if isinstance(key, str) and key]
            began = time.monotonic()
            try:
                known = await asyncio.to_thread(tokens.known, hashes, places, logins.WRONG)
            except Exception as error:  # noqa: BLE001  # told to all who wait
                for future in asked.values():
                    future.set_result(error)
                continue
            self._are_asked |= known.are_there
            self._open_until = began + _HOLDS
            for key, future in asked.items():
                row: Any
                if isinstance(key, bytes):
                    row = known.usable.get(key)
                    left = None if row is None else row["seconds"]
                    seconds = _HOLDS if left is None else min(_HOLDS, left)
                else:
                    row, seconds = known.over_limit.get(key), _HOLDS
                if row is not None or isinstance(key, str):
                    _keep(self._answers, key, _Answer(began + seconds, row))
                else:
                    self._answers.pop(key, None)
                future.set_result(row)


def actor_of(caller: Caller | None, address: str | None, path: str) -> Actor:
    """Who acts by a request for a path: what is not the API's is a page's."""
    is_page = not path.startswith("/api/")
    if caller is None:
        return Actor(NOBODY, "http", address=address, is_page=is_page)
    return Actor(caller.name, "http", caller.role, caller.token_id, address, is_page)


def place_of(address: str | None) -> str:
    """What of an address its user cannot choose: wrong tokens from there count together."""
    try:
        found: IPv4Address | IPv6Address = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "elsewhere"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> _NETWORK << _NETWORK)}/{_NETWORK}"
    return str(found)


def _of(token: Token, secret: str, *, is_login: bool = False) -> Caller:
    return Caller(token.name, token.role, None, secret, is_login)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep a value as the newest; the oldest is let go of where there are too many."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]
