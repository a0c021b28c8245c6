"""Topics of the ThingsBoard device and gateway API: what a message on them is, and filters."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from hub.sdk.telemetry import Decode

ATTRIBUTES = ("v1/devices/me/attributes", "v2/a", "v2/a/j")
"""Where a device reads what operators set for it."""
GATEWAY_ATTRIBUTES = "v1/gateway/attributes"
GATEWAY_ATTRIBUTES_ANSWER = "v1/gateway/attributes/response"

LONGEST_FILTER = 512
_LONGEST_ID = 64


class Action(Enum):
    KEEP = auto()
    IGNORE = auto()
    ASK_ATTRIBUTES = auto()
    ASK_DEVICE_ATTRIBUTES = auto()
    ASK_RPC = auto()
    REFUSE = auto()


class Route(NamedTuple):
    """What to do with a message; `decode` reads it, `answer` is where its answer goes."""

    action: Action
    format: str = ""
    decode: Decode | None = None
    gateway: bool = False
    answer: str = ""


REFUSED = Route(Action.REFUSE)

_KEPT = {
    "v1/devices/me/telemetry": "iot.thingsboard",
    "v2/t": "iot.thingsboard",
    "v2/t/j": "iot.thingsboard",
    "v1/devices/me/attributes": "iot.thingsboard_attributes",
    "v2/a": "iot.thingsboard_attributes",
    "v2/a/j": "iot.thingsboard_attributes",
    "v1/gateway/connect": "iot.gateway_connect",
    "v1/gateway/disconnect": "iot.gateway_disconnect",
    "v1/gateway/telemetry": "iot.thingsboard_gateway",
    "v1/gateway/attributes": "iot.thingsboard_gateway_attributes",
}
_IGNORED = ("v1/devices/me/claim", "v1/gateway/rpc", "v1/gateway/claim")
_ASKED = {
    "v1/devices/me/attributes/request/": Action.ASK_ATTRIBUTES,
    "v1/devices/me/rpc/request/": Action.ASK_RPC,
    "v1/devices/me/rpc/response/": Action.IGNORE,
}


class Routes:
    """Finds the route of a topic. `decoders` must have the formats that are kept."""

    def __init__(self, decoders: Mapping[str, Decode]) -> None:
        self._exact = {
            topic: Route(Action.KEEP, name, decoders[name], _of_gateway(topic))
            for topic, name in _KEPT.items()
        }
        for topic in _IGNORED:
            self._exact[topic] = Route(Action.IGNORE, gateway=_of_gateway(topic))
        self._exact["v1/gateway/attributes/request"] = Route(
            Action.ASK_DEVICE_ATTRIBUTES, gateway=True, answer=GATEWAY_ATTRIBUTES_ANSWER
        )

    def find(self, topic: str) -> Route:
        return self._exact.get(topic) or _asked(topic)


def _of_gateway(topic: str) -> bool:
    return topic.startswith("v1/gateway/")


def _asked(topic: str) -> Route:
    for prefix, action in _ASKED.items():
        if topic.startswith(prefix):
            name = topic[len(prefix) :]
            if not name or "/" in name or len(name) > _LONGEST_ID:
                break
            return Route(action, answer=prefix.replace("/request/", "/response/") + name)
    return REFUSED


# --- filters ----------------------------------------------------------------------------------


def is_filter(given: str) -> bool:
    """Whether it is a filter of MQTT, and not longer than anyone needs."""
    if not given or len(given) > LONGEST_FILTER:
        return False
    levels = given.split("/")
    wild = [level for level in levels if "+" in level or "#" in level]
    return all(level in ("+", "#") for level in wild) and "#" not in levels[:-1]


def matches(given: str, topic: str) -> bool:
    """Whether the filter takes the topic. No topic of ours begins with `$`."""
    if given == topic:
        return True
    wanted, levels = given.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        one in ("+", level) for one, level in zip(wanted, levels, strict=True)
    )
