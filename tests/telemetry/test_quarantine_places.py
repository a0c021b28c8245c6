"""Where a page of the quarantine goes on is told by a text that anybody may write."""

from __future__ import annotations

import pytest

from hub.engine.operations.telemetry import _place
from hub.sdk.errors import ConfigError


@pytest.mark.parametrize("text", ["", "x", "1-2-3", "1-2-3---5", "1-2-3-", "1-2-3--", "a-b-c-d"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="place"):
        _place(text)


@pytest.mark.parametrize(
    ("text", "place"), [("9-1-7-0", (9, 1, 7, 0)), ("9-1-7--1", (9, 1, 7, -1))]
)
def test_a_place_is_read_back(text: str, place: tuple[int, ...]) -> None:
    assert _place(text) == place
