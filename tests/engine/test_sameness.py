"""Values that went through another system and still say the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.engine.sameness import form, forms, same

SAME: list[tuple[Any, Any]] = [
    (Decimal("12.50"), 12.5),
    (Decimal("12.50"), "12.5"),
    (Decimal("-0.00"), 0),
    (Decimal("1E+3"), "1000"),
    (7, "7"),
    ("7", 7),
    (True, "true"),
    (True, 1),
    (False, "False"),
    (None, ""),
    (None, "   "),
    (" 上海 ", "上海"),
    ("e\u0301", "é"),
    ("2026-11-20T02:11:12Z", "2026-11-20T10:11:12+08:00"),
    ("2026-11-20T02:11:12.597000Z", "2026-11-20 02:11:12+00:00"),
    (["b", "a"], ["a", "b"]),
    ([{"no": 1, "qty": Decimal("2.0")}], [{"qty": "2", "no": 1, "note": None}]),
]
OTHER: list[tuple[Any, Any]] = [
    ("007", 7),
    ("1.10", "1.1"),
    (Decimal("12.51"), "12.5"),
    (0, None),
    (False, None),
    (True, 2),
    ("a", "A"),
    ("a b", "ab"),
    ("2026-11-20T02:11:12Z", "2026-11-20T02:11:12+08:00"),
    (["a"], ["a", "a"]),
    ([], ["a"]),
    ({"a": 1}, {"a": 2}),
    ("true", "false"),
]


@pytest.mark.parametrize(("ours", "theirs"), SAME, ids=repr)
def test_these_say_the_same(ours: Any, theirs: Any) -> None:
    assert form(ours) in forms(theirs)
    assert same(ours, theirs)


@pytest.mark.parametrize(("ours", "theirs"), OTHER, ids=repr)
def test_these_do_not(ours: Any, theirs: Any) -> None:
    assert form(ours) not in forms(theirs)
    assert not same(ours, theirs)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.decimals()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_is_the_same_as_itself_whatever_it_is(value: Any) -> None:
    assert form(value) in forms(value)
    assert 1 <= len(forms(value)) <= 3
