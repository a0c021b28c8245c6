"""A deployment that receives webhooks, and senders that speak HTTP over real sockets."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn

from hub.api.app import create_app
from hub.api.server import listen, server_config
from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.store.database import open_store
from hub.store.tables import inbox

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-the-desk"
HOOK = {
    "verify": {
        "kind": "hmac",
        "old_secret": "old_hook_secret",
        "header": "X-Signature",
        "timestamp": "X-Timestamp",
        "id": "X-Event",
        "sign": "{timestamp}.{id}.{body}",
    },
    "rate": 100_000,
    "max_bytes": 100_000,
    "events": {"ticket": {"key": ["id"]}},
}
FLOW = """\
flow: tickets
from: {connection: desk, event: ticket}
mapping: {key: [id], fields: {id: id, name: name}}
to: {entity: ticket}
"""

_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")
_IDS = itertools.count(1)


class Desk:
    """A deployment with the connections `desk` and `other`, both signed with `SECRET`."""

    def __init__(self, folder: Path, store_url: str | None = None) -> None:
        self.folder = folder
        create_deployment(folder)
        settings = 'language = "en"\n'
        if store_url is not None:
            settings += f'[store]\nurl = "{store_url}"\n'
        (folder / "hub.toml").write_text(settings, encoding="utf-8")
        self.store_url = store_url or f"sqlite:///{folder}/hub.db"
        self.connections: dict[str, Any] = {}
        for name in ("desk", "other"):
            self.connect(name)

    def connect(self, name: str, **hook: Any) -> None:
        """Add a connection, or change how its webhook is received."""
        secret = self.folder / f"{name}.secret"
        if not secret.exists():
            secret.write_text(SECRET, encoding="utf-8")
        self.connections[name] = {
            "connector": "rest",
            "config": {"base_url": "http://127.0.0.1:9", "hook_secret": f"file:{secret}"},
            "envelope": {"ok": {"path": "$", "is": "present"}},
            "hook": {**HOOK, **hook},
        }
        self.write()

    def write(self) -> None:
        """Write `connections.yaml` as an editor does."""
        text = json.dumps(self.connections, indent=1)  # JSON is YAML without aliases
        (self.folder / "connections.yaml").write_text(text, encoding="utf-8")

    def write_flow(self) -> None:
        """Let a flow read the events of `desk`."""
        path = self.folder / "mappings" / "flows" / "tickets.yaml"
        path.write_text(FLOW, encoding="utf-8")

    def kept(self, name: str = "desk") -> dict[str, bytes | None]:
        """Every event of the inbox and its body, while no hub has it open."""
        store = open_store(self.store_url)
        try:
            with store.reading() as connection:
                return inbox_rows(connection, name)
        finally:
            store.close()


def inbox_rows(connection: sa.Connection, name: str = "desk") -> dict[str, bytes | None]:
    """The inbox of a connection: bodies by id, in the order of their numbers."""
    statement = sa.select(inbox.c.event_id, inbox.c.body).where(inbox.c.connection_id == name)
    found = connection.execute(statement.order_by(inbox.c.event_no))
    return {row[0]: None if row[1] is None else bytes(row[1]) for row in found}


# --- servers ----------------------------------------------------------------------------------


@dataclass
class Edge:
    """A hub in this process and the port it is reached at."""

    hub: Hub
    port: int

    def kept(self, name: str = "desk") -> dict[str, bytes | None]:
        with self.hub.store.reading() as connection:
            return inbox_rows(connection, name)


@contextmanager
def edge(desk: Desk, *, jobs: bool = False) -> Iterator[Edge]:
    """The API of an opened hub on a real socket, on a thread of its own."""
    with open_hub(desk.folder, jobs=jobs) as hub, listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(server_config(create_app(hub)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Edge(hub, int(listener.getsockname()[1]))
        finally:
            server.should_exit = True
            thread.join(20)


@dataclass
class Served:
    """A `hub serve` process and the port it is reached at."""

    process: subprocess.Popen[str]
    port: int

    def kill(self) -> None:
        """SIGKILL, and nothing of it is left when this returns."""
        self.process.kill()
        self.process.wait(20)


@contextmanager
def serving(desk: Desk, *options: str) -> Iterator[Served]:
    """A real `hub serve`; killed at the end of the block."""
    command = [sys.executable, "-m", "hub.cli", "--dir", str(desk.folder), "serve", "--port", "0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, cwd=ROOT)
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
    raise AssertionError(f"hub serve did not start: {said}")


# --- senders ----------------------------------------------------------------------------------


@dataclass
class Answer:
    """What the hub answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The stable code of a problem document."""
        return str(json.loads(self.body)["code"])


def signed(
    body: bytes, event_id: str, *, secret: str = SECRET, stamp: float | None = None
) -> dict[str, str]:
    """The headers of an event as `HOOK` wants them."""
    moment = str(int(time.time() if stamp is None else stamp))
    text = b".".join((moment.encode(), event_id.encode(), body))
    signature = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    headers = {"X-Event": event_id, "X-Timestamp": moment, "X-Signature": signature}
    return {"Content-Type": "application/json", **headers}


def new_id() -> str:
    """An id no event of this session has had."""
    return f"E-{next(_IDS)}"


@dataclass
class Sender:
    """One sender over one connection that it keeps."""

    port: int
    path: str = "/hooks/desk"
    _http: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, body: bytes | Iterator[bytes], headers: dict[str, str]) -> Answer:
        """Any request. Raises OSError or HTTPException when no answer comes."""
        chunked = not isinstance(body, bytes)
        self._http.request(method, self.path, body, headers, encode_chunked=chunked)
        found = self._http.getresponse()
        content = found.read()
        return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, content)

    def send(self, body: bytes, event_id: str | None = None, **how: Any) -> Answer:
        """A signed event."""
        return self.ask("POST", body, signed(body, event_id or new_id(), **how))


def send(port: int, body: bytes = b'{"id": 1}', event_id: str | None = None, **how: Any) -> Answer:
    """One signed event over a connection of its own."""
    with Sender(port, how.pop("path", "/hooks/desk")) as sender:
        return sender.send(body, event_id, **how)


@dataclass
class Crowd:
    """Many senders at once; `thanked` holds the body of every event they were thanked for."""

    port: int
    senders: int = 24
    name: str = "w"
    thanked: dict[str, bytes] = field(default_factory=dict)
    refused: list[Answer] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self) -> Iterator[Crowd]:
        """All send, one event after another, until the block ends or no answer comes."""
        threads = [threading.Thread(target=self._send, args=(at,)) for at in range(self.senders)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in threads:
                thread.join(40)

    def _send(self, sender_no: int) -> None:
        with suppress(OSError, http.client.HTTPException), Sender(self.port) as sender:
            for number in itertools.count():
                if self._end.is_set():
                    return
                event_id = f"{self.name}-{sender_no}-{number}"
                body = json.dumps({"id": event_id, "name": "上海"}, ensure_ascii=False).encode()
                answer = sender.send(body, event_id)
                if answer.status == 200:
                    self.thanked[event_id] = body
                else:
                    self.refused.append(answer)


def raw(port: int, request: bytes, seconds: float = 20) -> bytes:
    """Whatever comes back for these bytes until the hub closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as link:
        with suppress(ConnectionError):
            link.sendall(request)
        parts = []
        with suppress(ConnectionError):
            while part := link.recv(65_536):
                parts.append(part)
    return b"".join(parts)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
