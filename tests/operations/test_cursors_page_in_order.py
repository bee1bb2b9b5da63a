"""Pages and their cursors."""

from __future__ import annotations

import datetime
import uuid

import pytest

from timestep.errors import InvalidQueryError
from timestep.operations.queries.pagination import (
    LONGEST,
    Page,
    item_place,
    page_of,
    page_size,
    run_place,
)


def test_a_page_knows_the_place_of_its_last_item() -> None:
    page = page_of([1, 2, 3], 2, lambda item: item)
    assert page.items == [1, 2]
    assert item_place(page.next_cursor) == 2
    assert page_of([1, 2], 2, lambda item: item) == Page([1, 2], None)
    assert item_place(None) is None


def test_a_place_among_runs_is_exact() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC)
    id_ = uuid.uuid4()
    page = page_of([0, 1], 1, lambda _: [moment.isoformat(), str(id_)])
    assert page.next_cursor is not None
    assert page.next_cursor.replace("-", "").replace("_", "").isalnum()
    assert run_place(page.next_cursor) == (moment, id_)


@pytest.mark.parametrize("cursor", ["", "odd!", "bnVsbA", "W10", "ä", "LTE", "MS41", "dHJ1ZQ"])
def test_anything_else_is_no_cursor(cursor: str) -> None:
    for place in (item_place, run_place):
        with pytest.raises(InvalidQueryError, match="is not a cursor of this list"):
            place(cursor)


@pytest.mark.parametrize(
    "moment",
    ["2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"],
)
def test_a_moment_without_a_place_in_time_is_no_cursor(moment: str) -> None:
    with pytest.raises(InvalidQueryError, match="is not a cursor of this list"):
        run_place(page_of([0, 1], 1, lambda _: [moment, str(uuid.uuid4())]).next_cursor)


def test_a_page_is_not_empty_nor_endless() -> None:
    assert page_size(LONGEST) == LONGEST
    for limit in (0, LONGEST + 1):
        with pytest.raises(InvalidQueryError, match=f"limit {limit} is not between 1 and 200"):
            page_size(limit)
