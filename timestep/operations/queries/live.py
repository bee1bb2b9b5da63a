"""Reads what becomes visible of runs once for all who read it here, and hands it to each.

A reader has a place, and room for one page. In each round one query asks for what comes after the
places of those that have room, once for readers of the same run that are at the same place: they
stay together from there on. A reader that is slow stays where it is, and is not asked for; one
that is gone is forgotten. So a round, and the memory of a reader, do not depend on how many read
the same, or how long one takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from timestep.journal.fail_fast_read import reading
from timestep.operations.queries import follow
from timestep.operations.queries.follow import ALL, Place, Target
from timestep.operations.queries.records import RunEvent, Status
from timestep.operations.queries.rows import status_of
from timestep.runtime import logs
from timestep.store.reads import run_changes
from timestep.store.streams import Followed

_log = logs.logger()

_ROWS = 200
"""Changes of all runs that are read at once."""
_TOGETHER = 100
"""Pages that one query reads: all of them are in memory then."""
_PAUSE_AFTER_FAILURE = 1.0
"""Seconds until the database is asked again that refused."""

End = Literal["over", "deleted", "unreadable", "stopping"]
"""Why nothing more comes: the run is over, was deleted, has a row that cannot be read, or the
process stops and the reader goes on elsewhere, or later."""


@dataclass(frozen=True)
class Entry:
    """An event as it is sent."""

    place: Place
    sent: bytes


@dataclass(frozen=True)
class Page:
    """What a reader is handed."""

    entries: Sequence[Entry] = ()
    place: Place | None = None
    """Where it stands after them; None: where it stood."""
    is_more: bool = False
    """Whether what follows them is there already."""
    end: End | None = None
    """Why nothing follows them, if that is so."""
    status: Status | None = None
    """How the run, or the workflow, ended that is over."""


class Reader:
    """Somebody who reads. Made by `Readers.reading`."""

    def __init__(self, target: Target, place: Place | None, wanted: asyncio.Event) -> None:
        self.target = target
        self.place = place
        """The last that it was handed; None: it begins with what comes from now on."""
        self.is_behind = True
        """Whether there may be something for it already."""
        self.is_gone = False
        """Whether nobody takes what it is handed."""
        self._wanted = wanted
        self._page: Page | None = None
        self._is_over = False
        self._woken = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether it is to be handed something."""
        return self._page is None and not self._is_over and not self.is_gone

    def hand(self, page: Page) -> None:
        """Give it what comes after its place, or after one at or before that."""
        seen = self.place
        if seen is not None and page.entries and page.entries[0].place <= seen:
            rest = [one for one in page.entries if one.place > seen]
            page = dataclasses.replace(page, entries=rest)
        self.place = page.place or seen
        self.is_behind = page.is_more
        self._is_over = page.end is not None
        if page.entries or page.end is not None or seen is None:
            self._page = page
            self._woken.set()

    def leave(self) -> None:
        """Take nothing more: its client is gone."""
        self.is_gone = True
        self._woken.set()

    async def next(self, seconds: float) -> Page | None:
        """The next page, which makes room for one more; None: none came in time, or it is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        page, self._page = self._page, None
        if self.is_behind:
            self._wanted.set()
        return page


class Readers:
    """Those who read in this process, in one event loop, and the one query that serves them all.

    Args:
        encode: Makes of an event what is sent; called in a thread, once for all who are sent it.
    """

    def __init__(self, encode: Callable[[RunEvent], bytes]) -> None:
        self._encode = encode
        self._readers: set[Reader] = set()
        self._wanted = asyncio.Event()
        """Set where somebody need not wait for the next round."""
        self._rounds: asyncio.Task[None] | None = None
        self._settled = run_changes.Settled()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._readers)

    @contextlib.contextmanager
    def reading(self, target: Target, place: Place | None) -> Iterator[Reader]:
        """Let somebody read meanwhile.

        Args:
            target: What is read.
            place: The last that was seen; None: only what comes from now on, of `ALL`.
        """
        reader = Reader(target, place, self._wanted)
        self._readers.add(reader)
        self._wanted.set()
        if self._is_closed:
            reader.hand(Page(end="stopping"))
        elif self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._go_on())
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            self._wanted.set()

    def close(self) -> None:
        """Hand everybody the end: the process stops."""
        self._is_closed = True
        self._wanted.set()
        for reader in self._readers:
            reader.hand(Page(end="stopping"))

    async def _go_on(self) -> None:
        """Make rounds while somebody reads: for all once in a while, for who is behind at once."""
        loop = asyncio.get_running_loop()
        next_look, is_failing = loop.time(), False
        thread = ThreadPoolExecutor(1, "timestep-readers")
        try:
            while self._readers and not self._is_closed:
                self._wanted.clear()
                is_time = loop.time() >= next_look
                if is_time:
                    next_look = loop.time() + follow.POLL_EVERY
                try:
                    for some in self._groups(everybody=is_time):
                        pages = await loop.run_in_executor(thread, self._pages, list(some))
                        self._hand(some, pages)
                except Exception as error:  # noqa: BLE001  # they go on once it answers
                    if not is_failing:
                        _log.warning("those who follow runs wait: %s", error)
                    is_failing = True
                    await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                    continue
                is_failing = False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_look):
                        await self._wanted.wait()
        finally:
            thread.shutdown(wait=False)

    def _groups(self, *, everybody: bool) -> list[dict[_Group, list[Reader]]]:
        """Those who can be handed something, by what they are handed; a few of that at a time."""
        found: dict[_Group, list[Reader]] = {}
        for reader in self._readers:
            if reader.has_room and (everybody or reader.is_behind):
                first = None if reader.place is None else reader.place[0]
                found.setdefault((reader.target, first), []).append(reader)
        groups = list(found.items())
        return [dict(groups[at : at + _TOGETHER]) for at in range(0, len(groups), _TOGETHER)]

    def _hand(self, groups: dict[_Group, list[Reader]], pages: Sequence[Page | None]) -> None:
        for readers, page in zip(groups.values(), pages, strict=True):
            for reader in readers:
                # It may have left meanwhile, or been handed the end.
                if page is not None and reader.has_room:
                    reader.hand(page)

    def _pages(self, groups: Sequence[_Group]) -> list[Page | None]:
        """A page for each of the groups; None: it is not known yet what comes."""
        pages: dict[_Group, Page | None] = {}
        of_runs = [(target, first) for target, first in groups if target != ALL]
        if of_runs:
            found = follow.read([Followed(*target, first or 0) for target, first in of_runs])
            for group, one in zip(of_runs, found, strict=True):
                page = self._page(one.rows, is_more=one.is_more)
                if one.is_over is None:
                    page = Page(end="deleted")
                elif one.is_over and not one.is_more and page.end is None:
                    page = dataclasses.replace(page, end="over", status=status_of(one.status))
                pages[group] = page
        if of_all := [group for group in groups if group[0] == ALL]:
            pages |= self._changes(of_all)
        return [pages[group] for group in groups]

    def _changes(self, groups: Sequence[_Group]) -> dict[_Group, Page | None]:
        firsts = [first for _, first in groups]
        last, found = reading(
            lambda connection: run_changes.read(connection, self._settled, firsts, _ROWS)
        )
        pages: dict[_Group, Page | None] = {}
        for group, rows in zip(groups, found, strict=True):
            page = self._page(rows, is_more=len(rows) == _ROWS)
            first = group[1]
            if last is not None and not page.is_more and (first is None or first <= last):
                # Those of runs that were deleted are passed by.
                page = dataclasses.replace(page, place=(last + 1, -1))
            pages[group] = page if last is not None else None
        return pages

    def _page(self, rows: Sequence[dict[str, Any]], *, is_more: bool) -> Page:
        try:
            entries = [
                Entry(follow.place_of(event.cursor), self._encode(event))
                for row in rows
                for event in follow.events_of(row)
            ]
        except Exception as error:  # noqa: BLE001  # others are served nevertheless
            _log.warning("a row of run %s cannot be told: %r", rows[0]["run_id"], error)
            return Page(end="unreadable")
        return Page(entries, follow.after_row(rows[-1]) if rows else None, is_more)


_Group = tuple[Target, int | None]
"""What is read, and from which number on; None: from now on."""
