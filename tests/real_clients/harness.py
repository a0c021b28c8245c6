"""HTTP faces behind a real server on this machine, with a `MemoryPort` in the place of a hub.

    port = MemoryPort()
    with FaceServer(port, InfluxFace(port)) as server:
        httpx.post(f"{server.url}/write", …)

What the hub does around a face is done here in its plainest form: credentials before the body, the
limit of the body, gzip.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import zlib
from typing import Any, Self
from urllib.parse import parse_qsl

import uvicorn

from hub.sdk.errors import HubError
from hub.sdk.telemetry import HttpAnswer, HttpFace, HttpRequest
from hub.sdk.testing.telemetry import MemoryPort

_RATIO = 100
_START_SECONDS = 10.0


class FaceServer:
    """Serves the faces while it is entered; `seen` holds every request, with its body."""

    def __init__(self, port: MemoryPort, *faces: HttpFace) -> None:
        self.port = port
        self.seen: list[HttpRequest] = []
        self._faces = faces
        self._socket = socket.socket()
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                interface="asgi3",
                lifespan="off",
                log_level="error",
                ws="none",
                access_log=False,
            )
        )
        self._thread = threading.Thread(target=self._run, name="face-server")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self._thread.start()
        for _ in range(int(_START_SECONDS / 0.01)):
            if self._server.started:
                return self
            self._thread.join(0.01)
        raise TimeoutError("the server did not start")

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(_START_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        request = HttpRequest(scope["method"], scope["path"], query, headers)
        taking = [one for one in self._faces if one.takes(request.method, request.path)]
        if not taking:
            await _send(send, HttpAnswer(404))
            return
        try:
            answer = await self._answered(taking[0], request, receive)
        except Exception as error:  # noqa: BLE001  (the face says what it means)
            answer = taking[0].refuse(request, error)
        await _send(send, answer)

    async def _answered(self, face: HttpFace, request: HttpRequest, receive: Any) -> HttpAnswer:
        sender = await face.admit(request)
        raw = await _body(receive, face.largest, request.path)
        if raw and request.headers.get("content-encoding") == "gzip":
            raw = _unzipped(raw, face.largest, request.path)
        parts = (request.method, request.path, request.query, request.headers)
        whole = HttpRequest(*parts, body=raw)
        self.seen.append(whole)
        return await face.answer(whole, sender)


async def _body(receive: Any, largest: int, path: str) -> bytes:
    body, more = bytearray(), True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
        if len(body) > largest:
            raise HubError("telemetry.too_large", path=path, limit=largest)
    return bytes(body)


def _unzipped(raw: bytes, largest: int, path: str) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = unzip.decompress(raw, min(largest + 1, _RATIO * len(raw)))
    except zlib.error:
        raise HubError("telemetry.gzip", path=path, ratio=_RATIO) from None
    if len(body) > largest:
        raise HubError("telemetry.too_large", path=path, limit=largest)
    if not unzip.eof:
        raise HubError("telemetry.gzip", path=path, ratio=_RATIO)
    return body


async def _send(send: Any, answer: HttpAnswer) -> None:
    headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in answer.headers.items()]
    if answer.status != 204:
        headers.append((b"content-type", answer.media_type.encode()))
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
