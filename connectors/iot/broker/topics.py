"""Plain topics: which messages are kept, and with what a decoder needs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import NamedTuple

from connectors.iot.broker.filters import Filter, first_match, parse_filter
from connectors.iot.broker.keeping import Surely, keep_when_there_is_room
from connectors.iot.broker.link import Incoming, Subscription
from connectors.iot.entries import sender_details
from hub.sdk.telemetry import RETAINED, Message, Port, Sender
from hub.sdk.telemetry_source import Broker, TelemetrySource, Topic

_MOST_TOPICS = 20_000
_ONE_DEVICE = ("iot.thingsboard", "iot.thingsboard_attributes")


class _Reading(NamedTuple):
    """How the messages of a topic are kept."""

    format: str
    details: Mapping[str, str]
    sender: Sender


class Topics:
    """The declared topics of a source. Raises ConfigError for a filter that cannot be."""

    def __init__(self, port: Port, source: TelemetrySource, broker: Broker) -> None:
        self._port = port
        self._source = source.source
        self._zone = source.zone
        self._topics = broker.topics
        self._share = broker.share if broker.slots > 1 else None
        self._filters: list[Filter] = [
            parse_filter(one.filter, source.source) for one in broker.topics
        ]
        self._known: dict[tuple[str, bool], _Reading] = {}

    def subscriptions(self) -> list[Subscription]:
        """What to ask the broker for; the same filter twice is asked for once."""
        share = f"$share/{self._share}/" if self._share else ""
        once = {
            one.pattern: Subscription(share + one.pattern, one.identifier) for one in self._filters
        }
        return list(once.values())

    def take(self, message: Incoming) -> Awaitable[object] | None:
        """Keep the message. Raises TransientError when it cannot be, at once or when awaited."""
        found = first_match(self._filters, message.topic, message.subscriptions)
        if found is None or found.copy or not message.body:
            # Not ours (any more), there is a second delivery, or only a retained message is undone.
            outcome = "unmapped" if found is None else "copy" if found.copy else "empty"
            self._port.count("broker", outcome)
            return None
        place = (message.topic, message.retained)
        reading = self._known.get(place)
        if reading is None:
            reading = self._reading(self._topics[found.number], found.captures, message)
            if len(self._known) >= _MOST_TOPICS:
                self._known.clear()
            self._known[place] = reading
        self._port.count("broker", "received")
        kept = Message(
            reading.sender, reading.format, message.body, self._port.now_ms(), reading.details
        )
        return (
            keep_when_there_is_room(self._port, kept) if message.qos else Surely(self._port, kept)
        )

    def _reading(self, topic: Topic, captures: Mapping[str, str], message: Incoming) -> _Reading:
        kind = topic.format if "." in topic.format else f"iot.{topic.format}"
        sender = Sender(self._source, "", gateway=True)
        if kind in _ONE_DEVICE and captures.get("device"):
            sender = Sender(self._source, captures["device"])
        details = {**sender_details(sender, self._zone), **topic.details, "topic": message.topic}
        details |= {f"capture.{name}": value for name, value in captures.items()}
        if topic.mapping is not None:
            details["mapping"] = topic.mapping.model_dump_json(exclude_defaults=True)
        if message.retained:
            details[RETAINED] = "1"
        return _Reading(kind, details, sender)
