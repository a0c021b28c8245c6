"""What a flow reads: a stream of a connection, or an event of its webhook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hub.engine.flows import Flow
from hub.sdk.hooks import event_of

if TYPE_CHECKING:
    from hub.engine.hub import Hub


def key_fields(hub: Hub, flow: Flow) -> Sequence[str]:
    """The fields that together name a row of the flow's source. Raises ConfigError."""
    session = hub.session(flow.source.connection)
    if flow.source.event is not None:
        return event_of(session.connection, flow.source.event).key
    return session.stream(flow.source.stream_name).key
