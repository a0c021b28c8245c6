"""Shared attributes: a client that subscribed them hears what operators change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from connectors.iot.mqtt.topics import ATTRIBUTES, GATEWAY_ATTRIBUTES
from hub.sdk.errors import HubError

if TYPE_CHECKING:
    from connectors.iot.mqtt.house import House
    from connectors.iot.mqtt.serving import Serving

ROUND_SECONDS = 3.0
_PAUSE_SECONDS = 0.005
"""Between two look-ups: a large fleet makes the round longer, not the store busier."""

log = logging.getLogger("connectors.iot.mqtt")


async def tell_shared_attributes(house: House) -> None:
    """Look after every subscriber in turn, until cancelled."""
    while True:
        await asyncio.sleep(ROUND_SECONDS)
        serving = [one.serving for one in house.connections if one.serving is not None]
        for one in serving:
            for topic, device in list(_watched(one)):
                try:
                    await _look_after(house, one, topic, device)
                except HubError:
                    house.port.count("mqtt", "unanswered")
                except Exception as error:
                    log.error("shared attributes could not be told", exc_info=error)
                await asyncio.sleep(_PAUSE_SECONDS)


def _watched(serving: Serving) -> Iterator[tuple[str, str]]:
    """The topic and the device ("" is the client itself) of what a client wants to hear."""
    listens = serving.session.listens
    for topic in ATTRIBUTES:
        if listens(topic):
            yield topic, ""
            break
    if serving.sender.gateway and listens(GATEWAY_ATTRIBUTES):
        for device in serving.session.devices:
            yield GATEWAY_ATTRIBUTES, device


async def _look_after(house: House, serving: Serving, topic: str, device: str) -> None:
    values = await house.port.shared_attributes(serving.sender, device, None)
    told = serving.session.told
    before = told.get(device)
    if before == values or serving.session.connection is None:
        return
    told[device] = values
    if before is not None:  # the first look only learns what there is: the client asked for it
        for data in _changes(before, values):
            body = {"device": device, "data": data} if topic == GATEWAY_ATTRIBUTES else data
            serving.answer(topic, orjson.dumps(body))


def _changes(before: dict[str, Any], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    changed = {k: v for k, v in values.items() if k not in before or before[k] != v}
    gone = [key for key in before if key not in values]
    if changed:
        yield changed
    if gone:
        yield {"deleted": gone}
