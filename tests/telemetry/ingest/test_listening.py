"""Listeners run on a loop of their own; one that cannot start ends the server with one line."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from hub.sdk.errors import ConfigError
from hub.telemetry.listening import Listening


class Echo:
    """A little server."""

    def __init__(self, name: str, trouble: Exception | None = None) -> None:
        self.name = name
        self.trouble = trouble
        self.log: list[str] = []
        self._server: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.log.append(threading.current_thread().name)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._task = asyncio.create_task(asyncio.sleep(3600))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.log.append("stopped")

    def status(self) -> dict[str, Any]:
        return {"log": list(self.log)}

    async def _serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()


def test_listeners_run_until_they_are_stopped() -> None:
    one, two = Echo("one"), Echo("two")
    listening = Listening([one, two])
    listening.start()
    assert listening.status() == {"one": {"log": one.log}, "two": {"log": two.log}}
    listening.stop()
    assert one.log == two.log == ["hub-listeners", "stopped"]
    assert not [one for one in threading.enumerate() if one.name == "hub-listeners"]
    listening.stop()


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (ConfigError("serve.port_busy", host="h", port=1, reason="in use"), "serve.port_busy"),
        (OSError("in use"), "telemetry.listener"),
    ],
)
def test_when_one_cannot_start_none_runs(trouble: Exception, code: str) -> None:
    good = Echo("good")
    listening = Listening([good, Echo("bad", trouble)])
    with pytest.raises(ConfigError) as raised:
        listening.start()
    assert raised.value.code == code
    assert good.log == ["hub-listeners", "stopped"]
    assert listening.status() == {}


def test_without_listeners_there_is_no_thread() -> None:
    listening = Listening([])
    listening.start()
    assert listening.status() == {}
    listening.stop()
