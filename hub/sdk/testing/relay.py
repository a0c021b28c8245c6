"""A fault proxy: it stands before any server on loopback and breaks the exchanges it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from hub.sdk.testing.control import control
from hub.sdk.testing.errand import BROKEN, Held, Upstream, again
from hub.sdk.testing.faults import HANDLED, Alteration, Fault, Misbehaviour
from hub.sdk.testing.messages import Request, Response, decode_json, request_of, whole
from hub.sdk.testing.misbehaving import Misbehaving
from hub.sdk.testing.transit import MAX_HEAD, Ends, Head, Piece, pieces, read_head, request_framing
from hub.sdk.testing.ways import Drip, End, Send, Step, Wait, script
from hub.sdk.testing.wire import RESET_AT_CLOSE

CONTROL = "/_proxy/"


class FaultProxy(Misbehaving):
    """Use as a context manager, or `start()` and `stop()`; it runs in a thread of its own.

    It takes the same orders as a `FakeServer`, over HTTP under `/_proxy/`. An exchange without an
    order passes as it is and is never held in memory; one that is broken or altered is. A fault of
    `HANDLED` reaches the upstream, any other one does not. Where the upstream cannot be reached or
    breaks off before its answer begins, the answer is 502; where it is silent for `patience`
    seconds, 504. The log holds no bodies.
    """

    def __init__(
        self, upstream: str, port: int = 0, *, seed: int = 0, patience: float = 60.0
    ) -> None:
        super().__init__(port, seed)
        self._upstream = Upstream(upstream, patience)
        self._links: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finish = asyncio.Event()

    def state(self) -> dict[str, object]:
        """Where it leads and how many connections are open."""
        return {"upstream": self._upstream.url, "connections": len(self._links)}

    # --- life ---------------------------------------------------------------------------------

    def _begin(self, listener: socket.socket) -> None:
        self._finish = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name=f"proxy-{self._port}", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close every connection; exchanges under way end at once."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._finish.set)
        self._thread.join(10)
        self._thread = self._loop = None

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            ready.set()
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._accept, sock=listener, limit=MAX_HEAD)
        await self._finish.wait()
        server.close()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed in the loop's next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.get_running_loop().create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._left)

    def _left(self, link: asyncio.Task[None]) -> None:
        self._links.discard(link)
        if not link.cancelled() and (error := link.exception()) is not None:
            self.failures.append(repr(error))

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        try:
            while await self._one(reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except BROKEN:
            _reset(writer)  # a mere end could be taken for that of a complete answer
        finally:
            writer.transport.abort()

    # --- one exchange -------------------------------------------------------------------------

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Bring one request to its end; False when the connection is of no further use."""
        try:
            head = await read_head(reader)
            if head is None:
                return False
            body = pieces(reader, request_framing(head))
            request = request_of(head.first, head.headers, b"", self._now())
            if request is None:
                raise ValueError(f"{head.first[:80]!r} is no request line")
        except ValueError as error:
            return await _excuse(writer, Response(400, json={"error": f"no HTTP: {error}"}))
        if head.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._answer(_Exchange(request, head, body, reader, writer))

    async def _answer(self, exchange: _Exchange) -> bool:
        if exchange.request.path.startswith(CONTROL):
            return await self._obey(exchange)
        self._note(exchange.request)
        acts = self._faults.take(exchange.request, only_first=True)
        if acts:
            return await self._break(acts[0], exchange)
        changes = self._altered.take(exchange.request, only_first=False)
        if changes:
            return await self._change(changes, exchange)
        return await self._pass(exchange)

    async def _obey(self, exchange: _Exchange) -> bool:
        content = b"".join([piece.content async for piece in exchange.body])
        order = replace(exchange.request, body=content)
        return await exchange.send(whole(control(self, order), order.method))

    async def _pass(self, exchange: _Exchange) -> bool:
        """Hand on both ways, piece by piece."""
        async with self._upstream.carried(exchange.request, exchange.head, exchange.body) as answer:
            if isinstance(answer, Response):
                return await _excuse(exchange.writer, answer, exchange.request.method)
            stays = exchange.head.keeps_open and answer.framing.ends is not Ends.CLOSE
            await exchange.send(answer.head_for(stays=stays))
            async for piece in self._upstream.body(answer):
                await exchange.send(piece.wire)
        return stays

    async def _change(self, changes: list[Alteration], exchange: _Exchange) -> bool:
        """Give another JSON than the upstream did."""
        answer = await self._upstream.held(exchange.request, exchange.head, exchange.body)
        if isinstance(answer, Response):
            return await _excuse(exchange.writer, answer, exchange.request.method)
        response = answer.response
        try:
            for change in changes:
                changed = change(decode_json(response.content()), exchange.request)
                response = replace(response, json=changed, body=None)
        except ValueError as error:
            return await self._impossible(exchange, f"the answer cannot be altered: {error}")
        return await exchange.send(whole(response, exchange.request.method))

    async def _break(self, act: Misbehaviour, exchange: _Exchange) -> bool:
        """Answer wrongly, as ordered."""
        sent = [piece async for piece in exchange.body]
        answer: Held | Response = Held(Response(), b"")
        if act.fault in HANDLED:
            answer = await self._upstream.held(exchange.request, exchange.head, again(sent))
        if act.fault is Fault.DUPLICATE_REQUEST:
            answer = await self._upstream.held(exchange.request, exchange.head, again(sent))
        if isinstance(answer, Response):
            return await _excuse(exchange.writer, answer, exchange.request.method)
        try:
            steps = script(act, exchange.request, answer.response)
        except ValueError as error:
            return await self._impossible(exchange, f"no {act.fault.value} of this answer: {error}")
        for step in steps:
            if isinstance(step, End):
                await _end(step, exchange)
                return False
            await _do(step, answer.raw, exchange)
        return exchange.head.keeps_open

    async def _impossible(self, exchange: _Exchange, reason: str) -> bool:
        """The order does not fit the answer: the test's author must hear of it."""
        problem = f"{exchange.request.method} {exchange.request.path}: {reason}"
        self.failures.append(problem)
        return await _excuse(exchange.writer, Response(500, json={"error": problem}))


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A request whose body is still to be read, and the connection it came from."""

    request: Request
    head: Head
    body: AsyncIterator[Piece]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> bool:
        """Send and wait until there is room for more; whether the connection can be used again."""
        self.writer.write(data)
        await self.writer.drain()
        return self.head.keeps_open


async def _do(step: Step, raw: bytes, exchange: _Exchange) -> None:
    """Perform one step that leaves the connection open."""
    if isinstance(step, Wait):
        await asyncio.sleep(step.seconds)
    elif isinstance(step, Drip):
        for piece in step.pieces():
            await asyncio.sleep(step.interval)
            await exchange.send(piece)
    else:
        await exchange.send(step.data if isinstance(step, Send) else raw)


async def _end(end: End, exchange: _Exchange) -> None:
    if end is End.RESET:
        _reset(exchange.writer)
    while end is End.HOLD and await exchange.reader.read(65536):
        pass


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # closed already
        link = writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    writer.transport.abort()


async def _excuse(writer: asyncio.StreamWriter, response: Response, method: str = "GET") -> bool:
    """Answer in the proxy's own name and be done with the connection."""
    writer.write(whole(replace(response, headers={"Connection": "close"}), method))
    await writer.drain()
    return False
