"""What is done with the packets of a client that was admitted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from connectors.iot.mqtt import answers
from connectors.iot.mqtt.asking import (
    Answer,
    Unreadable,
    attributes_of_a_device,
    device_attributes,
    named_device,
)
from connectors.iot.mqtt.flight import Flight
from connectors.iot.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    Publish,
    Subscribe,
    Unsubscribe,
)
from connectors.iot.mqtt.topics import Action, Route
from connectors.iot.mqtt.wire import V5, Property, Reason, broken
from connectors.iot.session_limits import rpc_answer
from hub.sdk.errors import HubError
from hub.sdk.telemetry import Decoded, Message, Port, Refused, Sender

if TYPE_CHECKING:
    from connectors.iot.mqtt.connection import Connection
    from connectors.iot.mqtt.house import House
    from connectors.iot.mqtt.session import Session

_NEVER = 0xFFFFFFFF
_NOTHING = Decoded()

log = logging.getLogger("connectors.iot.mqtt")
_LARGEST_PAYLOAD, _MOST_IN_FLIGHT = 65_536, 100
"""What a client is told to keep to, at most."""
_SAID = 80
"""Characters of a topic that a reason quotes."""


class Serving:
    """`handle` raises ContractBroken when the client breaks the protocol, and HubError when a
    message cannot be kept."""

    def __init__(
        self, connection: Connection, house: House, session: Session, packet: Connect, expiry: int
    ) -> None:
        self.session = session
        self.expiry = expiry
        self.sender: Sender = session.sender
        self._connection, self._house = connection, house
        self._port: Port = house.port
        self._version = packet.version
        self._largest = packet.values.get(Property.MAXIMUM_PACKET, _NEVER)
        self.flight = Flight(
            packet.version,
            house.options.receive_maximum,
            send=self._send,
            failed=connection.give_up,
            relieved=self._relieved,
        )
        self._others: dict[type, Callable[..., None]] = {
            Subscribe: self._subscribe,
            Unsubscribe: self._unsubscribe,
            PingReq: self._ping,
            PubAck: self._ignore,
            Disconnect: self._disconnect,
        }

    def handle(self, packet: Packet) -> None:
        if type(packet) is Publish:
            self._publish(packet)
        else:
            self._others[type(packet)](packet)

    def answer(self, topic: str, body: bytes) -> bool:
        """Send a message, if the client subscribed its topic and can take one of this size."""
        packet = answers.publish(self._version, topic, body)
        if not self.session.listens(topic) or len(packet) > self._largest:
            self._port.count("mqtt", "unsent")
            return False
        self._send(packet)
        return True

    def ended(self) -> None:
        """The connection is over."""
        self.flight.stop()

    # --- messages -----------------------------------------------------------------------------

    def _publish(self, publish: Publish) -> None:
        qos = publish.qos
        if qos == 2:
            raise broken(Reason.QOS, "QoS 2 is not offered; send with QoS 1")
        if qos:
            self.flight.check(publish)
        route = self._house.routes.find(publish.topic)
        if route.gateway and not self.sender.gateway:
            detail = f"{publish.topic} needs the credential of a gateway"
            self._quarantine(publish, route, Reason.NOT_AUTHORIZED, [_unsupported(detail)])
        elif route.action is Action.KEEP:
            self._keep(publish, route)
        elif route.action is Action.IGNORE:
            self.flight.add(publish, None)
        elif route.action is Action.REFUSE:
            detail = f"no topic of the device or gateway API: {publish.topic[:_SAID]}"
            self._quarantine(publish, route, Reason.TOPIC, [_unsupported(detail)])
        else:
            self._ask(publish, route)

    def _keep(self, publish: Publish, route: Route) -> None:
        """The message is kept raw; it is decoded here only to tell the client what is wrong."""
        now, body = self._port.now_ms(), publish.payload
        assert route.decode is not None  # noqa: S101 - every route that keeps has one
        try:
            decoded = route.decode(body, {}, now)
        except Exception as error:  # sent again it would fail again: the projector judges it
            log.error("a message on %s could not be decoded", publish.topic, exc_info=error)
            decoded = _NOTHING
        if decoded.refused and _is_useless(decoded):
            self._quarantine(publish, route, Reason.PAYLOAD_FORMAT, decoded.refused)
            return
        self.flight.add(publish, self._port.keep(Message(self.sender, route.format, body, now)))
        if route.format == "iot.gateway_connect":
            self._note(body, self.session.joined)
        elif route.format == "iot.gateway_disconnect":
            self._note(body, self.session.left)

    def _note(self, body: bytes, note: Callable[[str], None]) -> None:
        device = named_device(body)
        if device is not None:
            note(device)

    def _quarantine(
        self, publish: Publish, route: Route, reason: Reason, refused: list[Refused]
    ) -> None:
        """It would never be read: acknowledged, and kept where an operator sees it."""
        name = route.format or "iot.thingsboard"
        message = Message(self.sender, name, publish.payload, self._port.now_ms())
        self._port.count("mqtt", "refused")
        self.flight.add(publish, self._port.refuse(message, refused), reason)

    # --- questions ----------------------------------------------------------------------------

    def _ask(self, publish: Publish, route: Route) -> None:
        if route.action is Action.ASK_RPC:
            self._answer_call(publish, route)
            return
        look_up = (
            device_attributes if route.action is Action.ASK_ATTRIBUTES else attributes_of_a_device
        )
        try:
            answer = look_up(self._port, self.sender, publish.payload)
        except Unreadable as error:
            refused = [Refused(-1, "malformed", str(error))]
            self._quarantine(publish, route, Reason.PAYLOAD_FORMAT, refused)
            return
        self.flight.add(publish, self._look_up(route.answer, answer))

    def _answer_call(self, publish: Publish, route: Route) -> None:
        options = self._house.options
        largest = min(_LARGEST_PAYLOAD, options.max_packet)
        most = min(_MOST_IN_FLIGHT, options.receive_maximum)
        answer = rpc_answer(publish.payload, largest=largest, in_flight=most)
        if answer is None:
            refused = [Refused(-1, "malformed", "no call {method, params}")]
            self._quarantine(publish, route, Reason.PAYLOAD_FORMAT, refused)
            return
        self.answer(route.answer, answer)
        self.flight.add(publish, None)

    async def _look_up(self, topic: str, answer: Answer) -> None:
        """Nothing is kept of a question: when there is no answer now, the client asks again."""
        try:
            self.answer(topic, await answer)
        except HubError:
            self._port.count("mqtt", "unanswered")
        except Exception as error:  # asked again it would fail again
            log.error("a question could not be answered", exc_info=error)

    # --- the rest -----------------------------------------------------------------------------

    def _subscribe(self, packet: Subscribe) -> None:
        new = self._version == V5
        subscribe = self.session.subscribe
        reasons = [subscribe(given, options & 3, shared=new) for given, options in packet.filters]
        self._send(answers.suback(self._version, packet.packet_id, reasons))

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        reasons = [self.session.unsubscribe(given) for given in packet.filters]
        self._send(answers.unsuback(self._version, packet.packet_id, reasons))

    def _ping(self, packet: PingReq) -> None:
        self._send(answers.PINGRESP)

    def _ignore(self, packet: PubAck) -> None:
        """All we send is of QoS 0; who acknowledges it does no harm."""

    def _disconnect(self, packet: Disconnect) -> None:
        expiry = packet.values.get(Property.SESSION_EXPIRY)
        if expiry is not None:
            if expiry and not self.expiry:
                raise broken(Reason.PROTOCOL, "a session of 0 s cannot be made longer at its end")
            self.expiry = expiry
        self.flight.flush()
        self._connection.close()

    def _send(self, data: bytes) -> None:
        if not self._connection.is_closed:
            self._connection.transport.write(data)

    def _relieved(self, number: int) -> None:
        self._port.count("mqtt", "messages", number)
        self._connection.pump()


def _is_useless(decoded: Decoded) -> bool:
    """Refused as a whole. Where a part is good the message is kept, and the rest refused later."""
    return any(one.place == -1 for one in decoded.refused) and not (
        decoded.samples or decoded.texts or decoded.attributes or decoded.states
    )


def _unsupported(detail: str) -> Refused:
    return Refused(-1, "unsupported", detail)
