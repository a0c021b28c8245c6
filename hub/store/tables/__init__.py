"""The hub's own tables. Portable on purpose: see `tests/store/test_portable.py` for the rules.

Times are UTC milliseconds since 1970 (`…_at`); JSON is text; searched facts have their own column.
"""

from __future__ import annotations

from hub.store.tables.base import LongText, metadata
from hub.store.tables.deliveries import delivery, drain, intent
from hub.store.tables.edges import (
    inbox,
    message,
    message_attempt,
    subscription,
    subscription_position,
)
from hub.store.tables.flows import (
    agreement,
    flow_state,
    link,
    record,
    run,
    sequence,
    stage,
    waiting,
)
from hub.store.tables.letters import audit, dead_letter, replay
from hub.store.tables.processes import breaker, executor, place, rate_gate, secret

__all__ = [
    "LongText",
    "agreement",
    "audit",
    "breaker",
    "dead_letter",
    "delivery",
    "drain",
    "executor",
    "flow_state",
    "inbox",
    "intent",
    "link",
    "message",
    "message_attempt",
    "metadata",
    "place",
    "rate_gate",
    "record",
    "replay",
    "run",
    "secret",
    "sequence",
    "stage",
    "subscription",
    "subscription_position",
    "waiting",
]
