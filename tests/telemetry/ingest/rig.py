"""A face as small as can be, the hub that serves it, and devices that send to it."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from hub.api.app import create_app
from hub.api.front import Front, open_front
from hub.api.server import listen, server_config
from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.sdk.errors import AuthError, TransientError
from hub.sdk.telemetry import HttpAnswer, HttpRequest, Message, Port, Sender
from hub.store.database import Store
from hub.store.telemetry.credentials import add_token
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from hub.store.telemetry.inbox import StoredMessage, last_seqs, read_after

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "token-of-pump-7"
LARGEST = 300_000

_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")
_STATUS = {
    "telemetry.too_large": 413,
    "telemetry.slow": 408,
    "telemetry.gzip": 400,
    "telemetry.encoding": 415,
    "telemetry.headers": 431,
    "telemetry.disk_full": 507,
    "telemetry.unknown_sender": 401,
    "telemetry.failed": 500,
}


class TinyFace:
    """`POST /tiny/TOKEN` keeps the body; `GET /tiny/TOKEN` waits for a second."""

    name = "tiny"
    largest = LARGEST

    def __init__(self, port: Port) -> None:
        self._port = port

    def takes(self, method: str, path: str) -> bool:
        return path.startswith("/tiny/")

    async def admit(self, request: HttpRequest) -> Sender | None:
        sender = await self._port.admit_token(request.path.split("/")[2])
        if sender is None:
            raise AuthError("telemetry.unknown_sender")
        return sender

    async def answer(self, request: HttpRequest, sender: Sender | None) -> HttpAnswer:
        assert sender is not None
        if request.method == "GET":
            await asyncio.sleep(1)
            return HttpAnswer(204)
        if request.body == b"break":
            raise ZeroDivisionError
        key = request.headers.get("x-key", "")
        message = Message(sender, "tiny.json", request.body, self._port.now_ms(), key=key)
        receipt = await self._port.keep(message)
        told = {"seq": receipt.seq, "duplicate": receipt.duplicate, "part": receipt.part}
        return HttpAnswer(
            200, json.dumps(told).encode(), headers={"X-Size": str(len(message.body))}
        )

    def refuse(self, request: HttpRequest, error: Exception) -> HttpAnswer:
        code = getattr(error, "code", "none")
        status = _STATUS.get(code, 503 if isinstance(error, TransientError) else 500)
        if "refuse-breaks" in request.query:
            raise KeyError(code)
        return HttpAnswer(status, json.dumps({"code": code}).encode())


class Plant:
    """A deployment with one device that has `TOKEN`."""

    def __init__(self, folder: Path, store_url: str | None = None) -> None:
        self.folder = folder
        create_deployment(folder)
        settings = 'language = "en"\n[telemetry]\nprojectors = 0\n'
        if store_url is not None:
            settings += f'[store]\nurl = "{store_url}"\n'
        (folder / "hub.toml").write_text(settings, encoding="utf-8")
        self.url = store_url or f"sqlite:///{folder}/telemetry.db"
        self.inbox_url = store_url or f"sqlite:///{folder}/telemetry-inbox.db"
        store = open_telemetry(self.url)
        with store.transaction() as connection:
            add_token(connection, TOKEN, Sender("iot", "pump-7"), 1)
        store.close()

    def kept(self) -> list[bytes]:
        """Every body of the inbox, part by part."""
        store = open_telemetry_inbox(self.inbox_url)
        try:
            return [one.body for one in messages(store)]
        finally:
            store.close()


def messages(store: Store) -> list[StoredMessage]:
    """All messages of an inbox, part by part."""
    with store.reading() as connection:
        parts = sorted(last_seqs(connection))
        found = [read_after(connection, part, 0, 10**9, 10**6) for part in parts]
    return list(itertools.chain.from_iterable(found))


@dataclass
class Edge:
    """A hub in this process, its way in, and the port it is reached at."""

    hub: Hub
    front: Front
    port: int

    def kept(self) -> list[bytes]:
        return [one.body for one in messages(self.hub.telemetry.inbox)]


@contextmanager
def edge(plant: Plant) -> Iterator[Edge]:
    """The tiny face of an opened hub on a real socket, on a thread of its own."""
    with (
        open_hub(plant.folder) as hub,
        open_front(hub, listen=False) as front,
        listen("127.0.0.1", 0) as listener,
    ):
        front.http[:] = [TinyFace(front.port)]
        server = uvicorn.Server(server_config(create_app(hub, front)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Edge(hub, front, int(listener.getsockname()[1]))
        finally:
            server.should_exit = True
            thread.join(20)


@dataclass
class Served:
    """A `hub serve` process with the tiny face."""

    process: subprocess.Popen[str]
    port: int


@contextmanager
def serving(plant: Plant, *options: str) -> Iterator[Served]:
    """A real server process; killed at the end of the block."""
    command = [sys.executable, "-m", "tests.telemetry.ingest.serve_tiny"]
    command += ["--dir", str(plant.folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    reader: threading.Thread | None = None
    try:
        port = _port(process)
        reader = threading.Thread(target=process.stderr.read)  # its log must not fill the pipe
        reader.start()
        yield Served(process, port)
    finally:
        process.kill()
        process.wait(20)
        if reader is not None:
            reader.join(20)
        process.stderr.close()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := _URL.search(line):
            return int(found[1])
    raise AssertionError(f"the server did not start: {said}")


# --- devices ----------------------------------------------------------------------------------


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


@dataclass
class Device:
    """One device over one connection that it keeps."""

    port: int
    path: str = f"/tiny/{TOKEN}"
    _http: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, body: bytes | Iterator[bytes], method: str = "POST", **headers: str) -> Answer:
        """A request; underscores of header names become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        chunked = not isinstance(body, bytes)
        self._http.request(method, self.path, body, named, encode_chunked=chunked)
        found = self._http.getresponse()
        content = found.read()
        return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, content)


def send(port: int, body: bytes = b"{}", path: str = f"/tiny/{TOKEN}", **headers: str) -> Answer:
    """One message over a connection of its own."""
    with Device(port, path) as device:
        return device.send(body, **headers)


@dataclass
class Crowd:
    """Many devices at once; `thanked` holds what they were thanked for."""

    port: int
    devices: int = 16
    name: str = "w"
    thanked: set[bytes] = field(default_factory=set)
    refused: list[Answer] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self) -> Iterator[Crowd]:
        threads = [threading.Thread(target=self._send, args=(at,)) for at in range(self.devices)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in threads:
                thread.join(40)

    def _send(self, device_no: int) -> None:
        with suppress(OSError, http.client.HTTPException), Device(self.port) as device:
            for number in itertools.count():
                if self._end.is_set():
                    return
                body = json.dumps({"at": f"{self.name}-{device_no}-{number}"}).encode()
                answer = device.send(body)
                if answer.status == 200:
                    self.thanked.add(body)
                else:
                    self.refused.append(answer)
