from __future__ import annotations

import pytest

from hub.sdk.telemetry_clock import CLOCK_UNSET_BEFORE, clock_trouble
from hub.sdk.telemetry_source import ClockPolicy

NOW = 1_795_593_600_000


@pytest.mark.parametrize(
    ("ts", "trouble"),
    [
        (0, "clock_unset"),
        (CLOCK_UNSET_BEFORE - 1, "clock_unset"),
        (CLOCK_UNSET_BEFORE, ""),
        (NOW, ""),
        (NOW + 300_000, ""),
        (NOW + 300_001, "future"),
    ],
)
def test_a_clock_is_believed_from_2000_to_five_minutes_ahead(ts: int, trouble: str) -> None:
    assert clock_trouble(ts, NOW, ClockPolicy()) == trouble


def test_how_far_ahead_is_the_sources_choice() -> None:
    assert clock_trouble(NOW + 1_001, NOW, ClockPolicy(future=1)) == "future"
    at_receipt = ClockPolicy(future=1, future_policy="receive_time")
    assert clock_trouble(NOW + 10**9, NOW, at_receipt) == ""
    assert clock_trouble(5, NOW, at_receipt) == "clock_unset"
