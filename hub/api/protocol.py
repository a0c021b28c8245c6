"""HTTP/1.1 as uvicorn speaks it, except for what it says to headers without end."""

from __future__ import annotations

import sys

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from hub.api.problems import PROBLEM, problem_body

_TOO_LARGE = 431


class Http(H11Protocol):
    """Answers 431 instead of 400 where the headers of a request do not end in time."""

    def send_400_response(self, msg: str) -> None:
        """Called where what came is no request; we see why in the exception that is handled."""
        error = sys.exc_info()[1]
        if getattr(error, "error_status_hint", None) != _TOO_LARGE:
            super().send_400_response(msg)
            return
        limit = self.conn._max_incomplete_event_size
        body = problem_body(_TOO_LARGE, "api.headers", {"limit": limit}, path="", language="en")
        headers = [
            (b"content-type", PROBLEM.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        answer = h11.Response(
            status_code=_TOO_LARGE, headers=headers, reason=STATUS_PHRASES[_TOO_LARGE]
        )
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
