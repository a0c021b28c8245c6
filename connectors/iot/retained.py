"""Retained messages of a broker: how old they are, only their payload can say."""

from __future__ import annotations

from hub.sdk.telemetry import RETAINED, Decode, Decoded, Details, Sample

_NO_TIME = -(2**60)
"""Given to the decoder as the time of receipt: what comes back with it has no time of its own."""


def knows_retained(decode: Decode) -> Decode:
    """The decoder, for messages that may be retained.

    In a retained message, numbers without a time of their own are the last known values, texts
    without one are left out, and what has a time is a reading like any other.
    """

    def decode_any(body: bytes, details: Details, received_at: int) -> Decoded:
        if details.get(RETAINED) != "1":
            return decode(body, details, received_at)
        found = decode(body, details, _NO_TIME)
        timed: list[Sample] = []
        for device, metric, ts, value in found.samples:
            if ts == _NO_TIME:
                found.last_known.append(Sample(device, metric, received_at, value))
            else:
                timed.append(Sample(device, metric, ts, value))
        found.samples = timed
        found.texts = [one for one in found.texts if one[2] != _NO_TIME]
        found.states = [one for one in found.states if one[2] != _NO_TIME]
        return found

    return decode_any
