"""Spares Python's garbage collector looking through what stays until the process ends."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_USUAL = gc.get_threshold()
_MANY = 100_000
"""New objects until the collector looks through the youngest of them."""


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing meanwhile: imports make many objects, of which next to none is dropped."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def seldom() -> Iterator[None]:
    """Collect seldom meanwhile, and nothing at the end of the process: a command soon ends."""
    gc.set_threshold(_MANY, *_USUAL[1:])
    try:
        yield
    finally:
        as_usual()
        keep_all()


def as_usual() -> None:
    """Collect as Python does by itself, from now on: a host stays."""
    gc.set_threshold(*_USUAL)


def keep_all() -> None:
    """Have Python's collector pass over what is there now, which stays until the process ends."""
    gc.freeze()
