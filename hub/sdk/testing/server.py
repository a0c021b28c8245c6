"""A real HTTP server on loopback that plays a vendor and misbehaves on request."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import unquote

import msgspec

from hub.sdk.testing.alterations import COMMON, NamedAlteration
from hub.sdk.testing.faults import HANDLED, Alteration, Fault, Misbehaviour, Schedule, misbehaviour
from hub.sdk.testing.messages import Request, Response, decode_json
from hub.sdk.testing.wire import Wire

Handler = Callable[[Request], Response]

CONTROL = "/_fake/"
_KEPT_REQUESTS = 50_000
_KEPT_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler


class FakeServer:
    """Use as a context manager, or `start()` and `stop()`.

    A vendor's fake subclasses it, registers handlers with `route` and overrides `state`. Handlers
    run one at a time (`lock` is held), so their state is always consistent. Over HTTP the same
    control is offered under `/_fake/`: see `control.py`.
    """

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.RLock()
        self.alterations: dict[str, NamedAlteration] = dict(COMMON)
        self.commands: dict[str, Callable[..., Any]] = {}
        self._port = port
        self._started_at = time.monotonic()
        self._exact: dict[tuple[str, str], _Route] = {}
        self._patterns: list[_Route] = []
        self._faults: Schedule[Misbehaviour] = Schedule()
        self._altered: Schedule[Alteration] = Schedule()
        self.failures: list[str] = []  # handlers that broke; leaving the `with` raises for them
        self._log: deque[Request] = deque()
        self._log_bytes = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._log_lock = threading.Lock()
        self._stopped = threading.Event()
        self._links: dict[socket.socket, threading.Thread] = {}
        self._links_lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._control: Handler = _no_control

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen on 127.0.0.1; `port` 0 takes a free one."""
        from hub.sdk.testing.control import control  # needs this module

        self._control = lambda request: control(self, request)
        self._stopped.clear()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._listener = listener
        self._port = listener.getsockname()[1]
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener,), name=f"fake-{self._port}", daemon=True
        )
        self._acceptor.start()
        return self

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

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if self.failures and kind is None:
            raise RuntimeError(f"a handler of the fake broke: {self.failures[0]}")

    @property
    def url(self) -> str:
        """The address of the running server, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

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

    def state(self) -> dict[str, Any]:
        """What the fake holds, as JSON; shown at `/_fake/state`."""
        return {}

    # --- misbehaving --------------------------------------------------------------------------

    def misbehave(
        self,
        fault: Fault | str,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
        chance: float = 1.0,
        **options: Any,
    ) -> None:
        """Do `fault` to the next `times` matching requests (None: all), after `after` good ones.

        `path` may hold `*`; `chance` is the share of the matching requests that is hit.
        """
        self._faults.add(misbehaviour(fault, options), path, method, times, after, chance)

    def alter(
        self,
        path: str | None,
        change: Alteration | str,
        times: int | None = 1,
        after: int = 0,
        *,
        method: str | None = None,
        **options: Any,
    ) -> None:
        """Change the JSON of the next `times` matching answers, by a function or a known name."""
        self._altered.add(self._alteration(change, options), path, method, times, after)

    def behave(self) -> None:
        """Forget all faults and alterations that have not happened yet."""
        self._faults.clear()
        self._altered.clear()

    def _alteration(self, change: Alteration | str, options: Mapping[str, Any]) -> Alteration:
        if not isinstance(change, str):
            return change
        if change not in self.alterations:
            raise ValueError(f"no alteration {change!r}; known: {sorted(self.alterations)}")
        return self.alterations[change](**options)

    # --- what happened ------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """The requests so far, oldest first (the last 50,000, or 64 MB of bodies)."""
        with self._log_lock:
            return list(self._log)

    def count(self, path: str | None = None, method: str | None = None) -> int:
        """How many requests came, misbehaved ones included."""
        with self._log_lock:
            return sum(
                number
                for (made, asked), number in self._counts.items()
                if path in (None, asked) and method in (None, made)
            )

    def busiest(self, window: float, path: str | None = None) -> int:
        """The largest number of requests inside any `window` seconds."""
        times = sorted(r.time for r in self.requests if path in (None, r.path))
        return _busiest(times, window)

    def forget(self) -> None:
        """Empty the log and the counts."""
        with self._log_lock:
            self._log.clear()
            self._log_bytes = 0
            self._counts.clear()

    # --- serving ------------------------------------------------------------------------------

    def _now(self) -> float:
        return time.monotonic() - self._started_at

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
            wire.answer(self._control(request))
            return True
        request, handler = self._find(request)
        self._note(request)
        acts = self._faults.take(request, only_first=True)
        if not acts:
            wire.answer(self._handle(handler, request))
            return request.headers.get("connection", "").lower() != "close"
        fault = acts[0].fault
        response = self._handle(handler, request) if fault in HANDLED else Response()
        if fault is Fault.DUPLICATE_REQUEST:
            response = self._handle(handler, request)
        return wire.misbehave(acts[0], request, response)

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

    def _note(self, request: Request) -> None:
        with self._log_lock:
            self._log.append(request)
            self._log_bytes += len(request.body)
            self._counts[(request.method, request.path)] += 1
            while len(self._log) > _KEPT_REQUESTS or self._log_bytes > _KEPT_BYTES:
                self._log_bytes -= len(self._log.popleft().body)


def _not_found(request: Request) -> Response:
    return Response(404, json={"error": "not found", "path": request.path})


def _no_control(request: Request) -> Response:
    return _not_found(request)


def _shut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already closed


def _busiest(times: Iterable[float], window: float) -> int:
    best = 0
    recent: deque[float] = deque()
    for moment in times:
        recent.append(moment)
        while moment - recent[0] >= window:
            recent.popleft()
        best = max(best, len(recent))
    return best
