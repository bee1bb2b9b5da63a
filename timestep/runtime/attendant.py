"""Looks after something in a thread of its own, which is there only while there is something."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Attendant:
    """A thread that begins when there is something to look after, and ends when there is no more.

    Args:
        name: The name of the thread.
        attend: What the thread does. Before it returns it calls `leave`, in the very block of
            `changed` in which it saw that there is nothing left, so that nothing is put there
            between the two.
    """

    def __init__(self, name: str, attend: Callable[[], None]) -> None:
        self.changed = threading.Condition()
        """Guards what is looked after. The thread waits on it, if it waits."""
        self.is_closed = False
        """Whether the thread is to end, and nothing more is to be looked after."""
        self._name = name
        self._attend = attend
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Begin the thread unless it goes on. Call it with `changed` held, unless it is closed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._attend, name=self._name, daemon=True)
            self._thread.start()

    def leave(self) -> None:
        """Let the next `wake` begin a new thread. The thread calls it, with `changed` held."""
        self._thread = None

    def close(self) -> None:
        """End the thread, and wait for its end; call it without `changed` held."""
        with self.changed:
            self.is_closed = True
            thread = self._thread
            self.changed.notify_all()
        if thread is not None:
            thread.join()
