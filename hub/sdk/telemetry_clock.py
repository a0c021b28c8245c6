"""Whether a device's clock can be believed: the same answer for a face and for the projector."""

from __future__ import annotations

from typing import Literal

from hub.sdk.telemetry_source import ClockPolicy

CLOCK_UNSET_BEFORE = 946_684_800_000
"""2000-01-01 in milliseconds. A clock that is earlier was never set."""


def clock_trouble(
    ts: int, received_at: int, policy: ClockPolicy
) -> Literal["", "clock_unset", "future"]:
    """Why a reading of time `ts` is refused, "" when it is not. Milliseconds."""
    if ts < CLOCK_UNSET_BEFORE:
        return "clock_unset"
    return "future" if ts > kept_until(received_at, policy) else ""


def kept_until(received_at: int, policy: ClockPolicy) -> float:
    """The last time that a reading may have; infinite where later ones get that of the receipt."""
    if policy.future_policy == "receive_time":
        return float("inf")
    return received_at + int(policy.future * 1000)
