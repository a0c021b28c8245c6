"""A real HTTP server on loopback that plays a vendor and misbehaves on request."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import msgspec

from hub.sdk.testing.control import control
from hub.sdk.testing.faults import HANDLED, Fault
from hub.sdk.testing.messages import Request, Response, decode_json
from hub.sdk.testing.misbehaving import Misbehaving
from hub.sdk.testing.ways import End, script
from hub.sdk.testing.wire import Wire

Handler = Callable[[Request], Response]

CONTROL = "/_fake/"


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler


class FakeServer(Misbehaving):
    """Use as a context manager, or `start()` and `stop()`.

    A vendor's fake subclasses it, registers handlers with `route` and overrides `state`. Handlers
    run one at a time (`lock` is held), so their state is always consistent. Over HTTP the same
    control is offered under `/_fake/`: see `control.py`.
    """

    def __init__(self, port: int = 0, *, seed: int = 0) -> None:
        super().__init__(port, seed)
        self._exact: dict[tuple[str, str], _Route] = {}
        self._patterns: list[_Route] = []
        self._stopped = threading.Event()
        self._links: dict[socket.socket, threading.Thread] = {}
        self._links_lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    # --- life ---------------------------------------------------------------------------------

    def _begin(self, listener: socket.socket) -> None:
        self._stopped.clear()
        self._listener = listener
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name=f"fake-{self._port}", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """Close every socket and join every thread; waits under way end at once."""
        self._stopped.set()
        if self._listener is not None:
            _shut(self._listener)
            self._listener.close()
            self._listener = None
        if self._acceptor is not None:
            self._acceptor.join(5)
            self._acceptor = None
        with self._links_lock:
            links = list(self._links.items())
        for link, _ in links:
            _shut(link)
        for _, thread in links:
            thread.join(5)

    # --- for the vendor's fake ----------------------------------------------------------------

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Let `handler` answer `method` on `path`; `{name}` in the path matches one segment."""
        parts = re.split(r"\{(\w+)\}", path)
        texts = [re.escape(p) if i % 2 == 0 else f"(?P<{p}>[^/]+)" for i, p in enumerate(parts)]
        route = _Route(method.upper(), path, re.compile("".join(texts)), handler)
        if len(parts) == 1:
            self._exact[(route.method, path)] = route
        else:
            self._patterns.append(route)

    def config(self) -> dict[str, Any]:
        """Settings of a connection that talks to this fake, secrets in plain."""
        return {"base_url": self.url}

    # --- serving ------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                link, _ = listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            with self._links_lock:
                self._links[link] = thread
            thread.start()

    def _serve(self, link: socket.socket) -> None:
        wire = Wire(link, self._stopped)
        try:
            while not self._stopped.is_set():
                request = wire.read(self._now)
                if request is None or not self._one(wire, request):
                    return
        except (OSError, ValueError):
            return  # the other side hung up or sent nonsense
        finally:
            link.close()
            with self._links_lock:
                self._links.pop(link, None)

    def _one(self, wire: Wire, request: Request) -> bool:
        """Answer one request; False when the connection must be closed."""
        if request.path.startswith(CONTROL):
            wire.answer(request, control(self, request))
            return True
        request, handler = self._find(request)
        self._note(request)
        acts = self._faults.take(request, only_first=True)
        if not acts:
            wire.answer(request, self._handle(handler, request))
            return _stays(request)
        fault = acts[0].fault
        response = self._handle(handler, request) if fault in HANDLED else Response()
        if fault is Fault.DUPLICATE_REQUEST:
            response = self._handle(handler, request)
        try:
            steps = script(acts[0], request, response)
        except ValueError as error:
            problem = f"{request.method} {request.path}: the answer is not fit for {fault.value}"
            self.failures.append(f"{problem}: {error}")
            steps = [End.CLOSE]
        return wire.perform(steps, request, response) and _stays(request)

    def _handle(self, handler: Handler, request: Request) -> Response:
        try:
            return self._handled(handler, request)
        except msgspec.DecodeError as error:
            return Response(400, json={"error": f"the body is not JSON: {error}"})
        except Exception as error:  # noqa: BLE001 (whatever breaks must reach the test's author)
            self.failures.append(f"{request.method} {request.path}: {error!r}")
            return Response(500, json={"error": repr(error)})

    def _handled(self, handler: Handler, request: Request) -> Response:
        with self.lock:
            response = handler(request)
        for change in self._altered.take(request, only_first=False):
            changed = change(decode_json(response.content()), request)
            response = replace(response, json=changed, body=None)
        return response

    def _find(self, request: Request) -> tuple[Request, Handler]:
        exact = self._exact.get((request.method, request.path))
        if exact is not None:
            return replace(request, route=exact.template), exact.handler
        raw = request.target.partition("?")[0]  # a quoted slash is part of a name, not a separator
        for route in self._patterns:
            found = route.pattern.fullmatch(raw)
            if found is not None and route.method == request.method:
                params = {name: unquote(part) for name, part in found.groupdict().items()}
                return replace(request, route=route.template, params=params), route.handler
        return request, _not_found


def _not_found(request: Request) -> Response:
    return Response(404, json={"error": "not found", "path": request.path})


def _stays(request: Request) -> bool:
    """Whether the other side wants to use the connection again."""
    return request.headers.get("connection", "").lower() != "close"


def _shut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already closed
