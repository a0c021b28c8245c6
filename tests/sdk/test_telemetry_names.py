"""Names of devices and metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.telemetry_names import LONGEST_NAME, is_plain_name, plain_name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (" P-7 ", "P-7"),
        ("1号\u3000泵", "1号\u3000泵"),
        ("e\u0301", "é"),
        ("a/b:c%2F", "a/b:c%2F"),
        ("👩\u200d🔧", "👩\u200d🔧"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_name_is_kept_plain(raw: str, name: str) -> None:
    assert plain_name(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        *("", " ", "\u3000", "a\0", "a\nb", "\u2028", "\ud800", "x" * 256),
        *("pump\u202e7", "\ufeffP", "P\u200b7", "P\u20667"),
    ],
)
def test_what_cannot_be_told_apart_by_eye_is_no_name(raw: str) -> None:
    assert plain_name(raw) == ""


@given(st.text(st.characters(codec=None), max_size=300))
def test_a_kept_name_is_kept_as_it_is(raw: str) -> None:
    name = plain_name(raw)
    assert len(name) <= LONGEST_NAME
    assert name == "" or is_plain_name(name)
