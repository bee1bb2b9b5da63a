"""The list of the SDK's tests that fail here by the nature of durability is short and explained."""

from __future__ import annotations

from pathlib import Path

LIST = Path(__file__).parent / "conformance_differences.txt"


def test_each_difference_is_a_test_and_has_a_reason() -> None:
    lines = [line for line in LIST.read_text().splitlines() if not line.startswith("#")]
    found = [line.partition(" # ") for line in lines]
    ids = [id_ for id_, _, _ in found]
    assert all(id_.startswith("tests/") and "::" in id_ and " " not in id_ for id_ in ids)
    assert all(reason.endswith(".") for _, _, reason in found)
    assert ids == sorted(set(ids))
    assert len(ids) < 10
