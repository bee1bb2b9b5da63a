"""Spares Python's garbage collector looking through what stays until the process ends."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


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


def keep_all() -> None:
    """Have Python's collector pass over what is there now, which stays until the process ends."""
    gc.freeze()
