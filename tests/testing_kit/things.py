"""A server behind the proxy that notes what was done to it."""

from __future__ import annotations

from hub.sdk.testing import FakeServer, Request, Response

GET = b"GET /things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BODY = {"code": 0, "name": "上海", "rows": [{"id": 1}, {"id": 2}]}


class Things(FakeServer):
    """Notes what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes] = []
        self.route("GET", "/things", self.add)
        self.route("POST", "/things", self.add)

    def add(self, request: Request) -> Response:
        self.done.append(request.body)
        return Response(json=BODY, headers={"X-Mark": "Ä"})
