"""When to try again: the schedule of a message, and the rest an unwell endpoint gets."""

from __future__ import annotations

from random import Random

SCHEDULE = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
"""Seconds between the tries of one message."""

TRIES = len(SCHEDULE) + 1
JITTER = 0.1
LONGEST_HOLD = 300.0
"""Seconds an endpoint that is unwell is left alone at most, unless it asks for more."""

SHORTEST_ASKED, LONGEST_ASKED = 1.0, 86_400.0
"""Bounds of an endpoint's own `Retry-After`."""

OUTAGE_MS = 300_000
"""A failure longer than this was an outage: what waited for later is sent when it ends."""

DAY_MS = 86_400_000
DISABLE_AFTER_MS = 5 * DAY_MS
"""An endpoint that has taken nothing for so long, in spite of tries, is disabled."""


def wait_after(tries: int, random: Random) -> float:
    """Seconds until the next try of a message that failed `tries` times."""
    return _step(tries) * random.uniform(1 - JITTER, 1 + JITTER)


def hold_after(failures: int) -> float:
    """Seconds nothing is sent to an endpoint that failed so often in a row.

    Never longer than the wait of a message that failed as often.
    """
    return min(_step(failures) * (1 - JITTER), LONGEST_HOLD)


def bounded(asked: float) -> float:
    """The `Retry-After` of an endpoint within what we obey."""
    return min(max(asked, SHORTEST_ASKED), LONGEST_ASKED)


def _step(number: int) -> float:
    return SCHEDULE[min(max(number, 1), len(SCHEDULE)) - 1]
