"""What publishes to a broker that the hub reads: a device with QoS 1, and a Sparkplug edge node."""

from __future__ import annotations

import threading
import time
from typing import Any

import paho.mqtt.client as paho

from connectors.iot.sparkplug.payload import parse_payload
from tests.connectors.iot.brokers import sender
from tests.connectors.iot.edge import bd_seq, payload
from tests.telemetry.kills.journal import METRIC, Journal, Reading
from tests.telemetry.kills.senders import Sender, thingsboard_body

_DOUBLE = 10
_ALIAS = 7


class BrokerSender(Sender):
    """Acknowledged is what the broker has: it must come to the hub, now or later.

    `window` messages are published at once.
    """

    def __init__(
        self, journal: Journal, url: str, size: int = 5, pause: float = 0.004, window: int = 1
    ) -> None:
        super().__init__("broker", journal, size, pause)
        self.url, self.window = url, window

    def work(self) -> None:
        with sender(self.url) as client:
            while not self.last.is_set():
                topic = f"tb/{self.journal.name}/telemetry"
                made = [self.journal.take(self.size) for _ in range(self.window)]
                sent = [client.publish(topic, thingsboard_body(one), qos=1) for one in made]
                for readings, one in zip(made, sent, strict=True):
                    one.wait_for_publish(30)
                    self.journal.acknowledge(readings)
                time.sleep(self.pause)


class EdgeNode(Sender):
    """A Sparkplug node (`group/edge` is its journal's name), QoS 0: nothing is acknowledged.

    Published readings count as acknowledged once `sure` is set: while the hub lives and has the
    birth, nothing gets lost on one machine.
    """

    def __init__(self, journal: Journal, url: str, size: int = 5, pause: float = 0.01) -> None:
        super().__init__("sparkplug", journal, size, pause)
        self.url = url
        self.births = 0
        self.published = 0
        self.sure = threading.Event()
        self._group, _, self._edge = journal.name.partition("/")
        self._rebirth = threading.Event()
        self._asked = threading.Event()
        self._seq = 0

    @property
    def kept(self) -> int:
        """Published ones: there is nothing else to see."""
        return self.published

    def forget_demands(self) -> None:
        """Those of a hub that is dead."""
        self._asked.clear()

    def await_rebirth(self, seconds: float) -> None:
        """Until the hub has asked for a birth (it is connected then), and got it."""
        until = time.monotonic() + seconds
        assert self._asked.wait(seconds), "the hub asked for no rebirth"
        while self._rebirth.is_set() and time.monotonic() < until:
            time.sleep(0.01)

    def work(self) -> None:
        with sender(self.url) as client:
            client.on_message = self._commanded
            client.subscribe(f"spBv1.0/{self._group}/NCMD/{self._edge}")
            self._birth(client)
            while not self.last.is_set():
                if self._rebirth.is_set():
                    self._birth(client)
                    self._rebirth.clear()
                self._data(client)
                time.sleep(self.pause)

    def _commanded(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        for metric in parse_payload(message.payload).metrics:
            if bytes(metric.name) == b"Node Control/Rebirth" and metric.boolean_value:
                self._rebirth.set()
                self._asked.set()

    def _birth(self, client: paho.Client) -> None:
        readings = self.journal.take(1)
        self._seq = 0
        self.births += 1
        self._publish(client, "NBIRTH", [bd_seq(0), *_metrics(readings, name=METRIC)], readings)

    def _data(self, client: paho.Client) -> None:
        readings = self.journal.take(self.size)
        self._publish(client, "NDATA", _metrics(readings), readings)

    def _publish(
        self, client: paho.Client, kind: str, metrics: list[dict[str, Any]], made: list[Reading]
    ) -> None:
        sure = self.sure.is_set()
        topic = f"spBv1.0/{self._group}/{kind}/{self._edge}"
        body = payload(*metrics, seq=self._seq, timestamp=int(time.time() * 1000))
        client.publish(topic, body, qos=0).wait_for_publish(30)
        self._seq = (self._seq + 1) % 256
        self.published += len(made)
        if sure:
            self.journal.acknowledge(made)


def _metrics(readings: list[Reading], **more: Any) -> list[dict[str, Any]]:
    common = {"alias": _ALIAS, "datatype": _DOUBLE, **more}
    return [{**common, "timestamp": ts, "double_value": float(n)} for n, ts in readings]
