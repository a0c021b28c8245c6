"""That a client came or went, as a message: the sender itself is online or offline."""

from __future__ import annotations

from hub.sdk.telemetry import Decoded, Details, Message, Refused, Sender, State

FORMAT = "iot.connection"

_STATES = (b"online", b"offline")


def presence(sender: Sender, state: str, now_ms: int) -> Message:
    """`state` is online or offline."""
    return Message(sender, FORMAT, state.encode(), now_ms)


def decode_presence(body: bytes, details: Details, received_at: int) -> Decoded:
    """See `hub.sdk.telemetry.Decode`."""
    if body not in _STATES:
        return Decoded(refused=[Refused(-1, "malformed", "neither online nor offline")])
    return Decoded(states=[State("", body.decode(), received_at)])
