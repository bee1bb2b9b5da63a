"""A thread looks after something while there is something, and nothing is left lying."""

from __future__ import annotations

import threading

from timestep.runtime.attendant import Attendant


class Post:
    """Letters that an attendant delivers; it waits while it has none, until it is told to end."""

    def __init__(self) -> None:
        self.letters: list[str] = []
        self.delivered: list[tuple[str, int]] = []
        self.is_kept = False
        """Whether the thread stays where there is no letter."""
        self.ended = threading.Semaphore(0)
        self.attendant = Attendant("post", self._deliver)

    def put(self, letter: str) -> None:
        with self.attendant.changed:
            self.letters.append(letter)
            self.attendant.wake()
            self.attendant.changed.notify_all()

    def _deliver(self) -> None:
        with self.attendant.changed:
            while self.letters or (self.is_kept and not self.attendant.is_closed):
                while self.letters:
                    self.delivered.append((self.letters.pop(0), threading.get_ident()))
                if self.is_kept:
                    self.attendant.changed.wait_for(
                        lambda: bool(self.letters or self.attendant.is_closed)
                    )
            self.attendant.leave()
        self.ended.release()


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_the_thread_ends_with_the_last_and_begins_anew() -> None:
    post = Post()
    assert "post" not in names()
    for letter in ("a", "b"):
        post.put(letter)
        assert post.ended.acquire(timeout=60)
    post.attendant.close()
    assert [letter for letter, _ in post.delivered] == ["a", "b"]


def test_there_is_one_thread_and_closing_waits_for_its_end() -> None:
    post = Post()
    post.is_kept = True
    for letter in "abc":
        post.put(letter)
    post.attendant.close()
    assert [letter for letter, _ in post.delivered] == ["a", "b", "c"]
    assert len({thread for _, thread in post.delivered}) == 1
    assert "post" not in names()
    post.attendant.close()
